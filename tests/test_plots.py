"""companion.plots: colours computed, diagrams against autograd, artists against the numbers."""

import datetime
import warnings
from collections import Counter
from itertools import combinations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import nn

from companion import plots
from companion.recurrent import RNN, Bidirectional, JordanCell, Leaky, RNNCell, Stack, Unroll


@pytest.fixture(autouse=True)
def fresh_figures():
    with matplotlib.rc_context():
        plots.use_style()
        yield
    plt.close("all")


# ------------------------------------------------------------------------------------ colours

# Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color
# vision deficiency", IEEE TVCG 15(6), severity 1.0; for linear RGB.
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
# sRGB to XYZ, D65 (IEC 61966-2-1).
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
DARK_PAGE = "#121212"


def linear(rgb):
    rgb = np.asarray(rgb, dtype=float)
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb, vision="full"):
    """CIE 1976 L*a*b* under D65 as someone with this vision sees the colour."""
    light = np.clip(linear(rgb) @ VISION[vision].T, 0, 1)
    ratio = light @ XYZ.T / XYZ.sum(axis=1)
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def dark(rgb):
    """CSS ``invert(1) hue-rotate(180deg)``: W3C Filter Effects Module 1, feColorMatrix."""
    cos, sin = np.cos(np.pi), np.sin(np.pi)
    keep = np.array([[0.213, 0.715, 0.072]] * 3)
    rotate = (
        keep
        + cos * (np.eye(3) - keep)
        + sin * np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    )
    return np.clip((1 - np.asarray(rgb, dtype=float)) @ rotate.T, 0, 1)


def contrast(one, other):
    """WCAG 2.2's ratio, from 1 to 21."""
    a, b = sorted(float(linear(rgb) @ XYZ[1]) for rgb in (one, other))
    return (b + 0.05) / (a + 0.05)


def test_the_tools_of_these_tests():
    # L* of the sRGB primaries and the CSS filter's grey axis, from the definitions.
    assert lab((1, 1, 1)) == pytest.approx([100, 0, 0], abs=0.01)
    assert lab((1, 0, 0)) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert dark((1, 1, 1)) == pytest.approx([0, 0, 0], abs=1e-12)
    assert dark((0.2, 0.2, 0.2)) == pytest.approx([0.8, 0.8, 0.8])
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21, abs=0.001)
    # Red and green of equal lightness are near for a deuteranope, far for everyone else.
    red, green = (0.75, 0.35, 0.2), (0.45, 0.5, 0.15)
    far, near = (np.linalg.norm(lab(red, v) - lab(green, v)) for v in ("full", "deuteranopia"))
    assert near < far / 2


FIRST = [np.array(to_rgb(colour)) for colour in plots.COLOURS[:5]]


@pytest.mark.parametrize("page", [np.asarray, dark], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_first_five_colours_stand_apart(vision, page):
    for one, other in combinations(FIRST, 2):
        assert np.linalg.norm(lab(page(one), vision) - lab(page(other), vision)) >= 20


@pytest.mark.parametrize("page", [np.asarray, dark], ids=["light", "dark"])
def test_first_five_colours_differ_in_lightness(page):
    lightness = sorted(lab(page(colour))[0] for colour in FIRST)
    assert min(np.diff(lightness)) >= 7


def test_colours_are_seen_on_both_pages():
    for colour in plots.COLOURS:
        assert contrast(to_rgb(colour), (1, 1, 1)) >= 3
        assert contrast(dark(to_rgb(colour)), to_rgb(DARK_PAGE)) >= 3
        ink = to_rgb(plots._ink(colour))  # text needs more than lines
        assert contrast(ink, (1, 1, 1)) >= 4.5
        assert contrast(dark(ink), to_rgb(DARK_PAGE)) >= 4.5


def test_colour_maps_are_ordered_by_lightness():
    sequential = lab(matplotlib.colormaps["cividis"](np.linspace(0, 1, 33))[:, :3])[:, 0]
    steps = np.diff(sequential)
    assert (steps > 0).all() and steps.max() < 2 * steps.mean()
    diverging = lab(plots._DIVERGING(np.linspace(0, 1, 33))[:, :3])[:, 0]
    assert (np.diff(diverging[:17]) > 0).all() and (np.diff(diverging[16:]) < 0).all()
    assert diverging[16] > 99  # white is zero
    for vision in VISION:  # equal sizes of either sign are told apart by hue
        for page in (np.asarray, dark):
            ends = (page(plots._DIVERGING(at)[:3]) for at in (0.2, 0.8))
            assert np.linalg.norm(np.subtract(*(lab(end, vision) for end in ends))) > 20


def test_use_style_and_styles():
    cycle = plt.rcParams["axes.prop_cycle"].by_key()
    assert tuple(cycle["color"]) == plots.COLOURS
    assert len({str(line) for line in cycle["linestyle"][:5]}) >= 4
    assert plt.rcParams["figure.figsize"] == [7.2, 4.0] and plt.rcParams["figure.dpi"] == 144
    assert to_rgb(plt.figure().get_facecolor()) == (1, 1, 1)
    rows = plots.styles(7)
    assert len({row["color"] for row in rows}) == len({row["marker"] for row in rows}) == 7
    assert len({(str(row["linestyle"])) for row in rows[:4]}) == 4
    with pytest.raises(ValueError, match="count must be at most 7, got 8"):
        plots.styles(8)
    with pytest.raises(TypeError, match="count must be a whole number"):
        plots.styles(2.0)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_saved_bytes_depend_on_the_figure_alone(tmp_path, ending, monkeypatch):
    paths = [tmp_path / f"{number}.{ending}" for number in range(2)]
    for path, moment in zip(paths, ("1000000000", "1500000000"), strict=True):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", moment)  # what a date would be taken from
        ax = plots.lines_with_spread([1, 2], {"a": [[1, 2], [2, 3]]})
        plots.save(ax.figure, path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second and len(first) > 1000
    with pytest.raises(ValueError, match="path must be a name ending in .*got 'a.bmp'"):
        plots.save(ax.figure, "a.bmp")
    with pytest.raises(TypeError, match="figure must be a matplotlib Figure, got <Axes"):
        plots.save(ax, "a.png")


# ---------------------------------------------------------------------------------- networks


class Forecaster(nn.Module):
    """A reader's own composition: parts in attributes, in the order in which data passes."""

    def __init__(self):
        super().__init__()
        self.body = Unroll(RNNCell(3, 8), loop=True)
        self.head = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, x):
        return self.head(self.body(x)[0]), None


def two_ways(size, loop=True):
    return Bidirectional(
        Unroll(RNNCell(size, 8), loop=loop), Unroll(RNNCell(size, 8), reverse=True, loop=loop)
    )


NETWORKS = {
    "ahead": lambda: Unroll(RNNCell(3, 8), loop=True),
    "reversed": lambda: Unroll(RNNCell(3, 8), reverse=True, loop=True),
    "head": lambda: Stack(Unroll(RNNCell(3, 8), loop=True), nn.Linear(8, 1)),
    "deep": lambda: Stack(
        Unroll(RNNCell(3, 8), loop=True), nn.Dropout(0.2), Unroll(RNNCell(8, 5), loop=True)
    ),
    "two-way": lambda: two_ways(3),
    "RNN": lambda: RNN(3, 8, 2, bidirectional=True, dropout=0.1, loop=True),
    "tagger": lambda: Stack(
        nn.Embedding(50, 6), RNN(6, 8, 2, bidirectional=True, loop=True), nn.Linear(16, 4)
    ),
    "own": Forecaster,
    "narrowed": lambda: Stack(nn.Linear(3, 2), Unroll(RNNCell(2, 8), loop=True)),
}


def run(name, network, steps):
    x = torch.randint(50, (steps, 2)) if name == "tagger" else torch.randn(steps, 2, 3)
    return network(x)[0]


def uses_in_autograd(output, network):
    """How many arrows of the autograd graph end in each parameter."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    uses, seen, todo = Counter(), set(), [output.grad_fn]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        for after, _ in node.next_functions:
            if after is None:
                continue
            if hasattr(after, "variable"):
                uses[names[id(after.variable)]] += 1
            else:
                todo.append(after)
    return uses


@pytest.mark.parametrize("steps", [1, 3, 6])
@pytest.mark.parametrize("name", NETWORKS)
def test_graph_has_the_arrows_that_autograd_has(name, steps):
    network = NETWORKS[name]()
    drawn = plots.network_graph(network, steps)
    uses = uses_in_autograd(run(name, network, steps), network)
    for end in ("weight_hh", "weight_ih"):
        expected = {parameter: n for parameter, n in uses.items() if parameter.endswith(end)}
        assert expected and set(expected.values()) == {steps}
        arrows = Counter(e.parameter for e in drawn.edges if e.parameter.endswith(end))
        assert arrows == expected
    recurrent = [edge for edge in drawn.edges if edge.kind == "recurrent"]
    assert all(edge.parameter.endswith("weight_hh") for edge in recurrent)
    assert len(recurrent) == sum(n for p, n in uses.items() if p.endswith("weight_hh"))


def test_recurrent_arrows_are_the_calls_of_the_cell():
    network, calls = NETWORKS["deep"](), []
    for module in network.modules():
        if isinstance(module, RNNCell):
            module.register_forward_hook(lambda *_: calls.append(1))
    run("deep", network, 5)
    drawn = plots.network_graph(network, 5)
    assert sum(edge.kind == "recurrent" for edge in drawn.edges) == len(calls) == 10


@pytest.mark.parametrize("name", NETWORKS)
def test_copies_of_a_weight_share_label_shape_and_role(name):
    network = NETWORKS[name]()
    sizes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    of_parameter, of_label = {}, {}
    for edge in plots.network_graph(network, 4).edges:
        if not edge.parameter:
            assert edge.label == "" and edge.role == ""
            continue
        of_parameter.setdefault(edge.parameter, set()).add((edge.label, edge.shape, edge.role))
        of_label.setdefault(edge.label, set()).add(edge.parameter)
        stored = sizes[edge.parameter]
        assert edge.shape == (stored if edge.label == "$E$" else stored[::-1])
    assert of_parameter and all(len(looks) == 1 for looks in of_parameter.values())
    assert all(len(parameters) == 1 for parameters in of_label.values())


def test_values_flow_ahead_or_back():
    ahead = plots.network_graph(NETWORKS["ahead"](), 3)
    back = plots.network_graph(NETWORKS["reversed"](), 3)
    for graph, start, steps in ((ahead, 0, [1, 1, 1]), (back, 4, [-1, -1, -1])):
        recurrent = [edge for edge in graph.edges if edge.kind == "recurrent"]
        times = [(graph.node(e.source).time, graph.node(e.target).time) for e in recurrent]
        assert [b - a for a, b in times] == steps == [edge.delay for edge in recurrent]
        starts = [node for node in graph.nodes if node.kind == "start"]
        assert [node.time for node in starts] == [start]
    assert [n.label for n in ahead.nodes if n.kind == "start"] == ["$h_{0}$"]


def test_labels_count_from_one_or_from_t():
    cell = RNNCell(3, 8)

    def inputs(graph):
        return [node.label for node in graph.nodes if node.kind == "input"]

    assert inputs(plots.network_graph(cell, 2)) == ["$x_{1}$", "$x_{2}$"]
    around = plots.network_graph(cell, 3, relative=True)
    assert inputs(around) == ["$x_{t-1}$", "$x_{t}$", "$x_{t+1}$"]
    assert [n.label for n in around.nodes if n.kind == "start"] == ["$h_{t-2}$"]
    assert inputs(plots.network_graph(cell, None)) == ["$x_t$"]


def test_folded_graph_has_one_loop_a_direction_and_layer():
    graph = plots.network_graph(NETWORKS["tagger"](), None)
    loops = [edge for edge in graph.edges if edge.source == edge.target]
    assert [edge.delay for edge in loops] == [1, -1, 1, -1]
    assert len({edge.parameter for edge in loops}) == 4
    assert [n.label for n in graph.nodes if n.kind == "module"] == ["Embedding", "Linear"]
    shapes = [node.shape for node in graph.nodes]
    #         x   E     two ways    join   two ways    join   Linear y
    assert shapes == [(), (6,), (8,), (8,), (16,), (8,), (8,), (16,), (4,), (4,)]


def test_a_cell_used_twice_keeps_its_letters():
    cell = RNNCell(8, 8)
    graph = plots.network_graph(Stack(Unroll(cell), Unroll(cell)), 2)
    recurrent = [edge for edge in graph.edges if edge.kind == "recurrent"]
    assert len(recurrent) == 4
    assert len({(edge.label, edge.parameter) for edge in recurrent}) == 1


class Own(nn.Module):
    """A reader's module whose parts, and whatever else it keeps, have any names."""

    def __init__(self, parts, **others):
        super().__init__()
        for name, value in (parts | others).items():
            setattr(self, name, value)


PLAIN = {"layers": 2, "cell": "RNN", "ahead": 1, "back": 2, "reverse": None, "append": 3}


@pytest.mark.parametrize("others", [{}, PLAIN, {"stack": lambda: None, "initial_state": 0}])
@pytest.mark.parametrize("first", ["layers", "stack", "cell", "ahead", "body"])
def test_parts_of_an_own_module_may_have_any_name(first, others):
    others = {name: value for name, value in others.items() if name != first}
    part = {
        "layers": nn.ModuleList([Unroll(RNNCell(3, 8))]),
        "stack": Stack(Unroll(RNNCell(3, 8))),
        "cell": RNNCell(3, 8),
    }.get(first, Unroll(RNNCell(3, 8)))
    graph = plots.network_graph(Own({first: part, "head": nn.Linear(8, 2)}, **others), 3)
    kinds = Counter(node.kind for node in graph.nodes)
    assert kinds == {"input": 3, "cell": 3, "start": 1, "module": 3, "output": 3}


def test_a_layer_used_twice_is_drawn_twice():
    for hold in (Stack, nn.Sequential):
        part = Unroll(RNNCell(8, 8))
        graph = plots.network_graph(hold(part, part), 2)
        assert sum(edge.kind == "recurrent" for edge in graph.edges) == 4


def test_a_stack_of_plain_modules_shows_them():
    graph = plots.network_graph(Stack(nn.Linear(3, 2), nn.Dropout(0.5)), 1)
    assert [n.label for n in graph.nodes if n.kind == "module"] == ["Linear", "Dropout 0.5"]


def test_plain_modules_have_no_arrow_along_time():
    graph = plots.network_graph(NETWORKS["deep"](), 3)
    boxes = [node for node in graph.nodes if node.kind == "module"]
    assert [node.label for node in boxes] == ["Dropout 0.2"] * 3
    for edge in graph.edges:
        ends = [graph.node(edge.source), graph.node(edge.target)]
        if any(node.kind == "module" for node in ends):
            assert ends[0].time == ends[1].time


def drawn(name, steps, **options):
    axes = plots.network(NETWORKS[name](), steps, **options)
    figure = np.atleast_1d(axes)[0].figure
    figure.draw_without_rendering()
    return np.atleast_1d(axes)


def texts_of(ax):
    return [text for text in ax.texts if text.get_text()]


def crosses(box, a, b):
    """Whether the segment from a to b meets the box: clip it (Liang and Barsky 1984)."""
    low, high = 0.0, 1.0
    for axis in range(2):
        move, start = b[axis] - a[axis], a[axis]
        near, far = box.min[axis] - start, box.max[axis] - start
        if abs(move) < 1e-9:
            if near > 0 or far < 0:
                return False
            continue
        enter, leave = sorted((near / move, far / move))
        low, high = max(low, enter), min(high, leave)
    return low < high


@pytest.mark.parametrize("steps", [1, 3, 6])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_arrow_crosses_a_word_and_no_word_another(name, steps):
    for ax in drawn(name, steps):
        page = ax.figure.bbox
        boxes = [(text, text.get_window_extent()) for text in texts_of(ax)]
        around = [(text, box.padded(2)) for text, box in boxes]  # half an arrow's breadth
        for text, box in boxes:
            assert page.x0 <= box.x0 and box.x1 <= page.x1, text.get_text()
            assert page.y0 <= box.y0 and box.y1 <= page.y1, text.get_text()
        for (one, a), (other, b) in combinations(boxes, 2):
            assert not a.padded(-0.5).overlaps(b.padded(-0.5)), (one, other)
        arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
        assert arrows
        for arrow in arrows:
            corners = ax.transData.transform(arrow._path_original.vertices)
            for a, b in zip(corners, corners[1:], strict=False):
                for text, box in around:
                    assert not crosses(box, a, b), (arrow.get_gid(), text.get_text())


@pytest.mark.parametrize("name", NETWORKS)
def test_words_in_boxes_stay_inside_and_boxes_apart(name):
    for ax in drawn(name, 3):
        boxes = {
            patch.get_gid()[len("node:") :]: patch.get_window_extent()
            for patch in ax.patches
            if isinstance(patch, FancyBboxPatch)
        }
        assert boxes
        for one, other in combinations(boxes.values(), 2):
            assert not one.overlaps(other)
        for text in texts_of(ax):
            kind, _, node = text.get_gid().partition(":")
            if kind in ("text", "detail") and node in boxes:
                inner, outer = text.get_window_extent(), boxes[node]
                assert outer.x0 <= inner.x0 and inner.x1 <= outer.x1, text.get_text()
                assert outer.y0 <= inner.y0 and inner.y1 <= outer.y1, text.get_text()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_drawing_holds_the_graph(name):
    network = NETWORKS[name]()
    axes = plots.network(network, 3)
    for ax, steps in zip(axes, (None, 3), strict=True):
        graph = plots.network_graph(network, steps)
        arrows = {p.get_gid(): p for p in ax.patches if isinstance(p, FancyArrowPatch)}
        assert set(arrows) == {f"edge:{edge.source}->{edge.target}" for edge in graph.edges}
        words = {text.get_gid(): text for text in ax.texts}
        looks = {}
        for edge in graph.edges:
            arrow = arrows[f"edge:{edge.source}->{edge.target}"]
            if edge.label:
                label = words[f"label:{edge.source}->{edge.target}"]
                assert label.get_text().startswith(edge.label)
                look = (arrow.get_edgecolor(), label.get_color(), edge.label)
                looks.setdefault(edge.parameter, set()).add(look)
        assert looks and all(len(look) == 1 for look in looks.values())  # one weight, one look
        delays = [p for p in ax.patches if (p.get_gid() or "").startswith("delay:")]
        assert len(delays) == (
            0 if steps else sum(edge.kind == "recurrent" for edge in graph.edges)
        )


def test_reversed_arrows_run_from_right_to_left():
    for name, sign in (("ahead", 1), ("reversed", -1)):
        ax = plots.network(NETWORKS[name](), 3, view="unrolled")
        recurrent = {e.target for e in plots.network_graph(NETWORKS[name](), 3).edges if e.delay}
        found = 0
        for patch in ax.patches:
            if isinstance(patch, FancyArrowPatch) and patch.get_gid().startswith("edge:h"):
                target = patch.get_gid().split("->")[1]
                if target in recurrent:
                    (xa, ya), (xb, yb) = patch._path_original.vertices
                    assert np.sign(xb - xa) == sign and ya == yb
                    found += 1
        assert found == 3


def test_a_jordan_network_hands_its_output_on():
    graph = plots.network_graph(Unroll(JordanCell(3, 8, 2)), steps=3)
    recurrent = [edge for edge in graph.edges if edge.kind == "recurrent"]
    assert {(e.label, e.parameter, e.shape) for e in recurrent} == {
        ("$W_{yh}$", "cell.weight_yh", (2, 8))
    }
    cells = [node for node in graph.nodes if node.kind == "cell"]
    assert [node.label for node in cells] == [rf"$\hat y_{{{t}}}$" for t in (1, 2, 3)]
    assert all(node.detail == "K = 2" for node in cells)
    folded = plots.network_graph(Unroll(Leaky(RNNCell(3, 8), 0.1)), steps=None)
    assert [node.detail for node in folded.nodes if node.kind == "cell"] == ["Leaky"]


def test_network_draws_where_it_is_told():
    figure, (left, right) = plt.subplots(1, 2)
    axes = plots.network(RNNCell(3, 8), 2, ax=(left, right), title=("one", "other"))
    assert list(axes) == [left, right] and right.get_title(loc="left") == "other"
    assert plots.network(RNNCell(3, 8), 2, left, view="folded") is left
    assert plots.network(RNNCell(3, 8), 1)[1].get_title(loc="left") == "unrolled over 1 step"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plots.network(RNNCell(3, 8), 0), ValueError, "steps must be at least 1, got 0"),
        (lambda: plots.network(RNNCell(3, 8), 2.5), TypeError, "steps must be a whole number"),
        (lambda: plots.network(RNNCell(3, 8), view="side"), ValueError, "view must be one of"),
        (lambda: plots.network("x"), TypeError, "layer must be a torch module.*got 'x'"),
        (lambda: plots.network(RNNCell), TypeError, "layer must be a torch module.*got <class"),
        (lambda: plots.network(nn.RNN(3, 8)), TypeError, "layer must be.*RNN.from_torch"),
        (lambda: plots.network(nn.Sequential()), ValueError, "layer must be at least one layer"),
        (lambda: plots.network(RNNCell(3, 8), ax=plt.figure()), ValueError, "ax must be 2 Axes"),
        (
            lambda: plots.network(RNNCell(3, 8), ax=3, view="folded"),
            TypeError,
            "ax must be a matplotlib Axes or None, got 3",
        ),
        (lambda: plots.network(RNNCell(3, 8), title="a"), ValueError, "title must be 2 of them"),
    ],
)
def test_network_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


# --------------------------------------------------------------------------- shapes of problems

X, Y = [f"$x_{t}$" for t in range(1, 5)], [rf"$\hat y_{t}$" for t in range(1, 5)]
# inputs, outputs, options; then the arrows, written out by hand
SHAPES = {
    "one-to-one": (["photo"], ["cat"], {}, "x1h1 h1y1"),
    "one-to-many": (
        ["photo", None, None, None], ["a", "dog", "runs", "<end>"], {"feedback": True},
        "x1h1 h1h2 h2h3 h3h4 h1y1 h2y2 h3y3 h4y4 y1h2 y2h3 y3h4",
    ),
    "many-to-one": (
        ["the", "food", "was", "good"], [None, None, None, "positive"], {},
        "x1h1 x2h2 x3h3 x4h4 h1h2 h2h3 h3h4 h4y4",
    ),
    "synchronous": (
        X, Y, {"feedback": True}, "x1h1 x2h2 x3h3 x4h4 h1h2 h2h3 h3h4 h1y1 h2y2 h3y3 h4y4",
    ),
    "asynchronous": (
        ["we", "go", "<start>", None], [None, None, "nous", "allons"],
        {"feedback": True, "decoder": 3},
        "x1h1 x2h2 x3h3 h1h2 h2h3 h3h4 h3y3 h4y4 y3h4",
    ),
    "late": (["a", None, None], [None, None, "b"], {"feedback": True}, "x1h1 h1h2 h2h3 h3y3"),
    "one cell": (
        X[:2] + [None] * 2, [None] * 2 + Y[2:], {}, "x1h1 x2h2 h1h2 h2h3 h3h4 h3y3 h4y4",
    ),
}


NO_BRACKETS = str.maketrans("", "", "[]")


def shape(name, **more):
    inputs, outputs, options, _ = SHAPES[name]
    ax = plots.problem_shape(inputs, outputs, **options, **more)
    ax.figure.draw_without_rendering()
    return ax


def arrows_of(ax):
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    return {patch.get_gid().removeprefix("edge:").translate(NO_BRACKETS): patch for patch in arrows}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_its_boxes_and_arrows(name):
    inputs, outputs, _, expected = SHAPES[name]
    ax = shape(name, title="found")
    assert {arrow.replace("->", "") for arrow in arrows_of(ax)} == set(expected.split())
    words = {text.get_gid(): text.get_text() for text in ax.texts}
    for letter, labels in (("x", inputs), ("y", outputs)):
        shown = [words.get(f"text:{letter}[{t}]") for t in range(1, len(labels) + 1)]
        assert shown == labels
    boxes = [patch.get_gid() for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == len(inputs) + sum(label is not None for label in inputs + outputs)
    assert ax.get_title(loc="left") == "found"


def test_arrows_of_a_shape_run_up_and_right_and_feedback_is_dashed():
    for name in SHAPES:
        for arrow, patch in arrows_of(shape(name)).items():
            (xa, ya), (xb, yb) = patch._path_original.vertices
            back = arrow.startswith("y")
            assert (patch.get_linestyle() == "--") == back
            if arrow[0] == "h" and "->h" in arrow:
                assert xb > xa and ya == yb
            elif not back:
                assert xa == xb and yb > ya
            else:
                assert xb > xa and yb < ya


def test_a_decoder_is_named_and_has_colours_of_its_own():
    ax = shape("asynchronous")
    details = [text.get_text() for text in ax.texts if text.get_gid().startswith("detail:")]
    assert details == ["encoder", "encoder", "decoder", "decoder"]
    colours = {arrow: patch.get_edgecolor() for arrow, patch in arrows_of(ax).items()}
    assert colours["h2->h3"] == colours["h3->h4"] == colours["x3->h3"] != colours["h1->h2"]
    assert colours["x1->h1"] == colours["x2->h2"] != colours["x3->h3"]
    assert not any(text.get_gid().startswith("detail:") for text in shape("one cell").texts)


@pytest.mark.parametrize("name", SHAPES)
def test_words_of_a_shape_stay_in_their_boxes_and_out_of_the_way(name):
    ax = shape(name)
    boxes = {
        patch.get_gid()[len("node:") :]: patch.get_window_extent()
        for patch in ax.patches
        if isinstance(patch, FancyBboxPatch)
    }
    around = [(text, text.get_window_extent()) for text in texts_of(ax)]
    for text, box in around:
        assert ax.figure.bbox.x0 <= box.x0 and box.x1 <= ax.figure.bbox.x1, text.get_text()
        outer = boxes.get(text.get_gid().partition(":")[2])
        if outer is not None:
            assert outer.x0 <= box.x0 and box.x1 <= outer.x1, text.get_text()
            assert outer.y0 <= box.y0 and box.y1 <= outer.y1, text.get_text()
    for (one, a), (other, b) in combinations(around, 2):
        assert not a.padded(-0.5).overlaps(b.padded(-0.5)), (one, other)
    for patch in arrows_of(ax).values():
        a, b = ax.transData.transform(patch._path_original.vertices)
        for text, box in around:
            assert not crosses(box, a, b), (patch.get_gid(), text.get_text())


draw = plots.problem_shape


def test_a_shape_is_drawn_where_it_is_told():
    _, ax = plt.subplots()
    assert draw(["a"], ["b"], ax) is ax


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: draw("ab", ["a", "b"]), TypeError, "inputs must be a sequence.*'ab'"),
        (lambda: draw(3, ["a"]), TypeError, "inputs must be a sequence.*got 3"),
        (lambda: draw(["a"], [1]), TypeError, "outputs must be labels .*got 1"),
        (lambda: draw([], []), ValueError, r"inputs must be labels .*got \[\]"),
        (lambda: draw(["a"], [None]), ValueError, "outputs must be labels of which"),
        (lambda: draw(["a", "b"], ["c"]), ValueError, "outputs must be 2 labels.*got 1"),
        (lambda: draw(["a"], ["b"], decoder=1), ValueError, "decoder must be at least 2"),
        (lambda: draw(["a"], ["b"], decoder=2), ValueError, "decoder must be at most 1"),
        (lambda: draw(["a"], ["b"], decoder="2"), TypeError, "decoder must be a whole"),
        (lambda: draw(["a"], ["b"], 3), TypeError, "ax must be a matplotlib Axes"),
    ],
)
def test_problem_shape_refuses(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ----------------------------------------------------------------------------------- heat maps


def test_heat_map_shows_the_numbers():
    values = np.array([[0.0, 1.0, 4.0], [2.0, np.nan, 3.0]])
    ax = plots.heat_map(
        values, x_labels="abc", y_labels=["u", "v"], unit="weight", x_label="input", annotate=True
    )
    (image,) = ax.images
    assert np.array_equal(image.get_array().filled(np.nan), values, equal_nan=True)
    assert image.get_cmap().name == "cividis" and image.get_clim() == (0, 4)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["u", "v"]
    assert image.colorbar.ax.get_ylabel() == "weight"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("input", "row")
    assert len(ax.texts) == 5  # none in the cell without a number
    for text in ax.texts:
        column, row = text.get_position()
        assert float(text.get_text()) == values[int(row), int(column)]
        cell = image.cmap(image.norm(values[int(row), int(column)]))[:3]
        assert contrast(to_rgb(text.get_color()), cell) >= 4.5


def test_heat_map_diverges_around_zero():
    (image,) = plots.heat_map([[-1.0, 3.0]]).images
    assert image.get_clim() == (-3, 3) and image.get_cmap() is plots._DIVERGING
    (image,) = plots.heat_map([[-1.0, 3.0]], diverging=False).images
    assert image.get_clim() == (-1, 3)
    (image,) = plots.heat_map([[0.0, 0.0]], diverging=True).images
    assert image.get_clim() == (-1, 1)


def test_every_number_on_a_diverging_map_is_readable():
    values = np.linspace(-1, 1, 41)[None]
    ax = plots.heat_map(values, annotate=True)
    for text, value in zip(ax.texts, values[0], strict=True):
        cell = plots._DIVERGING((value + 1) / 2)[:3]
        assert contrast(to_rgb(text.get_color()), cell) >= 4.5


def test_numbers_that_round_to_zero_have_no_sign():
    ax = plots.heat_map([[-1e-30, -0.0, -0.004, -0.006]], annotate=True)
    assert [text.get_text() for text in ax.texts] == ["0.00", "0.00", "0.00", "−0.01"]
    ax = plots.heat_map([[-0.0, -2e-30]], annotate=True, fmt=".0e")
    assert [text.get_text() for text in ax.texts] == ["0e+00", "−2e−30"]


def test_heat_map_leaves_what_is_masked_blank():
    ax = plots.heat_map(np.ma.masked_equal([[1, -999, 2]], -999), annotate=True)
    assert [text.get_text() for text in ax.texts] == ["1.00", "2.00"]


def test_heat_map_takes_weights_as_they_are():
    ax = plots.heat_map(RNNCell(3, 8).weight_hh)  # has a gradient
    assert ax.images[0].get_array().shape == (8, 8)
    long = plots.heat_map(np.ones((4, 50)))
    assert long.get_aspect() == "auto" and ax.get_aspect() == 1


# ------------------------------------------------------------------------ forecasts and curves


def artist(ax, gid):
    return next(child for child in ax.get_children() if child.get_gid() == gid)


def band_at(band, x):
    corners = band.get_paths()[0].vertices
    heights = corners[np.isclose(corners[:, 0], x), 1]
    return heights.min(), heights.max()


SAMPLES = np.arange(101.0)[:, None] + np.array([0.0, 10.0])  # quantile q is 100 q, and 10 more


def test_fan_holds_the_quantiles():
    ax = plots.forecast_fan([49.0, 50.0], SAMPLES, truth=[51.0, 52.0], quantity="CO₂", unit="ppm")
    assert band_at(artist(ax, "band:90 %"), 1) == pytest.approx((5, 95))
    assert band_at(artist(ax, "band:50 %"), 2) == pytest.approx((35, 85))
    assert band_at(artist(ax, "band:90 %"), 0) == (50, 50)  # what is known has no spread
    assert artist(ax, "median").get_ydata().tolist() == [50, 50, 60]
    assert artist(ax, "past").get_xdata().tolist() == [-1, 0]
    assert artist(ax, "truth").get_xydata().tolist() == [[1, 51], [2, 52]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lead (steps)", "CO₂ (ppm)")
    words = {text.get_text() for text in ax.texts}
    assert words == {"past", "forecast", "90 %", "50 %", "median", "truth"}


def test_fan_takes_quantiles_and_dates():
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantiles = {level: np.quantile(SAMPLES, level, axis=0) for level in levels}
    dates = np.array(["2000-01", "2000-02", "2000-03", "2000-04"], dtype="datetime64[M]")
    ax = plots.forecast_fan([49.0, 50.0], quantiles, dates=dates)
    ends = matplotlib.dates.date2num(dates)
    assert band_at(artist(ax, "band:50 %"), ends[2]) == pytest.approx((25, 75))
    assert artist(ax, "past").get_xdata(orig=False).tolist() == ends[:2].tolist()
    assert ax.get_xlabel() == "time"


def test_fan_takes_periods_and_days_of_the_calendar():
    periods = pd.period_range("2000-01", periods=4, freq="M")
    ax = plots.forecast_fan([49.0, 50.0], SAMPLES, dates=periods)
    ends = matplotlib.dates.date2num(np.array(["2000-01-01", "2000-02-01"], "datetime64[D]"))
    assert artist(ax, "past").get_xdata(orig=False).tolist() == ends.tolist()
    days = [datetime.date(2000, 1, day) for day in (1, 2, 3, 4)]
    ax = plots.forecast_fan([49.0, 50.0], SAMPLES, dates=days)
    assert np.diff(artist(ax, "past").get_xdata(orig=False)).tolist() == [1]


def labels_of(ax):
    ax.figure.draw_without_rendering()
    return [text for text in ax.texts if (text.get_gid() or "").startswith("label:")]


def assert_labels_apart_and_near(ax, wanted):
    labels = labels_of(ax)
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in labels]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    for text in labels:  # each points to the end of its line
        assert text.xy[1] == pytest.approx(wanted[text.get_text()])
    order = sorted(labels, key=lambda text: text.xyann[1])
    assert [text.xy[1] for text in order] == sorted(text.xy[1] for text in labels)


def test_labels_at_the_ends_do_not_overlap():
    ends = {"a": 1.0, "b": 1.001, "c": 1.002, "d": 5.0, "e": 0.999, "f": 9.0}
    ax = plots.lines_with_spread([1, 2], {name: [0.0, y] for name, y in ends.items()})
    assert_labels_apart_and_near(ax, ends)
    isolated = next(text for text in labels_of(ax) if text.get_text() == "d")
    level = ax.transAxes.inverted().transform(ax.transData.transform((2, 5.0)))[1]
    assert isolated.xyann[1] == pytest.approx(level, abs=0.06)  # beside its line


def test_apart_moves_as_little_as_it_may():
    # Two that collide part evenly; one that stands alone stays; the order is kept.
    assert plots._apart([5, 0, 5.5], 1, -10, 10) == pytest.approx([4.75, 0, 5.75])
    assert plots._apart([9.9, 9.8], 1, 0, 10) == pytest.approx([10, 9])
    assert plots._apart([0.1, 0], 1, 0, 10) == pytest.approx([1, 0])


def history(scale=1.0, epochs=6, best=4):
    x = np.arange(1, epochs + 1)
    return {"loss": scale / x, "validation": scale * (1 + (x - best) ** 2 / 10)}


def test_learning_curves_mark_the_best_epoch():
    ax = plots.learning_curves(history())
    assert artist(ax, "validation").get_ydata()[3] == 1
    assert artist(ax, "training").get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert artist(ax, "best").get_xdata() == [4, 4]
    assert ax.texts[0].get_text() == "best: epoch 4"
    star = next(line for line in ax.lines if line.get_marker() == "*")
    assert star.get_xydata().tolist() == [[4, 1]]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "loss", "linear")
    styles = [(line.get_color(), line.get_linestyle()) for line in ax.lines[:2]]
    assert styles[0][0] != styles[1][0] and styles[0][1] != styles[1][1]


def test_learning_curves_without_validation_and_with_gaps():
    ax = plots.learning_curves({"loss": [3.0, 1.0, 2.0]})
    assert ax.texts[0].get_text() == "best: epoch 2"
    ax = plots.learning_curves({"loss": [3.0, 2.0, 1.0], "validation": [np.nan, 2.0, np.nan]})
    assert ax.texts[0].get_text() == "best: epoch 2"
    assert artist(ax, "validation").get_xydata().tolist() == [[2, 2]]


def test_learning_curves_go_logarithmic_beyond_two_decades():
    assert plots.learning_curves({"loss": [99.0, 1.0]}).get_yscale() == "linear"
    assert plots.learning_curves({"loss": [101.0, 1.0]}).get_yscale() == "log"
    assert plots.learning_curves({"loss": [101.0, -1.0]}).get_yscale() == "linear"


def test_learning_curves_of_several_runs():
    runs = {"RNN": [history(1.0), history(3.0), history(2.0, epochs=5)], "linear": history(9.0)}
    ax = plots.learning_curves(runs)
    middle = artist(ax, "RNN training")
    assert middle.get_ydata() == pytest.approx(2 / np.arange(1, 6))  # as far as all went
    assert band_at(artist(ax, "spread:RNN training"), 1) == (1, 3)
    wanted = {"RNN training": 2 / 5, "RNN validation": 2 * 1.1}
    wanted |= {"linear training": 9 / 6, "linear validation": 9 * 1.4}
    assert_labels_apart_and_near(ax, wanted)


def test_best_epoch_of_seeds_is_one_that_was_validated():
    # validated at epochs 2 and 4; the medians there are 2 and 3
    runs = [
        {"loss": [4.0, 3, 2, 1], "validation": [np.nan, best, np.nan, 3.0]} for best in (1.0, 2, 3)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plots.learning_curves(runs)
        assert artist(ax, "validation").get_xydata().tolist() == [[2, 2], [4, 3]]
        assert ax.texts[0].get_text() == "best: epoch 2"
        assert band_at(artist(ax, "spread:validation"), 2) == (1, 3)


def test_labels_of_learning_curves_may_be_numbers_and_words_of_the_history():
    ax = plots.learning_curves({0: history(), 1: [history(2.0), history(3.0)]})
    assert artist(ax, "0 training") and artist(ax, "spread:1 validation")
    ax = plots.learning_curves({"loss": history(), "validation": [history(2.0)]})
    assert artist(ax, "loss training") and artist(ax, "validation validation")
    ax = plots.learning_curves({"loss": [history(), history(2.0)]})
    assert artist(ax, "spread:loss training")
    with pytest.raises(TypeError, match=r"history\[0\] must be a training history"):
        plots.learning_curves({0: 3})


def test_a_real_history_plots_itself():
    training = pytest.importorskip("companion.training")
    ax = training.History(loss=[2.0, 1.0, 0.5], validation=[2.0, 0.9, 1.1]).plot()
    assert ax.texts[0].get_text() == "best: epoch 2"


@pytest.mark.parametrize("log", [False, True])
def test_lines_with_spread(log):
    runs = {"RNN": [[1, 2, 6], [3, 4, 5], [2, 9, 7]], "persistence": [3, 5, 8]}
    ax = plots.lines_with_spread(
        [1, 2, 3], runs, x_label="lead (months)", y_label="error (°C)", log=log
    )
    assert artist(ax, "RNN").get_ydata().tolist() == [2, 4, 6]
    assert band_at(artist(ax, "spread:RNN"), 2) == (2, 9)
    assert sum((c.get_gid() or "").startswith("spread:") for c in ax.collections) == 1
    assert ax.get_yscale() == ("log" if log else "linear")
    if log:
        ax.set_ylim(0.4, 6)
        shown = [label.get_text() for label in ax.get_yticklabels()]
        assert {"0.5", "1", "2", "5"} <= set(shown)  # no powers of ten for numbers like these
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lead (months)", "error (°C)")
    assert artist(ax, "RNN").get_marker() != artist(ax, "persistence").get_marker()
    assert_labels_apart_and_near(ax, {"RNN": 6, "persistence": 8})


def test_lines_with_every_run():
    runs = {"RNN": [[1, 2], [3, 4], [2, 9]]}
    ax = plots.lines_with_spread([1, 2], runs, centre="mean", spread="runs")
    assert artist(ax, "RNN").get_ydata().tolist() == [2, 5]
    thin = [line for line in ax.lines if line.get_gid() == "run:RNN"]
    assert [line.get_ydata().tolist() for line in thin] == runs["RNN"]


def test_gradient_by_lag():
    sizes = {"linear": np.array([1.0, 2, 4]), "shut": np.array([[1.0, 1], [0.5, 0.1], [0, 0.2]])}
    ax = plots.gradient_by_lag(sizes, y_label="norm", title="t")
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "lag (steps back)"
    assert artist(ax, "linear").get_ydata().tolist() == [1, 2, 4]
    middle = artist(ax, "shut").get_ydata()
    assert middle[:2].tolist() == [1, 0.3] and np.isnan(middle[2])  # the line breaks off
    assert band_at(artist(ax, "spread:shut"), 1) == (0.1, 0.5)
    assert list(ax.lines[0].get_ydata()) == [1, 1]  # the faint line at 1
    assert_labels_apart_and_near(ax, {"linear": 4, "shut": 0.3})


@pytest.mark.parametrize(
    ("sizes", "error", "words"),
    [
        ([1, 2], TypeError, "sizes_by_name must be a mapping"),
        ({}, ValueError, "must be 1 to 7 names, got 0"),
        ({"a": [[[1]]]}, ValueError, r"sizes_by_name\['a'\] must be \(lags,\) or \(lags, runs\)"),
        ({"a": [1, -1]}, ValueError, "must be at least 0, got -1"),
        ({"a": [0, 0]}, ValueError, "must be above 0 somewhere, got zeros alone"),
        ({"a": [1, np.inf]}, ValueError, "must be finite, got inf at index"),
    ],
)
def test_gradient_by_lag_says_what_is_wrong(sizes, error, words):
    with pytest.raises(error, match=words):
        plots.gradient_by_lag(sizes)


Q = {0.05: [1], 0.25: [2], 0.5: [3], 0.75: [4], 0.95: [5]}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plots.heat_map([1, 2]), ValueError, r"values must be 2-dimensional, got shape"),
        (lambda: plots.heat_map([["a"]]), TypeError, "values must be an array of numbers"),
        (lambda: plots.heat_map([["1"]]), TypeError, "values must be an array of numbers"),
        (lambda: plots.heat_map([[1j]]), TypeError, "values must be an array of numbers"),
        (
            lambda: plots.heat_map(torch.ones(1, 1, dtype=torch.cfloat)),
            TypeError,
            "values must be an array of numbers, got",
        ),
        (lambda: plots.heat_map([[1]], x_labels=3), TypeError, "x_labels must be a seq.*, got 3"),
        (
            lambda: plots.heat_map([[1]], annotate=True, fmt="d"),
            ValueError,
            "fmt must be a format of a float, such as '.2f', got 'd'",
        ),
        (
            lambda: plots.lines_with_spread(np.array([30, 31], "datetime64[D]"), {"a": [1, 2]}),
            TypeError,
            "x must be an array of numbers",
        ),
        (
            lambda: plots.forecast_fan([1], Q, dates=[object(), object()]),
            TypeError,
            "dates must be dates or numbers",
        ),
        (lambda: plots.heat_map([[np.inf]]), ValueError, r"values must be finite.*index \(0, 0\)"),
        (lambda: plots.heat_map([[np.nan]]), ValueError, "values must be numbers, not NaN"),
        (lambda: plots.heat_map(np.ones((0, 2))), ValueError, "values must be not empty"),
        (lambda: plots.heat_map([[1, 2]], x_labels="abc"), ValueError, "x_labels must be 2 labels"),
        (lambda: plots.heat_map([[1, 2]], y_labels="ab"), ValueError, "y_labels must be 1 labels"),
        (lambda: plots.heat_map([[1]], ax=1), TypeError, "ax must be a matplotlib Axes"),
        (lambda: plots.forecast_fan([], SAMPLES), ValueError, "history must be not empty"),
        (lambda: plots.forecast_fan([np.nan], SAMPLES), ValueError, "history must be finite"),
        (lambda: plots.forecast_fan([1], SAMPLES[:1]), ValueError, "at least 2 samples"),
        (lambda: plots.forecast_fan([1], SAMPLES, [1]), ValueError, "truth must be 2 values"),
        (lambda: plots.forecast_fan([1], {0.5: [1]}), ValueError, "must be the quantiles"),
        (lambda: plots.forecast_fan([1], Q | {0.5: [9]}), ValueError, "quantiles in order"),
        (lambda: plots.forecast_fan([1], Q | {0.5: [3, 3]}), ValueError, "of one length"),
        (lambda: plots.forecast_fan([1], Q, dates=[1]), ValueError, "dates must be 2 times"),
        (lambda: plots.forecast_fan([1], Q, dates=[2, 1]), ValueError, "dates must be increasing"),
        (lambda: plots.learning_curves(3), TypeError, "history must be a training history"),
        (lambda: plots.learning_curves([]), ValueError, "history must be at least one run"),
        (lambda: plots.learning_curves({}), ValueError, "history must be at least one run"),
        (lambda: plots.learning_curves({"loss": []}), ValueError, "history.loss must be not empty"),
        (
            lambda: plots.learning_curves({"a": [{"loss": [1, np.nan]}]}),
            ValueError,
            r"history\['a'\]\[0\].loss must be finite, got nan at index \(1,\)",
        ),
        (
            lambda: plots.learning_curves({"loss": [1, 2], "validation": [1]}),
            ValueError,
            "history.validation must be 2 values, got 1",
        ),
        (lambda: plots.lines_with_spread([2, 1], {"a": [1, 2]}), ValueError, "x must be incr"),
        (lambda: plots.lines_with_spread([1, 2], [[1, 2]]), TypeError, "must be a mapping"),
        (lambda: plots.lines_with_spread([1, 2], {}), ValueError, "must be 1 to 7 names, got 0"),
        (
            lambda: plots.lines_with_spread([1, 2], {"a": [1, 2, 3]}),
            ValueError,
            r"runs_by_name\['a'\] must be \(seeds, 2\), got \(1, 3\)",
        ),
        (lambda: plots.lines_with_spread([1], {"a": [0]}, log=True), ValueError, "positive"),
        (lambda: plots.lines_with_spread([1], {"a": [1]}, centre="x"), ValueError, "centre must"),
        (lambda: plots.lines_with_spread([1], {"a": [1]}, spread="x"), ValueError, "spread must"),
    ],
)
def test_pictures_refuse(call, error, words):
    with pytest.raises(error, match=words):
        call()
