"""Every picture the course draws twice: networks, problems, heat maps, forecasts, learning curves.

Call :func:`use_style` once at the top of a notebook. Each function draws on an axes of yours
(``ax=``) or makes a figure, and returns the axes, so anything matplotlib can do comes after.

The first five colours stand apart for readers without colour vision, and after the inversion by
which the built pages show figures in dark mode; line styles and markers say the same again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from torch import nn

from companion._checks import at_least, one_of

__all__ = [
    "COLOURS",
    "Edge",
    "NetworkGraph",
    "Node",
    "forecast_fan",
    "gradient_by_lag",
    "heat_map",
    "learning_curves",
    "lines_with_spread",
    "network",
    "network_graph",
    "problem_shape",
    "save",
    "styles",
    "use_style",
]

# Okabe and Ito's blue, vermillion, bluish green, reddish purple and black, moved as little as
# possible until any two differ in lightness too, before and after the inversion of dark mode.
COLOURS = ("#00558f", "#b34f00", "#24915a", "#cd77a6", "#03090e", "#8a7000", "#5f6f7a")
_LINES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (8, 2)), "-", (0, (3, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#6b6b6b"
_FAINT = "#d9d9d9"

# The two ends are Okabe and Ito's blue and vermillion, darkened alike; white is zero.
_DIVERGING = LinearSegmentedColormap.from_list(
    "blue_white_orange", ["#003a66", "#2f84bd", "#ffffff", "#d97b29", "#6e3000"], N=255
)


# ------------------------------------------------------------------------------------ input


def _expect(ok, name, expectation, value, error=ValueError):
    if not ok:
        raise error(f"{name} must be {expectation}, got {value}")


def _array(value, name, ndim=None, *, nan=False):
    """A float64 copy of numbers, also of a tensor that has a gradient or lives on a GPU.

    What a mask hides becomes NaN.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value if value.is_complex() else value.double()).numpy()
    try:
        array = np.asanyarray(value)
        if array.dtype.kind not in "biufO":  # dates and complex numbers would turn into others
            raise TypeError
        array = np.ma.filled(array.astype(float), np.nan)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of numbers, got {value!r:.80}") from None
    if ndim is not None:
        _expect(array.ndim == ndim, name, f"{ndim}-dimensional", f"shape {array.shape}")
    _expect(array.size > 0, name, "not empty", f"shape {array.shape}")
    bad = np.isinf(array) if nan else ~np.isfinite(array)
    first = tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else ()
    if bad.any():
        raise ValueError(f"{name} must be finite, got {array[first]} at index {first}")
    return array


def _axes(ax, **size):
    if ax is None:
        return plt.subplots(**size)[1]
    _expect(isinstance(ax, Axes), "ax", "a matplotlib Axes or None", repr(ax), TypeError)
    return ax


def _with_unit(quantity, unit):
    return f"{quantity} ({unit})" if unit and quantity else quantity or unit


# ------------------------------------------------------------------------------------ style


def use_style():
    """Set matplotlib's defaults for the course: sizes, grid, colours and line styles.

    The background is opaque white, since the built pages invert a figure in dark mode and
    JupyterLab shows it as it is. Figures are 7.2 inches wide at 144 dots per inch.

    References
    ----------
    Okabe and Ito (2008), Color Universal Design, the palette from which the colours start.

    Examples
    --------
    >>> use_style()
    >>> plt.rcParams["axes.prop_cycle"].by_key()["color"][0]
    '#00558f'
    """
    mpl.rcParams.update(
        {
            "figure.facecolor": "white",
            "figure.figsize": (7.2, 4.0),
            "figure.dpi": 144,
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "savefig.dpi": 144,
            "savefig.transparent": False,
            "svg.hashsalt": "companion",  # else each run invents other identifiers
            "axes.facecolor": "white",
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=_LINES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlelocation": "left",
            "axes.titlesize": 12,
            "axes.labelsize": 11,
            "grid.color": _FAINT,
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "mathtext.fontset": "dejavusans",
            "font.size": 11,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "image.cmap": "cividis",
        }
    )


def styles(count):
    """Give `count` line styles that differ in colour, in dashes and in marker.

    Parameters
    ----------
    count : int
        How many, from 1 to 7.

    Returns
    -------
    list of dict
        Keyword arguments for ``Axes.plot``: ``color``, ``linestyle``, ``marker``.

    Raises
    ------
    ValueError, TypeError
        If `count` is not a whole number from 1 to 7.

    Examples
    --------
    >>> [style["marker"] for style in styles(3)]
    ['o', 's', '^']
    """
    count = at_least("count", count, 1)
    _expect(count <= len(COLOURS), "count", f"at most {len(COLOURS)}", count)
    rows = zip(COLOURS[:count], _LINES, _MARKERS, strict=False)
    return [{"color": c, "linestyle": line, "marker": m} for c, line, m in rows]


def save(figure, path):
    """Write a figure to a file whose bytes depend on the figure alone: no date, no version.

    Parameters
    ----------
    figure : Figure
        What to write.
    path : str or path-like
        Where; the ending (``.png``, ``.svg``, ``.pdf``) chooses the format.

    Raises
    ------
    TypeError
        If `figure` is no Figure; that of an axes is ``ax.figure``.
    ValueError
        If the ending is another one.

    Examples
    --------
    >>> import io, tempfile, os
    >>> name = os.path.join(tempfile.mkdtemp(), "empty.svg")
    >>> save(plt.figure(), name)
    """
    _expect(isinstance(figure, Figure), "figure", "a matplotlib Figure", repr(figure), TypeError)
    nameless = {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    ending = PurePath(path).suffix.lower()
    _expect(ending in nameless, "path", f"a name ending in {', '.join(nameless)}", repr(str(path)))
    with mpl.rc_context({"svg.hashsalt": "companion"}):
        figure.savefig(path, metadata=nameless[ending], facecolor="white")


def _luminance(colour):
    """Relative luminance of WCAG 2: 0 for black, 1 for white."""
    c = np.array(to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _ink(colour):
    """The colour darkened until text in it has a contrast of 4.5 on white."""
    c = np.array(to_rgb(colour))
    while 1.05 / (_luminance(c) + 0.05) < 4.5:
        c = 0.95 * c
    return to_hex(c)


def _apart(wanted, gap, low, high):
    """Positions at least `gap` apart, as near to the wanted ones as least squares allow.

    With the gaps subtracted this is isotonic regression: pool neighbours in the wrong order.
    """
    wanted = np.asarray(list(wanted), dtype=float)
    order = np.argsort(wanted, kind="stable")
    offsets = gap * np.arange(len(wanted))
    blocks = []  # [sum, count] of neighbours that share one value
    for value in wanted[order] - offsets:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    pooled = np.concatenate([np.full(int(n), s / n) for s, n in blocks])
    # Clipping keeps the order; a crowd too tall for the axes sticks out at the top.
    pooled = np.maximum(np.minimum(pooled, high - offsets[-1]), low)
    placed = np.empty_like(wanted)
    placed[order] = pooled + offsets
    return placed


def _label_ends(ax, ends, size=9.5):
    """Write each (x, y, text, colour) beside its line's end, right of the axes, all apart."""
    ax.get_xlim(), ax.get_ylim()  # asking for the limits brings the transform up to date
    box = ax.get_window_extent()
    pixels = ax.transData.transform([(x, y) for x, y, _, _ in ends])
    gap = 1.45 * size * ax.figure.dpi / 72
    heights = _apart(pixels[:, 1], gap, box.y0 + gap / 2, box.y1 - gap / 2)
    for (x, y, text, colour), (across, level), height in zip(ends, pixels, heights, strict=True):
        apart = box.x1 - across > 4 or abs(height - level) > gap / 3
        leader = {"arrowstyle": "-", "color": _ink(colour), "lw": 0.6, "shrinkA": 1, "shrinkB": 3}
        label = ax.annotate(
            text,
            xy=(x, y),
            xytext=(1.015, (height - box.y0) / box.height),
            textcoords="axes fraction",
            color=_ink(colour),
            fontsize=size,
            va="center",
            ha="left",
            annotation_clip=False,
            arrowprops=leader if apart else None,
        )
        label.set_gid(f"label:{text}")


# ---------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Node:
    """One box of a network's diagram.

    Attributes
    ----------
    name : str
        Unique within the graph; edges refer to it.
    kind : str
        ``"input"``, ``"start"`` (a state before the first step), ``"cell"``, ``"module"``,
        ``"join"`` (two directions side by side), ``"output"`` or ``"answer"`` (an output in a
        box).
    label : str
        What stands in the box, with mathtext.
    detail : str
        A second, smaller line: a size or an activation.
    layer : int or None
        Number of the recurrent layer, from 1; None elsewhere.
    time : int or None
        Step, from 1; 0 or T + 1 for a start; None in the folded graph.
    shape : tuple or None
        Shape of what the node hands on for one sequence: ``(D,)``, ``(H,)``; None if unknown.
    row : int
        Height in the diagram, 0 at the inputs.
    lane : float
        Centre relative to its column, in boxes.
    width : float
        Breadth, in boxes.
    """

    name: str
    kind: str
    label: str
    detail: str
    layer: object
    time: object
    shape: object
    row: int
    lane: float
    width: float


@dataclass(frozen=True)
class Edge:
    """One arrow of a network's diagram.

    Attributes
    ----------
    source : str
        Name of the node where it begins.
    target : str
        Name of the node where it ends.
    kind : str
        ``"input"``, ``"recurrent"``, ``"up"``, ``"output"`` or ``"feedback"``.
    label : str
        The weight the target multiplies by, in the book's letters; empty without one.
    parameter : str
        The weight's name in ``layer.named_parameters()``; empty without one.
    shape : tuple or None
        Shape of the weight as the book writes it, e.g. (D, H) for :math:`W_{xh}`.
    role : str
        ``"xh"``, ``"hh"``, ``"hy"``, ``"embed"``, ``"decoder"`` or empty; arrows of one role share
        a colour.
    delay : int
        For recurrent edges the step from target back to source: 1 ahead, -1 reversed; else 0.
    """

    source: str
    target: str
    kind: str
    label: str = ""
    parameter: str = ""
    shape: object = None
    role: str = ""
    delay: int = 0


@dataclass(frozen=True)
class NetworkGraph:
    """A network as nodes and edges, unrolled over steps or folded.

    Attributes
    ----------
    nodes : tuple of Node
        The boxes.
    edges : tuple of Edge
        The arrows.
    steps : int or None
        Number of steps; None for the folded graph.
    """

    nodes: tuple
    edges: tuple
    steps: object

    def node(self, name):
        """Return the node called `name`."""
        return next(node for node in self.nodes if node.name == name)


@dataclass(frozen=True)
class _Cell:
    """A cell with the direction it runs in; `lanes` is its breadth in the diagram."""

    cell: object
    reverse: bool
    arrows: bool = False  # mark the direction over its letters
    lanes: int = 1


@dataclass(frozen=True)
class _Both:
    ahead: list
    back: list

    @property
    def lanes(self):
        return sum(max(part.lanes for part in parts) for parts in (self.ahead, self.back))


@dataclass(frozen=True)
class _Module:
    module: object
    lanes: int = 1


def _parts(layer, reverse=False, arrows=False):
    """Take a network apart, from the input up, by the modules that it holds."""
    expectation = "a torch module or a layer of companion"
    _expect(isinstance(layer, nn.Module), "layer", expectation, repr(layer)[:80], TypeError)
    if hasattr(layer, "weight_hh_l0"):
        what = type(layer).__name__
        raise TypeError(
            "layer must be built of companion's layers, whose steps can be drawn, got torch.nn."
            f"{what}; companion.recurrent.{what}.from_torch(layer) has the same weights"
        )
    # Not named_children(), which leaves out the second use of a layer.
    inside = layer.named_modules(remove_duplicate=False)
    children = {name: module for name, module in inside if name and "." not in name}
    if set(children) == {"ahead", "back"}:
        return [_Both(*(_parts(children[way], way == "back", True) for way in ("ahead", "back")))]
    turned = getattr(layer, "reverse", None)
    if set(children) == {"cell"} and isinstance(turned, bool):
        return [_Cell(layer.cell, turned, arrows or turned)]
    inner = [_parts(child, reverse, arrows) for child in children.values()]
    recurrent = any(not isinstance(part, _Module) for parts in inner for part in parts)
    holder = isinstance(layer, (nn.Sequential, nn.ModuleList)) or set(children) == {"layers"}
    if recurrent or holder:
        return [part for parts in inner for part in parts]
    if callable(getattr(layer, "initial_state", None)):
        return [_Cell(layer, reverse, arrows)]
    return [_Module(layer)]


def _all_cells(parts):
    for part in parts:
        if isinstance(part, _Cell):
            yield part
        elif isinstance(part, _Both):
            yield from _all_cells(part.ahead)
            yield from _all_cells(part.back)


def _depth(parts):
    """Number of recurrent layers one above the other."""
    return sum(
        max(_depth(p.ahead), _depth(p.back)) if isinstance(p, _Both) else isinstance(p, _Cell)
        for p in parts
    )


def _module_name(module):
    probability = getattr(module, "p", None)
    name = type(module).__name__
    return f"{name} {probability:g}" if isinstance(probability, float) else name


class _Builder:
    """Writes down nodes and edges part by part, from the bottom row up."""

    def __init__(self, layer, parts, steps, relative):
        self.steps, self.relative = steps, relative
        self.times = [None] if steps is None else list(range(1, steps + 1))
        self.nodes, self.edges, self.letters = [], [], {}
        self.several = _depth(parts) > 1
        named = getattr(layer, "named_parameters", None)
        self.names = {id(weight): name for name, weight in named()} if named else {}
        self.columns = max(part.lanes for part in parts)
        size = self.first_size(parts)
        self.add("input", "x", size and f"D = {size[0]}", size, 0, 0.0, self.columns)
        below = {time: f"x[{time}]" for time in self.times}
        row, below, shape, outs = self.stack(parts, 0.0, self.columns, 1, below, size, 1)
        predicts = any(isinstance(part, _Module) for part in parts[-1:])
        for time in self.times:
            label = "$" + self.subscript(r"\hat y", time) + "$" if predicts else outs[time]
            detail = f"K = {shape[0]}" if predicts and shape else ""
            self.put("output", "y", label, detail, None, time, shape, row, 0.0, self.columns)
            self.edges.append(Edge(below[time], f"y[{time}]", "output"))

    def first_size(self, parts):
        for part in parts:
            while isinstance(part, _Both):
                part = part.ahead[0]
            if isinstance(part, _Cell):
                return self.sizes(part.cell)[0]
            if hasattr(part.module, "num_embeddings"):
                return ()
            if hasattr(part.module, "in_features"):
                return (part.module.in_features,)
        return None

    @staticmethod
    def sizes(cell):
        weight = getattr(cell, "weight_ih", None)
        inputs = getattr(cell, "input_size", None if weight is None else weight.shape[1])
        given = getattr(cell, "output_size", getattr(cell, "hidden_size", None))
        return (None if inputs is None else (inputs,)), (None if given is None else (given,))

    def subscript(self, letter, time):
        """h_3, or h_{t-1} where steps count from t."""
        if time is None:
            return f"{letter}_t"
        away = time - 1 - (self.steps - 1) // 2
        step = str(time) if not self.relative else f"t{away:+d}" if away else "t"
        return f"{letter}_{{{step}}}"

    def put(self, kind, stem, label, detail, layer, time, shape, row, lane, width):
        name = f"{stem}[{time}]"
        self.nodes.append(
            Node(name, kind, label, detail or "", layer, time, shape, row, lane, width)
        )
        return name

    def add(self, kind, stem, detail, shape, row, lane, width):
        for time in self.times:
            label = f"${self.subscript(stem, time)}$"
            self.put(kind, stem, label, detail, None, time, shape, row, lane, width)

    def module_letter(self, module, letter):
        """The letter of a plain module's weight; a second such weight gets a number."""
        if id(module) not in self.letters:
            number = 1 + sum(known.startswith(letter) for known in self.letters.values())
            self.letters[id(module)] = letter if number == 1 else f"{letter}^{{[{number}]}}"
        return self.letters[id(module)]

    def weight(self, owner, attribute, letter, role, transposed=True):
        """Keywords of an edge that multiplies by a weight; the book's matrix is its transpose."""
        parameter = getattr(owner, attribute, None)
        if parameter is None:
            return {}
        shape = tuple(parameter.shape)
        if transposed:
            shape = shape[::-1]
        name = self.names.get(id(parameter), attribute)
        return {"label": f"${letter}$", "parameter": name, "shape": shape, "role": role}

    def stack(self, parts, lane, width, row, below, shape, layer):
        outs = {time: "" for time in self.times}
        for part in parts:
            if isinstance(part, _Cell):
                row, below, shape, outs = self.cell(part, lane, width, row, below, layer)
                layer += 1
            elif isinstance(part, _Both):
                row, below, shape, outs = self.both(part, lane, width, row, below, shape, layer)
                layer += max(_depth(part.ahead), _depth(part.back))
            else:
                row, below, shape = self.module(part.module, lane, width, row, below, shape)
        return row, below, shape, outs

    def connect(self, source, target, **weight):
        kind = "input" if source.startswith("x[") else "up"
        self.edges.append(Edge(source, target, kind, **weight))

    def cell(self, part, lane, width, row, below, layer):
        cell = part.cell
        above = f"({layer})" if self.several else ""
        if part.arrows:
            above += r"\leftarrow" if part.reverse else r"\rightarrow"
        above = above and f"^{{{above}}}"
        # A cell that appears twice has one set of weights, so it keeps its letters.
        mark = self.letters.setdefault(id(cell), above)
        inputs = self.weight(cell, "weight_ih", f"W_{{xh}}{mark}", "xh")
        jordan = hasattr(cell, "weight_yh")  # its output goes back in place of its hidden units
        letter, back = (r"\hat y", "yh") if jordan else ("h", "hh")
        hidden = self.weight(cell, f"weight_{back}", f"W_{{{back}}}{mark}", "hh")
        size = self.sizes(cell)[1]
        stem = f"h{layer}{'<' if part.reverse else ''}@{row}"
        detail = f"H = {size[0]}" if size else type(cell).__name__
        if jordan:
            detail = f"K = {size[0]}"
        delay = -1 if part.reverse else 1
        here, outs = {}, {}
        for time in self.times:
            label = f"${self.subscript(letter, time)}{above}$"
            here[time] = self.put(
                "cell", stem, label, detail, layer, time, size, row, lane, width
            )
            outs[time] = label
            self.connect(below[time], here[time], **inputs)
        if self.steps is None:
            self.edges.append(Edge(here[None], here[None], "recurrent", **hidden, delay=delay))
            return row + 1, here, size, outs
        start = self.steps + 1 if part.reverse else 0
        label = f"${self.subscript(letter, start)}{above}$"
        here[start] = self.put("start", stem, label, "", layer, start, size, row, lane, width)
        for time in self.times:
            edge = Edge(here[time - delay], here[time], "recurrent", **hidden, delay=delay)
            self.edges.append(edge)
        return row + 1, here, size, outs

    def both(self, part, lane, width, row, below, shape, layer):
        counts = [max(p.lanes for p in parts) for parts in (part.ahead, part.back)]
        first, second = (width * count / sum(counts) for count in counts)
        centres = lane - width / 2 + first / 2, lane + width / 2 - second / 2
        row, ahead, size, one = self.stack(
            part.ahead, centres[0], first, row, below, shape, layer
        )
        row, back, other, two = self.stack(
            part.back, centres[1], second, row, below, shape, layer
        )
        known = size is not None and other is not None
        shape = (size[0] + other[0],) if known else None
        joined, outs = {}, {}
        for time in self.times:
            joined[time] = self.put(
                "join", f"join@{row}", "side by side", "", None, time, shape, row, lane, width
            )
            outs[time] = f"[{one[time]}, {two[time]}]"
            self.connect(ahead[time], joined[time])
            self.connect(back[time], joined[time])
        return row + 1, joined, shape, outs

    def module(self, module, lane, width, row, below, shape):
        weight, detail = {}, ""
        if hasattr(module, "num_embeddings"):
            letter = self.module_letter(module, "E")
            weight = self.weight(module, "weight", letter, "embed", transposed=False)
            shape, detail = (module.embedding_dim,), f"D = {module.embedding_dim}"
        elif hasattr(module, "out_features"):
            after = any(node.kind == "cell" for node in self.nodes)
            letter, role = ("W_{hy}", "hy") if after else ("W_{x}", "embed")
            weight = self.weight(module, "weight", self.module_letter(module, letter), role)
            shape = (module.out_features,)
        elif any(True for _ in module.parameters()):
            shape = None
        here = {}
        for time in self.times:
            here[time] = self.put(
                "module", f"module@{row}", _module_name(module), detail, None, time, shape,
                row, lane, width,
            )
            self.connect(below[time], here[time], **weight)
        return row + 1, here, shape


def network_graph(layer, steps=3, *, relative=False):
    """Take a network apart into the boxes and arrows of its diagram.

    Reads the layers themselves: ``Unroll``, ``Bidirectional``, ``Stack``, ``RNN``, single cells,
    plain modules, and modules of your own that hold these, in the order they were assigned.

    Parameters
    ----------
    layer : Module
        The network.
    steps : int or None
        Number of steps T to unroll; None for the folded graph, one node a layer.
    relative : bool
        Count the steps from t (t-1, t, t+1) instead of 1 to T.

    Returns
    -------
    NetworkGraph
        Nodes and edges. The copies of one weight's arrows carry the same label and parameter.

    Raises
    ------
    TypeError
        If `layer` is no module, is one of torch.nn's recurrent layers, or `steps` no whole number.
    ValueError
        If `steps` is below 1 or the network has nothing to draw.

    Examples
    --------
    >>> from companion.recurrent import RNNCell
    >>> graph = network_graph(RNNCell(3, 8), steps=4)
    >>> [edge.parameter for edge in graph.edges if edge.kind == "recurrent"]
    ['weight_hh', 'weight_hh', 'weight_hh', 'weight_hh']
    """
    if steps is not None:
        steps = at_least("steps", steps, 1)
    parts = _parts(layer)
    _expect(bool(parts), "layer", "at least one layer", repr(layer)[:80])
    built = _Builder(layer, parts, steps, relative)
    return NetworkGraph(tuple(built.nodes), tuple(built.edges), steps)


_ROLE_COLOURS = {
    "xh": COLOURS[0],
    "hh": COLOURS[1],
    "hy": COLOURS[2],
    "embed": COLOURS[3],
    "decoder": COLOURS[3],
    "": _GREY,
}
_FILLS = {"input": "#f2f2f2", "cell": "#e3eef7", "module": "#e8f4ed", "join": "#ffffff"}
_FILLS |= {"answer": _FILLS["module"]}
_ROW, _TALL, _GAP = 1.7, 0.84, 1.2  # row pitch, box height, space between columns, in boxes


class _Drawing:
    """Where everything of a graph goes, in units of one box; then the artists."""

    small = 0.19  # height of a box's second line

    def __init__(self, graph):
        self.graph = graph
        self.folded = graph.steps is None
        lanes = max(node.width for node in graph.nodes)
        longest = max((len(n.label) for n in graph.nodes if n.kind == "module"), default=0)
        self.scale = max(1.0, (0.125 * longest + 0.3) / lanes)  # breadth of one lane
        self.column = lanes * self.scale
        self.pitch = self.column + _GAP
        self.at = {node.name: self.centre(node) for node in graph.nodes}
        self.nodes = {node.name: node for node in graph.nodes}
        rows = max(node.row for node in graph.nodes)
        backs = any(n.kind == "start" and n.time > 0 for n in graph.nodes)
        starts = any(n.kind == "start" and n.time == 0 for n in graph.nodes)
        if self.folded:
            sides = [self.side(node) for node in graph.nodes if node.kind == "cell"]
            left = self.column / 2 + (2.35 if -1 in sides else 1.6)
            right = self.column / 2 + (2.35 if 1 in sides else 1.6 if lanes > 1 else 0.2)
        else:
            left = self.column / 2 + (_GAP + 0.95 if starts else 1.05)
            right = (graph.steps - 1) * self.pitch + self.column / 2
            right += _GAP + 0.95 if backs else 1.05 if lanes > 1 else 0.2
        self.x = (-left, right)
        self.y = (-0.55, rows * _ROW + 0.1)

    def centre(self, node):
        column = 0 if node.time is None else node.time - 1
        x, y = column * self.pitch + node.lane * self.scale, node.row * _ROW
        if node.kind == "output":
            y -= 0.3
        if node.kind == "start":  # beside the first column, as far off as a step would be
            middle, edge = column * self.pitch, self.column / 2 - 0.42
            x = middle + edge if node.time == 0 else middle - edge
        return x, y

    def side(self, node):
        return -1 if node.lane < 0 else 1

    def half(self, node):
        if node.kind == "start":
            return 0.42
        return node.width * self.scale / 2 - 0.07

    def route(self, edge):
        """The arrow's corners, and its label's place and alignment."""
        a, b = self.nodes[edge.source], self.nodes[edge.target]
        (xa, ya), (xb, yb) = self.at[a.name], self.at[b.name]
        if edge.kind == "recurrent" and self.folded:
            out = self.side(a)
            near, far = xa + out * self.half(a), xa + out * (self.half(a) + 0.6)
            high, low = ya + 0.2, ya - 0.2
            points = [(near, high), (far, high), (far, low), (near, low)]
            return points, (far + out * 0.25, ya), "left" if out > 0 else "right", "center"
        if edge.kind == "recurrent":
            way = edge.delay
            points = [(xa + way * self.half(a), ya), (xb - way * self.half(b), yb)]
            middle = (self.at_column(a) + self.at_column(b)) / 2
            return points, (middle, ya + 0.1), "center", "bottom"
        x = xb if abs(xb - xa) <= self.half(a) else xa
        top = yb - (0.3 if b.kind == "output" else _TALL / 2)
        points = [(x, ya + _TALL / 2), (x, top)]
        out = 1 if b.lane > 0 else -1
        place = (x + out * 0.12, yb - _ROW / 2)
        return points, place, "left" if out > 0 else "right", "center"

    def at_column(self, node):
        return (0 if node.time is None else node.time - 1) * self.pitch

    def draw(self, ax, title):
        ax.set(xlim=self.x, ylim=self.y, aspect="equal")
        ax.set_title(title, loc="left")
        ax.axis("off")
        box = ax.get_position()
        inches = np.array(ax.figure.get_size_inches()) * [box.width, box.height]
        unit = min(inches[0] / (self.x[1] - self.x[0]), inches[1] / (self.y[1] - self.y[0]))
        size = 72 * unit  # points a box is wide
        for node in self.graph.nodes:
            self.draw_node(ax, node, size)
        for edge in self.graph.edges:
            self.draw_edge(ax, edge, size)
        return ax

    def draw_node(self, ax, node, size):
        x, y = self.at[node.name]
        half = self.half(node)
        words = node.label
        if node.kind != "output":
            tall = 0.52 if node.kind == "start" else _TALL
            patch = FancyBboxPatch(
                (x - half, y - tall / 2),
                2 * half,
                tall,
                boxstyle="round,pad=0,rounding_size=0.16",
                facecolor=_FILLS.get(node.kind, "white"),
                edgecolor=_GREY if node.kind in ("start", "join") else COLOURS[4],
                linestyle="--" if node.kind == "start" else "-",
                linewidth=1.0,
                gid=f"node:{node.name}",
            )
            ax.add_patch(patch)
        big = {"module": 0.21, "join": 0.21, "start": 0.24}.get(node.kind, 0.3) * size
        if len(words) > 20 or node.kind == "start" and "^" in words:
            big = 0.21 * size  # a number and an arrow above the letter need room
        elif node.kind == "cell" and "^" in words:
            big = 0.26 * size
        lift = 0.12 if node.detail and node.kind != "output" else 0.0
        text = {"ha": "center", "va": "center", "color": COLOURS[4], "gid": f"text:{node.name}"}
        ax.text(x, y + lift, words, fontsize=min(big, 13), **text)
        if node.detail and node.kind != "output":
            text |= {"color": "#4a4a4a", "gid": f"detail:{node.name}"}
            ax.text(x, y - 0.25, node.detail, fontsize=min(self.small * size, 9), **text)

    def draw_edge(self, ax, edge, size):
        points, place, ha, va = self.route(edge)
        colour = _ROLE_COLOURS[edge.role]
        name = f"{edge.source}->{edge.target}"
        arrow = FancyArrowPatch(
            path=Path(points),
            arrowstyle="-|>",
            mutation_scale=min(0.26 * size, 12),
            color=colour,
            linewidth=1.6 if edge.role else 1.1,
            linestyle="--" if edge.kind == "feedback" else "-",
            shrinkA=0,
            shrinkB=0,
            joinstyle="miter",
            gid=f"edge:{name}",
        )
        ax.add_patch(arrow)
        if self.folded and edge.kind == "recurrent":
            self.draw_delay(ax, edge, points, place, ha, size)
            return
        if edge.label:
            label = edge.label
            if self.folded and edge.shape:
                label += "\n" + "×".join(map(str, edge.shape))
            ax.text(
                *place, label, ha=ha, va=va, color=_ink(colour), linespacing=1.5,
                fontsize=min((0.22 if self.folded else 0.24) * size, 10), gid=f"label:{name}",
            )

    def draw_delay(self, ax, edge, points, place, ha, size):
        """A black square on the loop: what goes in comes out one step later."""
        x, y = points[1][0], place[1]
        ax.add_patch(
            Rectangle(
                (x - 0.12, y - 0.12), 0.24, 0.24, color=COLOURS[4], zorder=4,
                gid=f"delay:{edge.source}",
            )
        )
        node = self.nodes[edge.source]
        label = edge.label
        if edge.shape:
            label += "\n" + "×".join(map(str, edge.shape))
        name = f"{edge.source}->{edge.target}"
        text = {"ha": ha, "color": _ink(_ROLE_COLOURS[edge.role]), "linespacing": 1.5}
        ax.text(
            *place, label, va="center", fontsize=min(0.22 * size, 10), gid=f"label:{name}", **text
        )
        step = "one step later" if edge.delay > 0 else "one step earlier"
        ax.text(
            points[0][0] + 0.08 * self.side(node), y + 0.56, step, ha=ha, va="center",
            color="#4a4a4a", fontsize=min(0.18 * size, 8.5), gid=f"delay text:{edge.source}",
        )


def network(layer, steps=3, ax=None, *, view="both", relative=False, title=None):
    """Draw a network, folded and unrolled, from its layers themselves.

    An arrow carries the weight its target multiplies by. The copies of an arrow along time have
    one colour and one label, because they are one weight. A black square on a loop is a delay of
    one step. The names are the book's; sizes are read from the weights.

    Parameters
    ----------
    layer : Module
        ``Unroll``, ``Bidirectional``, ``Stack``, ``RNN``, a single cell, or a module of your own
        that holds these in the order in which data passes them.
    steps : int
        Number of steps T in the unrolled diagram.
    ax : Axes or pair of Axes, optional
        Where to draw; a pair (folded, unrolled) for ``view="both"``. A new figure by default.
    view : {"both", "folded", "unrolled"}
        Which diagram.
    relative : bool
        Count the steps from t (t-1, t, t+1) instead of 1 to T.
    title : str or pair of str, optional
        Titles in place of the plain "folded" and "unrolled over T steps".

    Returns
    -------
    Axes or array of two Axes
        The axes drawn on.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; see :func:`network_graph`.

    Examples
    --------
    >>> from companion.recurrent import RNNCell
    >>> folded, unrolled = network(RNNCell(3, 8), steps=3)
    >>> unrolled.get_title(loc="left")
    'unrolled over 3 steps'
    """
    one_of("view", view, ("both", "folded", "unrolled"))
    views = ("folded", "unrolled") if view == "both" else (view,)
    counts = {"folded": None, "unrolled": at_least("steps", steps, 1)}
    drawings = [
        _Drawing(network_graph(layer, counts[each], relative=relative)) for each in views
    ]
    plain = {"folded": "folded", "unrolled": f"unrolled over {steps} step{'s' * (steps != 1)}"}
    titles = [plain[each] for each in views]
    if title is not None:
        titles = [title] if isinstance(title, str) else list(title)
        _expect(len(titles) == len(views), "title", f"{len(views)} of them", repr(title))
    if ax is None:
        axes = _diagram_axes(drawings)
    else:
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        _expect(len(axes) == len(views), "ax", f"{len(views)} Axes for view={view!r}", len(axes))
        for each in axes:
            _axes(each)
    for drawing, each, words in zip(drawings, axes, titles, strict=True):
        drawing.draw(each, words)
    return axes if view == "both" else axes[0]


def _diagram_axes(drawings):
    """A figure 7.2 inches wide, wider where a box would get too small to read.

    The two diagrams stand side by side, unless that is too wide and there is room below.
    """
    widths = [d.x[1] - d.x[0] for d in drawings]
    heights = [d.y[1] - d.y[0] for d in drawings]
    least, most, head = 0.4, 0.52, 0.35  # inches of a box; inches for a title
    beside = sum(widths) * least <= 8.2 or sum(heights) * least > 7.2
    across = sum(widths) if beside else max(widths)
    unit = min(max(7.0 / across, least), most)
    wide = max(unit * across + 0.2, 7.2)
    tall = unit * max(heights) + head if beside else unit * sum(heights) + head * len(heights)
    figure = plt.figure(figsize=(wide, tall), layout="none")
    left, top, axes = (wide - unit * across) / 2 if beside else 0.1, tall, []
    for width, height in zip(widths, heights, strict=True):
        bottom = (tall if beside else top) - head - unit * height
        box = (left / wide, bottom / tall, unit * width / wide, unit * height / tall)
        axes.append(figure.add_axes(box))
        left, top = (left + unit * width, top) if beside else (left, bottom)
    return np.array(axes, dtype=object)


# --------------------------------------------------------------------------- shapes of problems


def _step_labels(labels, name):
    known = np.iterable(labels) and not hasattr(labels, "strip")
    _expect(known, name, "a sequence of one label a step", repr(labels), TypeError)
    labels = list(labels)
    for label in labels:
        text = label is None or hasattr(label, "strip")
        _expect(text, name, "labels that are strings or None", repr(label), TypeError)
    _expect(any(labels), name, "labels of which one at least is no None", labels)
    return labels


def _shape_graph(inputs, outputs, feedback, decoder):
    """Boxes and arrows: column t has x[t] below h[t] below y[t], where there are such."""
    labels = [label for label in (*inputs, *outputs) if label] + ["decoder" if decoder else ""]
    # Letters in a box are 0.3 boxes high.
    width = max(1.0, 0.42 + max(0.3 * _breadth(label) for label in labels))
    nodes, edges = [], []
    for t, (x, y) in enumerate(zip(inputs, outputs, strict=True), 1):
        late = decoder is not None and t >= decoder
        part = "" if decoder is None else "decoder" if late else "encoder"
        state = f"$h_{{{t}}}$"
        column = [("x", "input", x, ""), ("h", "cell", state, part), ("y", "answer", y, "")]
        nodes += [
            Node(f"{letter}[{t}]", kind, label, detail, None, t, None, row, 0.0, width)
            for row, (letter, kind, label, detail) in enumerate(column)
            if label
        ]
        if t > 1:
            role = "decoder" if late else "hh"
            edges.append(Edge(f"h[{t - 1}]", f"h[{t}]", "recurrent", role=role, delay=1))
        if x:
            edges.append(Edge(f"x[{t}]", f"h[{t}]", "input", role="decoder" if late else "xh"))
        elif feedback and t > 1 and outputs[t - 2]:
            edges.append(Edge(f"y[{t - 1}]", f"h[{t}]", "feedback"))
        if y:
            edges.append(Edge(f"h[{t}]", f"y[{t}]", "output", role="hy"))
    return NetworkGraph(tuple(nodes), tuple(edges), len(inputs))


def _breadth(label):
    """How wide a text is in heights of its letters, formulas included."""
    return TextPath((0, 0), label, size=1).get_extents().width if label else 0.0


class _ShapeDrawing(_Drawing):
    """A problem's shape: rows with names, and outputs that come back as inputs."""

    small = 0.25
    names = ("inputs", "hidden states", "outputs")

    def __init__(self, graph):
        super().__init__(graph)
        half = self.column / 2
        self.x = (-half - 2.4, (graph.steps - 1) * self.pitch + half + 0.2)
        self.y = (-0.55, 2 * _ROW + 0.55)

    def route(self, edge):
        if edge.kind != "feedback":
            return super().route(edge)
        a, b = self.nodes[edge.source], self.nodes[edge.target]
        (xa, ya), (xb, yb) = self.at[a.name], self.at[b.name]
        points = [(xa + self.half(a), ya), (xb - 0.6 * self.half(b), yb + _TALL / 2)]
        return points, points[0], "left", "center"

    def draw(self, ax, title):
        super().draw(ax, title)
        for row, name in enumerate(self.names):
            ax.text(
                self.x[0], row * _ROW, name, ha="left", va="center", color="#4a4a4a", fontsize=9,
                gid=f"row:{name}",
            )
        return ax


def problem_shape(inputs, outputs, ax=None, *, feedback=False, decoder=None, title=None):
    """Draw the shape of a sequence problem: what comes in at which step, and what goes out.

    Every step has a hidden state, drawn over its input, if it has one, and under its output, if
    one is asked for. Arrows of one colour stand for one set of weights.

    Parameters
    ----------
    inputs : sequence of T str or None
        What the network reads at each step; None where it reads nothing.
    outputs : sequence of T str or None
        What it has to say at each step; None where nothing is asked.
    ax : Axes, optional
        Where to draw; a new figure by default.
    feedback : bool
        Whether an output is the next step's input where that step has none of its own (dashed).
    decoder : int, optional
        The first step, from 2, of a second cell with weights of its own: the decoder; the steps
        before are the encoder's. One cell for all steps by default.
    title : str, optional
        The finding.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError
        If inputs or outputs are no sequences of strings and None.
    ValueError
        If they differ in length, hold None alone, or `decoder` is no step after the first.

    Examples
    --------
    >>> ax = problem_shape(["not", "bad"], [None, "positive"], title="many-to-one")
    >>> [text.get_text() for text in ax.texts if text.get_gid().startswith("text:")]
    ['not', '$h_{1}$', 'bad', '$h_{2}$', 'positive']
    """
    inputs, outputs = _step_labels(inputs, "inputs"), _step_labels(outputs, "outputs")
    steps = len(inputs)
    _expect(len(outputs) == steps, "outputs", f"{steps} labels, one a step", len(outputs))
    if decoder is not None:
        decoder = at_least("decoder", decoder, 2)
        _expect(decoder <= steps, "decoder", f"at most {steps}, the last step", decoder)
    drawing = _ShapeDrawing(_shape_graph(inputs, outputs, feedback, decoder))
    ax = _diagram_axes([drawing])[0] if ax is None else _axes(ax)
    return drawing.draw(ax, title or "")


# --------------------------------------------------------------------------- numbers as colour


def _logarithmic(ax):
    """Make the vertical axis logarithmic, with plain numbers at 1, 2 and 5 of every decade."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())


def _tick_labels(axis_labels, count, name):
    _expect(np.iterable(axis_labels), name, "a sequence", repr(axis_labels), TypeError)
    labels = [str(label) for label in axis_labels]
    _expect(len(labels) == count, name, f"{count} labels", len(labels))
    return labels


def heat_map(
    values,
    ax=None,
    *,
    x_labels=None,
    y_labels=None,
    x_label="column",
    y_label="row",
    title=None,
    unit="",
    diverging=None,
    annotate=False,
    fmt=".2f",
):
    """Show a matrix as colours: weights, or hidden states over time.

    Parameters
    ----------
    values : array of shape (rows, columns)
        The numbers; what is NaN or masked (padding, say) is left blank.
    ax : Axes, optional
        Where to draw; a new figure by default.
    x_labels, y_labels : sequence, optional
        Names of columns and rows; their numbers by default.
    x_label, y_label : str
        What columns and rows are, with units.
    title : str, optional
        The finding.
    unit : str
        What the colours measure; stands at the colour bar.
    diverging : bool, optional
        Blue below zero, white at zero, orange above; by default where both signs occur. Else
        cividis, whose lightness rises evenly.
    annotate : bool
        Write each number into its cell.
    fmt : str
        Format of these numbers.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError, ValueError
        If `values` is no finite matrix, the labels are too few or too many, or `fmt` is no format
        of a float.

    References
    ----------
    Nuñez, Anderton and Renslow (2018), PLOS ONE 13(7), cividis.

    Examples
    --------
    >>> ax = heat_map([[0.5, -1.0], [0.0, 1.0]], annotate=True, unit="weight")
    >>> [text.get_text() for text in ax.texts]
    ['0.50', '−1.00', '0.00', '1.00']
    """
    values = _array(values, "values", 2, nan=True)
    seen = values[~np.isnan(values)]
    _expect(seen.size > 0, "values", "numbers, not NaN alone", f"shape {values.shape}")
    rows, columns = values.shape
    x_ticks = None if x_labels is None else _tick_labels(x_labels, columns, "x_labels")
    y_ticks = None if y_labels is None else _tick_labels(y_labels, rows, "y_labels")
    try:
        format(0.0, fmt)
    except (TypeError, ValueError):
        message = f"fmt must be a format of a float, such as '.2f', got {fmt!r}"
        raise ValueError(message) from None
    ax = _axes(ax)
    if diverging is None:
        diverging = bool(seen.min() < 0 < seen.max())
    if diverging:
        most = float(np.abs(seen).max()) or 1.0
        colours, norm = _DIVERGING, Normalize(-most, most)
    else:
        colours, norm = mpl.colormaps["cividis"], Normalize(seen.min(), seen.max())
    squarish = max(rows, columns) <= 3 * min(rows, columns)
    image = ax.imshow(
        np.ma.masked_invalid(values),
        cmap=colours,
        norm=norm,
        aspect="equal" if squarish else "auto",
        interpolation="nearest",
    )
    bar = ax.figure.colorbar(image, ax=ax, label=unit)
    bar.outline.set_visible(False)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set(xlabel=x_label, ylabel=y_label, title=title or "")
    for axis, ticks in ((ax.xaxis, x_ticks), (ax.yaxis, y_ticks)):
        if ticks is not None:
            axis.set_ticks(range(len(ticks)), ticks)
        else:
            axis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    if annotate:
        for (row, column), value in np.ndenumerate(values):
            if np.isnan(value):
                continue
            # The ink with the higher contrast on this cell's colour, by WCAG's ratio.
            light = _luminance(colours(norm(value))[:3])
            ink = "white" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "black"
            words = format(value, fmt)
            if not set(words) & set("123456789"):
                words = words.removeprefix("-")  # what rounds to zero has no sign
            words = words.replace("-", "−")
            ax.text(column, row, words, ha="center", va="center", color=ink, fontsize=9)
    return ax


# ----------------------------------------------------------------------------------- forecasts

_BANDS = ((0.05, 0.95, "90 %"), (0.25, 0.75, "50 %"))


def _quantiles(forecast):
    """The five quantiles of samples (S, K), or of a mapping that holds them."""
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    name = "samples_or_quantiles"
    if not isinstance(forecast, Mapping):
        samples = _array(forecast, name, 2)
        _expect(len(samples) > 1, name, "at least 2 samples (S, K)", f"shape {samples.shape}")
        return dict(zip(levels, np.quantile(samples, levels, axis=0), strict=True))
    given = {float(level): value for level, value in forecast.items()}
    _expect(set(given) == set(levels), name, f"the quantiles {levels}", tuple(sorted(given)))
    bands = {level: _array(given[level], f"{name}[{level}]", 1) for level in levels}
    sizes = [len(bands[level]) for level in levels]
    _expect(len(set(sizes)) == 1, name, "quantiles of one length", sizes)
    for low, high in zip(levels, levels[1:], strict=False):
        ordered = bool((bands[low] <= bands[high]).all())
        _expect(ordered, name, "quantiles in order", f"{low} above {high}")
    return bands


def forecast_fan(
    history,
    samples_or_quantiles,
    truth=None,
    ax=None,
    *,
    dates=None,
    quantity="value",
    unit="",
    x_label=None,
    title=None,
):
    """Show the past, a forecast with its uncertainty, and what came.

    The bands hold the middle 50 % and 90 % of the forecast's samples. They start as a point at
    the last observed value, which is known.

    Parameters
    ----------
    history : array of shape (N,)
        The past, up to the moment of the forecast.
    samples_or_quantiles : array of shape (S, K), or mapping
        S samples of the next K values; or arrays (K,) under the keys 0.05, 0.25, 0.5, 0.75, 0.95.
    truth : array of shape (K,), optional
        What came.
    ax : Axes, optional
        Where to draw; a new figure by default.
    dates : sequence of length N + K, optional
        Times of past and forecast: dates, periods of pandas (each by its first day) or numbers.
        Steps from the last observation by default.
    quantity, unit : str
        What is forecast, and its unit.
    x_label : str, optional
        What the horizontal axis shows.
    title : str, optional
        The finding.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError, ValueError
        If something is not finite, the lengths disagree, `dates` do not increase or quantiles
        cross.

    Examples
    --------
    >>> samples = np.array([[3.0, 4.0], [3.2, 4.4], [3.4, 4.8]])
    >>> ax = forecast_fan([1.0, 2.0, 3.0], samples, truth=[3.1, 4.1], unit="ppm", quantity="CO₂")
    >>> ax.get_ylabel()
    'CO₂ (ppm)'
    """
    past = _array(history, "history", 1)
    bands = _quantiles(samples_or_quantiles)
    ahead = len(bands[0.5])
    if truth is not None:
        truth = _array(truth, "truth", 1)
        _expect(len(truth) == ahead, "truth", f"{ahead} values", len(truth))
    total = len(past) + ahead
    if dates is None:
        times = np.arange(1 - len(past), ahead + 1)
    else:
        times = np.asarray(dates)
        shape = f"shape {times.shape}"
        _expect(times.shape == (total,), "dates", f"{total} times, past and forecast", shape)
        if all(hasattr(time, "to_timestamp") for time in times):  # matplotlib knows no periods
            times = np.array([time.to_timestamp() for time in times], dtype="datetime64[us]")
        try:
            rising = bool((times[1:] > times[:-1]).all())  # also false where a date is missing
        except TypeError:
            raise TypeError(f"dates must be dates or numbers, got {dates!r:.80}") from None
        _expect(rising, "dates", "increasing", f"{times[0]} to {times[-1]}")
    ax = _axes(ax)
    future = times[len(past) - 1 :]

    def from_now(values):
        return np.concatenate([past[-1:], values])

    ends = []
    for (low, high, words), strength in zip(_BANDS, (0.25, 0.5), strict=True):
        ax.fill_between(
            future,
            from_now(bands[low]),
            from_now(bands[high]),
            color=COLOURS[0],
            alpha=strength,
            linewidth=0,
            gid=f"band:{words}",
        )
        ends.append((bands[high][-1], words, COLOURS[0]))
    ax.plot(times[: len(past)], past, color=COLOURS[4], linestyle="-", gid="past")
    ax.plot(future, from_now(bands[0.5]), color=COLOURS[0], linestyle=_LINES[1], gid="median")
    ends.append((bands[0.5][-1], "median", COLOURS[0]))
    if truth is not None:
        ax.plot(
            future[1:], truth, color=COLOURS[1], linestyle="-", marker="o", markersize=3.5,
            gid="truth",
        )
        ends.append((truth[-1], "truth", COLOURS[1]))
    ax.axvline(times[len(past) - 1], color=_GREY, linewidth=0.8, linestyle=":")
    for words, side, align in (("past", -5, "right"), ("forecast", 5, "left")):
        ax.annotate(
            words,
            (times[len(past) - 1], 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(side, -2),
            textcoords="offset points",
            ha=align,
            va="top",
            fontsize=9.5,
            color=COLOURS[4],
        )
    if x_label is None:
        x_label = "lead (steps)" if dates is None else "time"
    ax.set(xlabel=x_label, ylabel=_with_unit(quantity, unit), title=title or "")
    ax.margins(x=0.01, y=0.12)
    last = float(ax.convert_xunits(times[-1]))
    _label_ends(ax, [(last, y, words, colour) for y, words, colour in ends])
    return ax


# ------------------------------------------------------------------------------ learning curves


def _curve(history, name):
    """(loss, validation or None) of one run, from attributes or keys."""
    keyed = isinstance(history, Mapping)
    loss = history.get("loss") if keyed else getattr(history, "loss", None)
    _expect(loss is not None, name, "a training history with 'loss'", repr(history)[:80], TypeError)
    validation = history.get("validation") if keyed else getattr(history, "validation", None)
    loss = _array(loss, f"{name}.loss", 1)
    if validation is None or len(validation) == 0:
        return loss, None
    validation = _array(validation, f"{name}.validation", 1, nan=True)
    _expect(
        len(validation) == len(loss), f"{name}.validation", f"{len(loss)} values", len(validation)
    )
    _expect(not np.isnan(validation).all(), f"{name}.validation", "numbers, not NaN alone", "NaN")
    return loss, validation


def _is_run(history):
    """Whether this is one run: it has losses, and not other runs under the label "loss"."""
    loss = history.get("loss") if isinstance(history, Mapping) else getattr(history, "loss", None)
    inner = loss[0] if isinstance(loss, (list, tuple)) and loss else loss
    return loss is not None and not isinstance(inner, Mapping) and not hasattr(inner, "loss")


def _runs(history):
    """{label: [(loss, validation), ...]} of whatever learning_curves takes."""
    if isinstance(history, Mapping) and not _is_run(history):
        _expect(len(history) > 0, "history", "at least one run", history)
        groups = history.items()
    else:
        groups = [("", history)]
    runs = {}
    for label, group in groups:
        name = "history" if group is history else f"history[{label!r}]"
        if isinstance(group, (list, tuple)):
            _expect(len(group) > 0, name, "at least one run", group)
            runs[label] = [_curve(run, f"{name}[{i}]") for i, run in enumerate(group)]
        else:
            runs[label] = [_curve(group, name)]
    return runs


def learning_curves(history, ax=None, *, y_label="loss", title=None):
    """Show training and validation loss by epoch, and which epoch was best.

    Of several runs under one label the median is drawn, with a band from the least to the
    greatest, over the epochs that all of them reached.

    Parameters
    ----------
    history : History, dict, list or dict of these
        One run with ``loss`` and perhaps ``validation`` (one value an epoch; NaN where none was
        taken), a list of runs that differ by seed, or a dict of runs or lists by label.
    ax : Axes, optional
        Where to draw; a new figure by default.
    y_label : str
        What the loss is, with its unit.
    title : str, optional
        The finding.

    Returns
    -------
    Axes
        The axes drawn on; logarithmic if the losses span more than two decades.

    Raises
    ------
    TypeError, ValueError
        If a run has no loss, a loss is not finite, or the two have different lengths.

    Examples
    --------
    >>> ax = learning_curves({"loss": [3.0, 1.0, 0.5], "validation": [3.1, 1.2, 1.4]})
    >>> [text.get_text() for text in ax.texts]
    ['best: epoch 2', 'training', 'validation']
    """
    runs = _runs(history)
    _expect(len(runs) <= len(COLOURS), "history", f"at most {len(COLOURS)} labels", len(runs))
    ax = _axes(ax)
    everything, ends, alone = [], [], len(runs) == 1
    for number, (label, curves) in enumerate(runs.items()):
        best = None
        for which, words in enumerate(("training", "validation")):
            series = [curve[which] for curve in curves if curve[which] is not None]
            if not series:
                continue
            style = styles(number * (not alone) + 1 + which * alone)[-1]
            style["linestyle"] = ("-", _LINES[1])[which]
            shortest = min(len(values) for values in series)
            block = np.array([values[:shortest] for values in series])
            taken = ~np.isnan(block).all(axis=0)
            block, epochs = block[:, taken], np.arange(1, shortest + 1)[taken]
            middle = np.nanmedian(block, axis=0)
            name = " ".join(filter(None, (str(label), words)))
            few = len(epochs) <= 30
            ax.plot(
                epochs, middle, color=style["color"], linestyle=style["linestyle"],
                marker=style["marker"], markevery=1 if few else max(1, len(epochs) // 10),
                markersize=4, gid=name,
            )
            if len(series) > 1:
                ax.fill_between(
                    epochs, np.nanmin(block, axis=0), np.nanmax(block, axis=0),
                    color=style["color"], alpha=0.18, linewidth=0, gid=f"spread:{name}",
                )
            everything.append(block[~np.isnan(block)])
            ends.append((epochs[-1], middle[-1], name, style["color"]))
            at = int(np.argmin(middle))
            best = (epochs[at], middle[at])
        if alone:
            ax.axvline(best[0], color=_GREY, linewidth=0.8, linestyle=":", gid="best")
            ax.plot(*best, marker="*", markersize=13, color=COLOURS[4], linestyle="none", zorder=5)
            late = best[0] > len(curves[0][0]) / 2
            ax.annotate(
                f"best: epoch {best[0]}",
                (best[0], 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-4 if late else 4, -2),
                textcoords="offset points",
                ha="right" if late else "left",
                va="top",
                fontsize=9.5,
                color=COLOURS[4],
            )
        else:
            ax.plot(
                *best, marker="*", markersize=11, color=COLOURS[4], linestyle="none", zorder=5
            )
            ax.annotate(
                f"best: {best[0]}", best, xytext=(0, 7), textcoords="offset points",
                ha="center", fontsize=8.5, color=COLOURS[4],
            )
    everything = np.concatenate(everything)
    if everything.min() > 0 and everything.max() > 100 * everything.min():
        _logarithmic(ax)
    ax.set(xlabel="epoch", ylabel=y_label, title=title or "")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    _label_ends(ax, ends)
    return ax


# --------------------------------------------------------------------------- lines over seeds


def lines_with_spread(
    x,
    runs_by_name,
    ax=None,
    *,
    x_label="x",
    y_label="y",
    title=None,
    centre="median",
    spread="range",
    log=False,
):
    """Show several methods over `x`, each with the spread of its seeds.

    Parameters
    ----------
    x : array of shape (K,)
        Where the values were taken, increasing: lead times, say.
    runs_by_name : mapping of str to array of shape (seeds, K) or (K,)
        The values of each method; one row a seed. At most seven methods.
    ax : Axes, optional
        Where to draw; a new figure by default.
    x_label, y_label : str
        What the axes show, with units.
    title : str, optional
        The finding.
    centre : {"median", "mean"}
        What the line is.
    spread : {"range", "runs"}
        A band from the least to the greatest, or a thin line for each seed.
    log : bool
        Whether the vertical axis is logarithmic.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    TypeError, ValueError
        If shapes disagree, something is not finite, or `log` meets a value that is not positive.

    Examples
    --------
    >>> ax = lines_with_spread(
    ...     [1, 2, 3], {"RNN": [[1, 2, 3], [2, 3, 4]], "persistence": [2, 4, 6]},
    ...     x_label="lead (months)", y_label="error (°C)")
    >>> [float(y) for y in ax.lines[0].get_ydata()]
    [1.5, 2.5, 3.5]
    """
    x = _array(x, "x", 1)
    _expect(bool((np.diff(x) > 0).all()), "x", "increasing", x.tolist())
    one_of("centre", centre, ("median", "mean"))
    one_of("spread", spread, ("range", "runs"))
    mapping = isinstance(runs_by_name, Mapping)
    what = type(runs_by_name).__name__
    _expect(mapping, "runs_by_name", "a mapping of names to arrays", what, TypeError)
    most = len(COLOURS)
    _expect(0 < len(runs_by_name) <= most, "runs_by_name", f"1 to {most} names", len(runs_by_name))
    blocks = {}
    for name, runs in runs_by_name.items():
        block = np.atleast_2d(_array(runs, f"runs_by_name[{name!r}]"))
        fits = block.ndim == 2 and block.shape[1] == len(x)
        _expect(fits, f"runs_by_name[{name!r}]", f"(seeds, {len(x)})", block.shape)
        if log:
            _expect(block.min() > 0, f"runs_by_name[{name!r}]", "positive", block.min())
        blocks[name] = block
    ax = _axes(ax)
    if log:
        _logarithmic(ax)
    ends = []
    for (name, block), style in zip(blocks.items(), styles(len(blocks)), strict=True):
        middle = np.median(block, axis=0) if centre == "median" else block.mean(axis=0)
        ax.plot(x, middle, **style, gid=str(name), zorder=3)
        ends.append((x[-1], middle[-1], str(name), style["color"]))
        if len(block) == 1:
            continue
        if spread == "range":
            ax.fill_between(
                x, block.min(axis=0), block.max(axis=0), color=style["color"], alpha=0.18,
                linewidth=0, gid=f"spread:{name}",
            )
        else:
            for run in block:
                ax.plot(
                    x, run, color=style["color"], linestyle=style["linestyle"], linewidth=0.6,
                    alpha=0.6, gid=f"run:{name}",
                )
    ax.set(xlabel=x_label, ylabel=y_label, title=title or "")
    _label_ends(ax, ends)
    return ax


# ------------------------------------------------------------------------------- gradient flow


def gradient_by_lag(sizes_by_name, ax=None, *, y_label="norm", title=None):
    """Show how large a gradient is by how many steps it has gone back, on a logarithmic axis.

    A faint line marks the size 1. Where a size is zero, as behind units that are shut, the line
    breaks off.

    Parameters
    ----------
    sizes_by_name : mapping of str to array of shape (lags,) or (lags, runs)
        Sizes by lag from 0 on, such as ``GradientFlow.norms`` gives, one column a sequence or
        seed. Names may differ in the number of lags. At most seven.
    ax : Axes, optional
        Where to draw; a new figure by default.
    y_label : str
        What the sizes are.
    title : str, optional
        The finding.

    Returns
    -------
    Axes
        The axes drawn on: medians as lines, bands from the least to the greatest.

    Raises
    ------
    TypeError, ValueError
        If there are no names or more than seven, or sizes have another shape, are negative, not
        finite or all zero.

    Examples
    --------
    >>> ax = gradient_by_lag({"radius 0.5": [1, 0.5, 0.25], "radius 2": [[1, 1], [2, 3]]})
    >>> [float(y) for y in ax.lines[2].get_ydata()]
    [1.0, 2.5]
    """
    what = type(sizes_by_name).__name__
    mapping = isinstance(sizes_by_name, Mapping)
    _expect(mapping, "sizes_by_name", "a mapping of names to arrays", what, TypeError)
    most, count = len(COLOURS), len(sizes_by_name)
    _expect(0 < count <= most, "sizes_by_name", f"1 to {most} names", count)
    blocks = {}
    for name, sizes in sizes_by_name.items():
        label = f"sizes_by_name[{name!r}]"
        block = _array(sizes, label)
        block = block[:, None] if block.ndim == 1 else block
        _expect(block.ndim == 2, label, "(lags,) or (lags, runs)", f"shape {block.shape}")
        _expect(block.min() >= 0, label, "at least 0", block.min())
        _expect(block.max() > 0, label, "above 0 somewhere", "zeros alone")
        blocks[name] = np.where(block > 0, block, np.nan)
    ax = _axes(ax)
    ax.set_yscale("log")
    ax.axhline(1, color=_GREY, linewidth=0.8, linestyle=":", zorder=1)
    ends = []
    for (name, block), style in zip(blocks.items(), styles(count), strict=True):
        lags, middle = np.arange(len(block)), np.median(block, axis=1)  # NaN where one is zero
        every = max(1, len(block) // 8)
        ax.plot(lags, middle, **style, markevery=every, gid=str(name), zorder=3)
        if block.shape[1] > 1:
            ax.fill_between(
                lags, block.min(1), block.max(1), color=style["color"], alpha=0.18, linewidth=0,
                gid=f"spread:{name}",
            )  # fmt: skip
        shown = np.flatnonzero(np.isfinite(middle))
        if len(shown):
            ends.append((shown[-1], middle[shown[-1]], str(name), style["color"]))
    ax.set(xlabel="lag (steps back)", ylabel=y_label, title=title or "")
    _label_ends(ax, ends)
    return ax
