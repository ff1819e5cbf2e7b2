"""Layers with ``torch.nn``'s interface: one call of the vendor's kernel, or a plain composition."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import at_least, one_of, real
from . import _fused
from ._sequence import check_batch_size, check_features, check_like, check_steps
from .cells import RNNCell, RNNState
from .layers import Bidirectional, BidirectionalState, Stack, Unroll


class RNN(nn.Module):
    r"""The vanilla RNN: ``torch.nn.RNN``'s constructor, return values, numbers and speed.

    .. math::

        h_t^{(l)} = \phi(h_t^{(l-1)} W_{xh}^{(l)} + h_{t-1}^{(l)} W_{hh}^{(l)} + b_h^{(l)}),
        \qquad h_t^{(0)} = x_t

    There are two roads with the same numbers and gradients: one call of the vendor's kernel for
    the whole stack (the default), or the readable composition of the layers in ``stack``, step by
    step (``loop=True``). Both read the same weights, which the cells in ``stack`` own. Hooks on a
    cell fire on the second road alone, and a cell put in the place of another is taken there.

    Parameters
    ----------
    input_size : int
        D, the number of features of one step.
    hidden_size : int
        H, the number of hidden units of each layer and direction.
    num_layers : int
        How many layers stand on top of each other.
    nonlinearity : {"tanh", "relu"}
        The activation :math:`\phi`.
    bias : bool
        Whether the steps add :math:`b_h`.
    batch_first : bool
        Whether inputs and outputs are (B, T, ...) rather than (T, B, ...); states never are.
    dropout : float
        Probability of dropping an output of any layer but the last, in training.
    bidirectional : bool
        Whether each layer reads in both directions.
    device, dtype
        Where and how the weights are stored.
    loop : bool
        Whether to take the readable road. It can be set as an attribute too.
    generator : torch.Generator, optional
        Source of the initial weights, drawn as PyTorch draws them; the global one by default.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; when called, if ``x``, ``state`` or ``lengths`` does not
        fit.

    References
    ----------
    Elman (1990), "Finding structure in time", Cognitive Science 14, figure 2.

    Examples
    --------
    >>> import torch
    >>> layer = RNN(3, 4, num_layers=2, bidirectional=True)
    >>> y, h_n = layer(torch.ones(5, 2, 3), lengths=[2, 5])
    >>> y.shape, h_n.shape
    (torch.Size([5, 2, 8]), torch.Size([4, 2, 4]))
    """

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        nonlinearity="tanh",
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        device=None,
        dtype=None,
        *,
        loop=False,
        generator=None,
    ):
        super().__init__()
        self.input_size = at_least("input_size", input_size, 1)
        self.hidden_size = at_least("hidden_size", hidden_size, 1)
        self.num_layers = at_least("num_layers", num_layers, 1)
        self.nonlinearity = one_of("nonlinearity", nonlinearity, ("tanh", "relu"))
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        if not 0 <= real("dropout", dropout) <= 1:
            raise ValueError(f"dropout must be a probability, got {dropout!r}")
        self.dropout = float(dropout)
        if dropout and num_layers == 1:
            warnings.warn(
                "dropout acts between layers, so it does nothing with num_layers=1, "
                f"got dropout={dropout}",
                stacklevel=2,
            )
        self.bidirectional = bool(bidirectional)
        self.loop = bool(loop)

        def unroll(size, reverse=False):
            cell = RNNCell(
                size, hidden_size, bias, nonlinearity, device, dtype, generator=generator
            )
            return Unroll(cell, reverse, loop=True)

        layers, size = [], input_size
        for _ in range(num_layers):
            if bidirectional:
                layers.append(Bidirectional(unroll(size), unroll(size, reverse=True)))
            else:
                layers.append(unroll(size))
            size = hidden_size * (1 + self.bidirectional)
        self.stack = Stack(*layers)
        self.flatten_parameters()

    @property
    def cells(self):
        """The cells in the order of ``h_n``, layer by layer, direction by direction."""
        return [part.cell for layer in self.stack.layers for part in _directions(layer)]

    def reset_parameters(self, generator=None):
        """Draw all weights anew, as the constructor does."""
        for cell in self.cells:
            cell.reset_parameters(generator)

    def initial_state(self, batch_size):
        """Return the state before the first step: zeros of shape (layers * directions, B, H)."""
        batch_size = check_batch_size(batch_size)
        weight = next(self.parameters())
        return weight.new_zeros(len(self.cells), batch_size, self.hidden_size)

    def forward(self, x, state=None, lengths=None):
        """Run the sequences.

        Parameters
        ----------
        x : Tensor of shape (T, B, D), (B, T, D) if ``batch_first``, or (T, D) for one sequence
            The inputs; what stands past a sequence's end never matters.
        state : Tensor of shape (layers * directions, B, H), optional
            The states before the first step, without B for one sequence; zeros by default.
        lengths : sequence of B int, optional
            Each sequence's number of steps, in any order; T by default.

        Returns
        -------
        y : Tensor of shape (T, B, H * directions), or as ``x`` is arranged
            The last layer's output of every step, zero past each sequence's end.
        state : Tensor of shape (layers * directions, B, H)
            The state of every layer and direction at each sequence's own end.
        """
        weight = next(self.parameters())
        single = isinstance(x, Tensor) and x.dim() == 2
        axes = ("T",) if single else ("B", "T") if self.batch_first else ("T", "B")
        check_features("x", x, axes, self.input_size, weight)
        given, x = x, x[:, None] if single else x.transpose(0, 1) if self.batch_first else x
        lengths = check_steps(x, lengths, given, f"({', '.join(axes)}, D)")
        start = self.initial_state(x.shape[1])
        if state is None:
            state = start
        elif single:
            state = self._checked(state, start[:, 0], "H")[:, None]
        else:
            state = self._checked(state, start, "B, H")
        road = self._fused if self._has_kernel() and not self.loop else self._step_by_step
        y, state = road(x, state, lengths)
        if single:
            return y[:, 0], state[:, 0]
        return (y.transpose(0, 1) if self.batch_first else y), state

    @staticmethod
    def _checked(state, start, axes):
        if not isinstance(state, Tensor):
            raise TypeError(f"state must be a torch.Tensor, got {type(state).__name__}")
        if state.shape != start.shape:
            raise ValueError(
                f"state must be {tuple(start.shape)} (layers * directions, {axes}), "
                f"got {tuple(state.shape)}"
            )
        check_like("state", state, start)
        return state

    def _has_kernel(self):
        """Whether all cells still are what the kernel computes."""
        return all(
            type(cell).forward is RNNCell.forward
            and (cell.nonlinearity, cell.bias) == (self.nonlinearity, self.bias)
            for cell in self.cells
        )

    def _fused(self, x, state, lengths):
        return _fused.run(
            _fused.KERNELS[self.nonlinearity],
            [weight for _, weight in self._torch_parameters()],
            x,
            state,
            lengths,
            bias=self.bias,
            num_layers=self.num_layers,
            dropout=self.dropout,
            training=self.training,
            bidirectional=self.bidirectional,
            bounded=self.nonlinearity == "tanh",
        )

    def _step_by_step(self, x, state, lengths):
        before, after = iter(state), []
        for i, layer in enumerate(self.stack.layers):
            if i:
                x = F.dropout(x, self.dropout, self.training)
            start = [RNNState(next(before)) for _ in _directions(layer)]
            if self.bidirectional:
                x, end = layer(x, BidirectionalState(*start), lengths)
                after += [end.ahead.h, end.back.h]
            else:
                x, end = layer(x, start[0], lengths)
                after.append(end.h)
        return x, torch.stack(after)

    def _torch_parameters(self):
        """Yield (name in ``torch.nn.RNN``, weight), in its order."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        for i, cell in enumerate(self.cells):
            layer, direction = divmod(i, len(directions))
            for name, weight in cell.weights.items():
                yield f"{name}_l{layer}{directions[direction]}", weight

    def flatten_parameters(self):
        """Lay the weights side by side for a CUDA kernel; does nothing on other devices.

        It runs by itself when the layer is made or moved; call it after a ``deepcopy``.
        """
        if not self._has_kernel():
            return
        names, weights = zip(*self._torch_parameters(), strict=True)
        if all(weight.is_cuda and isinstance(weight, nn.Parameter) for weight in weights):
            _fused.flatten(self._empty_torch(device="meta"), names, weights)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.flatten_parameters()
        return self

    def _empty_torch(self, **factory):
        return nn.RNN(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.nonlinearity,
            self.bias,
            self.batch_first,
            bidirectional=self.bidirectional,
            **factory,
        )

    @classmethod
    def from_torch(cls, module, *, loop=False):
        """Make a layer with the shape and a copy of the weights of a ``torch.nn.RNN``.

        Parameters
        ----------
        module : torch.nn.RNN
            Its dtype, device and training mode are kept.
        loop : bool
            As in the constructor.

        Returns
        -------
        RNN

        Raises
        ------
        TypeError
            If ``module`` is no ``torch.nn.RNN``.
        ValueError
            If ``module`` projects its hidden state (``proj_size``).
        """
        if getattr(module, "proj_size", 0):
            raise ValueError(f"module must have proj_size=0, got {module.proj_size}")
        if not isinstance(module, nn.RNN):
            raise TypeError(f"module must be a torch.nn.RNN, got {type(module).__name__}")
        weight = module.weight_hh_l0
        layer = cls(
            module.input_size,
            module.hidden_size,
            module.num_layers,
            module.nonlinearity,
            module.bias,
            module.batch_first,
            bidirectional=module.bidirectional,
            device="meta",  # nothing is drawn
            dtype=weight.dtype,
            loop=loop,
        ).to_empty(device=weight.device)
        layer.dropout = float(module.dropout)
        for name, target in layer._torch_parameters():
            _copy(getattr(module, name), target)
        return layer.train(module.training)

    def to_torch(self):
        """Return a ``torch.nn.RNN`` with a copy of the weights, dtype, device and mode kept."""
        weight = self.cells[0].weight_hh
        module = self._empty_torch(device="meta", dtype=weight.dtype)
        module = module.to_empty(device=weight.device)
        module.dropout = self.dropout
        for name, source in self._torch_parameters():
            _copy(source, getattr(module, name))
        return module.train(self.training)

    def extra_repr(self):
        shown = [str(self.input_size), str(self.hidden_size)]
        defaults = {
            "num_layers": 1, "nonlinearity": "tanh", "bias": True, "batch_first": False,
            "dropout": 0.0, "bidirectional": False, "loop": False,
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(shown)


def _directions(layer):
    """The one or two ``Unroll`` of a layer of the stack."""
    return (layer.ahead, layer.back) if isinstance(layer, Bidirectional) else (layer,)


def _copy(source, target):
    with torch.no_grad():
        target.copy_(source)
    target.requires_grad_(source.requires_grad)
