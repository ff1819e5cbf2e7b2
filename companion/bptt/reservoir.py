"""Reservoirs: recurrent weights stay as they were drawn, and only the readout is fitted."""

import math
import warnings

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, eigs
from torch import nn

from companion._arrays import as_generator, as_numbers
from companion._checks import at_least, positive, real
from companion.recurrent import Leaky, RNNState, Stack, Unroll
from companion.recurrent._sequence import check_batch_size, check_features

__all__ = ["EchoState"]

# The readout's columns are factorised this many times their number at once: more would take
# memory, fewer would make the old factor, which goes in again each time, the larger part.
_ROWS = 4
_DENSE = 500  # up to this many units all eigenvalues are cheap


class EchoState(Stack):
    r"""An echo state network: a large random recurrent layer and a linear readout fitted to it.

    .. math::

        h_t &= (1 - \alpha) h_{t-1} + \alpha \tanh(x_t W_{xh} + h_{t-1} W_{hh} + b_h) \\
        \hat y_t &= h_t W_{hy} + b_y

    :math:`W_{xh}`, :math:`W_{hh}` and :math:`b_h` are drawn once and never changed: they are the
    *reservoir*. ``fit`` finds :math:`W_{hy}` and :math:`b_y` by ridge regression, in closed form:
    they minimise

    .. math:: \sum_t \lVert \hat y_t - y_t \rVert^2 + \text{ridge} \cdot \lVert W_{hy} \rVert^2 .

    No gradient passes through time, and none is needed. The network is a ``Stack`` of a leaky
    recurrent layer and a ``Linear``: it maps (T, B, D) to (T, B, K), carries its state from call to
    call, and ``companion.recurrent.free_run`` lets it go on by itself.

    A step costs about 0.1 ms, and more where there are tens of thousands of connections. The fit to
    T steps costs some 3 T H² operations; its memory does not grow with T. With 2,000 units, of
    whose recurrent weights 0.5 % are not zero, a fit to 50,000 steps took a minute and 1.2 GB on
    one core.

    Parameters
    ----------
    input_size : int
        D, the number of features of one step.
    units : int
        H, the number of units of the reservoir.
    output_size : int, optional
        K, the number of outputs; D by default.
    radius : float
        Spectral radius of :math:`W_{hh}`, the size of its largest eigenvalue, above 0. Below 1 the
        reservoir usually forgets how it started, but see section 4.6 of the book.
    leak : float or array of shape (H,)
        :math:`\alpha`, above 0 and at most 1: the share of a unit's state that a step replaces.
    sparsity : float
        Share of the recurrent weights that are zero, from 0 to below 1.
    input_scale : float or array of shape (D,)
        Input weights are uniform between plus and minus this number.
    bias_scale : float
        Biases :math:`b_h` are uniform between plus and minus this number.
    ridge : float
        Weight of the penalty on the readout, above 0. It counts against a *sum* over steps.
    seed : int or numpy.random.Generator
        Where the reservoir is drawn from.
    device, dtype
        Where and how the weights are stored. Double precision by default: units are so alike that
        the readout depends on late digits of their states.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or outside its range; if the reservoir cannot be scaled
        to the radius, since it is so sparse that no unit reaches itself again and all eigenvalues
        are zero. When called: if it was not fitted, or on an input that does not fit.

    References
    ----------
    Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks,
    GMD report 148, equations 1, 2 and 21. Lukoševičius (2012), A practical guide to applying echo
    state networks, equations 2 to 4 and 9.

    Examples
    --------
    >>> x = torch.sin(torch.arange(300.0, dtype=torch.float64) / 5).reshape(-1, 1, 1)
    >>> network = EchoState(1, 50, seed=0)
    >>> state = network.fit(x[:-1], x[1:], washout=50)   # the next value
    >>> y, state = network(x)
    >>> bool((y[50:-1] - x[51:]).abs().max() < 1e-3)
    True
    """

    def __init__(
        self,
        input_size,
        units,
        output_size=None,
        *,
        radius=0.9,
        leak=1.0,
        sparsity=0.9,
        input_scale=1.0,
        bias_scale=0.0,
        ridge=1e-6,
        seed,
        device=None,
        dtype=torch.float64,
    ):
        input_size = at_least("input_size", input_size, 1)
        units = at_least("units", units, 1)
        output_size = at_least("output_size", input_size if output_size is None else output_size, 1)
        input_scale = as_numbers("input_scale", input_scale).astype(float)
        if input_scale.shape not in ((), (input_size,)) or not np.isfinite(input_scale).all():
            raise ValueError(
                f"input_scale must be one finite number or ({input_size},), got {input_scale}"
            )
        if not math.isfinite(real("bias_scale", bias_scale)):
            raise ValueError(f"bias_scale must be finite, got {bias_scale}")
        ridge = positive("ridge", ridge)
        rng = as_generator(seed)
        W_hh = _reservoir(units, positive("radius", radius), sparsity, rng)
        W_xh = input_scale.reshape(-1, 1) * rng.uniform(-1, 1, (input_size, units))
        b_h = bias_scale * rng.uniform(-1, 1, units)

        cell = _FixedCell(W_xh, W_hh, b_h, device, dtype)
        readout = nn.Linear(units, output_size, device=device, dtype=dtype)
        super().__init__(Unroll(Leaky(cell, leak)), readout)
        self.ridge = ridge
        size = 1 + units + output_size
        self.register_buffer("factor", torch.zeros(size, size, device=device, dtype=dtype))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64, device=device))
        self.requires_grad_(False)

    @property
    def W_hy(self):
        """Hidden to output, (H, K), what ``fit`` found."""
        return self[1].weight.T

    @property
    def b_y(self):
        """Bias of the outputs, (K,), what ``fit`` found."""
        return self[1].bias

    def reservoir(self, x, state=None):
        """Run the reservoir alone: the states that the readout sees.

        Parameters
        ----------
        x : Tensor of shape (T, B, D)
            The inputs.
        state : tuple, optional
            As ``forward`` and ``fit`` return it; zeros by default.

        Returns
        -------
        h : Tensor of shape (T, B, H)
            The state after every step.
        state : tuple
            What to go on from.
        """
        h, end = self[0](x, None if state is None else state[0])
        return h, (end, None)

    def fit(self, x, y, washout=0, state=None):
        """Fit the readout to one stretch of data, all earlier ones forgotten.

        Parameters
        ----------
        x : Tensor of shape (T, B, D)
            The inputs.
        y : Tensor of shape (T, B, K)
            What the outputs should be.
        washout : int
            Steps at the start that only drive the reservoir, so that its own start is forgotten;
            the fit leaves them out.
        state : tuple, optional
            The state before the first step; zeros by default.

        Returns
        -------
        tuple
            The state after the last step.

        Raises
        ------
        TypeError, ValueError
            If ``x`` or ``y`` has another shape, dtype or device than asked for, is not finite, or
            if ``washout`` leaves no step to fit.
        """
        return self._take_in(torch.zeros_like(self.factor), 0, x, y, washout, state)

    def partial_fit(self, x, y, washout=0, state=None):
        """Take in one more stretch of data: the fit is then to all since the last ``fit``.

        With ``state``, a stretch goes on where the one before ended and wants no washout. What is
        kept is one triangular matrix of H + K + 1 rows, whatever the number of steps. Each call
        solves for the readout anew, so stretches of several times H steps serve best.

        Parameters
        ----------
        x, y, washout, state
            As for ``fit``.

        Returns
        -------
        tuple
            The state after the last step.
        """
        return self._take_in(self.factor, int(self.rows), x, y, washout, state)

    def forward(self, x, state=None, lengths=None):
        """Read a sequence and give the output of every step.

        Memory does not grow with T but for ``x`` and the outputs, unless gradients are asked for
        or there are ``lengths``.

        Parameters
        ----------
        x : Tensor of shape (T, B, D)
            The inputs, time first.
        state : tuple, optional
            The state before the first step, as another call returned it; zeros by default.
        lengths : sequence of B int, optional
            Each sequence's number of steps.

        Returns
        -------
        y : Tensor of shape (T, B, K)
            The output of every step.
        state : tuple
            The state after the last step, for the next call.
        """
        if not self.rows:
            raise ValueError("network must be fitted before it can answer, got no fit(x, y) yet")
        if lengths is not None or getattr(x, "ndim", 0) != 3 or not x.numel():
            return super().forward(x, state, lengths)  # which also says what is wrong with x
        outputs = []
        for part in x.split(self._piece(x)):
            y, state = super().forward(part, state)
            outputs.append(y)
        return torch.cat(outputs), state

    def _piece(self, x):
        """How many steps to take at once."""
        return max(1, _ROWS * len(self.factor) // x.shape[1])

    @torch.no_grad()
    def _take_in(self, factor, rows, x, y, washout, state):
        """Bring ``factor``, the triangular factor of all rows [1, h, y] so far, up to date."""
        K = self[1].out_features
        check_features("x", x, ("T", "B"), self[0].cell.input_size, self.factor)
        check_features("y", y, ("T", "B"), K, self.factor)
        if x.shape[:2] != y.shape[:2]:
            raise ValueError(f"y must be {(*x.shape[:2], K)}, as x is, got {tuple(y.shape)}")
        washout = at_least("washout", washout, 0)
        if washout >= len(x):
            raise ValueError(f"washout must be below T = {len(x)}, got {washout}")
        for name, value in (("x", x), ("y", y)):
            if not value.isfinite().all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")
        piece = self._piece(x)
        for start in range(0, len(x), piece):
            h, state = self.reservoir(x[start : start + piece], state)
            h = h[max(0, washout - start) :]
            if not len(h):
                continue
            target = y[start : start + piece][-len(h) :]
            new = torch.cat([torch.ones_like(h[..., :1]), h, target], -1).flatten(0, 1)
            # R'R is the sum of products in the normal equations; those square the condition
            # number, and with it half of the digits would be lost.
            factor = torch.linalg.qr(torch.cat([factor, new]), mode="r").R
        self._solve(factor, K)
        self.factor.copy_(factor)
        self.rows.fill_(rows + (len(x) - washout) * x.shape[1])
        return state

    def _solve(self, factor, K):
        """Find the readout: least squares with a row more for each weight, sqrt(ridge) w = 0."""
        n = len(factor) - K
        penalty = math.sqrt(self.ridge) * torch.eye(n, len(factor)).to(factor)[1:]  # b_y is free
        R = torch.linalg.qr(torch.cat([factor, penalty]), mode="r").R
        solution = torch.linalg.solve_triangular(R[:n, :n], R[:n, n:], upper=True)
        self.b_y.copy_(solution[0])
        self[1].weight.copy_(solution[1:].T)


class _FixedCell(nn.Module):
    """The vanilla RNN's step with weights that are given and stay, the recurrent ones sparse."""

    def __init__(self, W_xh, W_hh, b_h, device, dtype):
        super().__init__()
        self.input_size, self.hidden_size = W_xh.shape
        transposed = W_hh.T.tocsr()
        for name, values in (("W_xh", W_xh), ("b_h", b_h), ("values", transposed.data)):
            self.register_buffer(name, torch.as_tensor(values, device=device, dtype=dtype))
        for name, indices in (("starts", transposed.indptr), ("columns", transposed.indices)):
            self.register_buffer(name, torch.as_tensor(indices, device=device, dtype=torch.int64))
        with warnings.catch_warnings():  # the first sparse tensor says that they are new
            warnings.simplefilter("ignore")
            self._transposed()

    def _transposed(self):
        """W_hh transposed, as a sparse tensor."""
        size = (self.hidden_size, self.hidden_size)
        return torch.sparse_csr_tensor(
            self.starts, self.columns, self.values, size, check_invariants=False
        )

    @property
    def W_hh(self):
        """Hidden to hidden, (H, H), zeros and all."""
        return self._transposed().to_dense().T

    def initial_state(self, batch_size):
        """Return the state before the first step: zeros of shape (B, H)."""
        batch_size = check_batch_size(batch_size)
        return RNNState(self.b_h.new_zeros(batch_size, self.hidden_size))

    def forward(self, x_t, state=None):
        """Take one step."""
        check_features("x_t", x_t, ("B",), self.input_size, self.b_h)
        if state is None:
            state = self.initial_state(len(x_t))
        a = x_t @ self.W_xh + (self._transposed() @ state[0].T).T + self.b_h
        return RNNState(torch.tanh(a))

    def extra_repr(self):
        return f"{self.input_size}, {self.hidden_size}, connections={len(self.values)}"


def _reservoir(units, radius, sparsity, rng):
    """Draw a sparse matrix of normal numbers, scaled to the radius."""
    if not 0 <= real("sparsity", sparsity) < 1:
        raise ValueError(f"sparsity must be from 0 to below 1, got {sparsity}")
    count = round((1 - sparsity) * units**2)
    row, column = np.divmod(rng.choice(units**2, count, replace=False), units)
    weights = sparse.csr_array((rng.standard_normal(count), (row, column)), (units, units))
    largest = _spectral_radius(weights)
    if not largest:
        raise ValueError(
            f"sparsity must leave connections that form a cycle, got {sparsity}: with {count} of "
            f"them among {units} units all eigenvalues are zero, and no factor gives a radius"
        )
    return weights * (radius / largest)


def _spectral_radius(matrix):
    """Return the size of the largest eigenvalue of a sparse matrix of random weights."""
    # Only units on a cycle matter: the others make the matrix block triangular, with zeros in
    # their diagonal blocks. If there is no cycle, the matrix is nilpotent.
    _, part = connected_components(matrix, connection="strong")
    on_cycle = (np.bincount(part)[part] > 1) | (matrix.diagonal() != 0)
    core = matrix[on_cycle][:, on_cycle]
    if not core.shape[0]:
        return 0.0
    if core.shape[0] > _DENSE:
        try:
            start = np.ones(core.shape[0])  # else it would be drawn
            return float(abs(eigs(core, k=6, v0=start, return_eigenvectors=False)).max())
        except ArpackNoConvergence:
            pass
    return float(abs(np.linalg.eigvals(core.toarray())).max())
