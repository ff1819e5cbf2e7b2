"""Gradient flow against torch's own Jacobians of the composed steps, autograd and powers."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from companion.bptt import GradientFlow, gradient_by_lag, weight_gradient_by_step
from companion.recurrent import RNNCell, RNNState, Unroll


class GatedState(NamedTuple):
    h: Tensor
    c: Tensor


class Gated(nn.Module):
    """A user's own cell with two fields: an LSTM's equations with one joined weight."""

    def __init__(self, input_size, hidden_size, forget_bias=0.3):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight = nn.Parameter(torch.randn(input_size + hidden_size, 4 * hidden_size) * 0.7)
        self.bias = nn.Parameter(torch.randn(4 * hidden_size) * 0.2 + forget_bias)

    def initial_state(self, batch_size):
        nought = self.weight.new_zeros(batch_size, self.hidden_size)
        return GatedState(nought, nought)  # one tensor twice

    def forward(self, x_t, state):
        a = torch.cat([x_t, state.h], 1) @ self.weight + self.bias
        f, i, o, g = a.chunk(4, 1)
        c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
        return GatedState(o.sigmoid() * c.tanh(), c)


class Inner(NamedTuple):
    trace: Tensor
    steps: Tensor


class NestedState(NamedTuple):
    h: Tensor
    inner: Inner
    level: Tensor


class Nested(nn.Module):
    """Fields of several shapes, one inside another, and one that counts in whole numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3) * 0.6)

    def initial_state(self, batch_size):
        new = self.weight.new_zeros
        steps = torch.zeros(batch_size, dtype=torch.int64, device=self.weight.device)
        return NestedState(new(batch_size, 3), Inner(new(batch_size, 2, 2), steps), new(batch_size))

    def forward(self, x_t, state):
        trace = 0.8 * state.inner.trace + torch.einsum("bi,bj->bij", x_t, state.h[:, :2]).tanh()
        level = 0.5 * state.level + state.h.square().sum(1)
        drive = x_t.sum(1) + trace.sum((1, 2))
        h = torch.tanh(state.h @ self.weight + drive[:, None]) * torch.cos(level)[:, None]
        return NestedState(h, Inner(trace, state.inner.steps + 1), level)


def awake():
    """A ReLU cell of which some units are open at every step."""
    cell = RNNCell(2, 4, nonlinearity="relu")
    nn.init.constant_(cell.bias_ih, 0.6)
    return cell


CELLS = {
    "tanh": lambda: RNNCell(2, 4),
    "relu": awake,
    "gated": lambda: Gated(2, 3),
    "nested": Nested,
}


def made(name, steps=6, batch=3, seed=0):
    """A cell in float64, inputs, and a state that is zero nowhere."""
    torch.manual_seed(seed)
    cell = CELLS[name]().double()
    x = torch.randn(steps, batch, 2, dtype=torch.float64)
    state = perturbed(cell.initial_state(batch))
    return cell, x, state


def perturbed(state):
    if isinstance(state, Tensor):
        return torch.randn_like(state) if state.is_floating_point() else state
    return type(state)(*map(perturbed, state))


def flat(state):
    """Entries of one sequence's state that have a derivative, side by side."""
    if isinstance(state, Tensor):
        return [state.flatten()] if state.is_floating_point() else []
    return [part for field in state for part in flat(field)]


def rebuilt(like, row):
    """The inverse of flat for a batch of one, written apart from the code under test."""
    row = list(row.split([part.numel() for part in flat(like)]))

    def build(part):
        if isinstance(part, Tensor):
            return row.pop(0).reshape(part.shape) if part.is_floating_point() else part
        return type(part)(*map(build, part))

    return build(like)


def one(state, b):
    if isinstance(state, Tensor):
        return state[b : b + 1]
    return type(state)(*(one(part, b) for part in state))


def composed(cell, x, state, k, t, b):
    """Torch's Jacobian of the composition of steps k + 1 to t, for one sequence."""
    state = one(state, b)
    for x_t in x[:k, b : b + 1]:
        state = cell(x_t, state)

    def run(row):
        later = rebuilt(state, row)
        for x_t in x[k:t, b : b + 1]:
            later = cell(x_t, later)
        return torch.cat(flat(later))

    return torch.autograd.functional.jacobian(run, torch.cat(flat(state)).detach())


# ---- Jacobians ----


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("t", "k"), [(6, 0), (5, 2), (4, 3), (3, 3)])
def test_jacobian_of_the_whole_state(name, t, k):
    cell, x, state = made(name)
    flow = GradientFlow(cell, x, state)
    for b in range(3):
        expected = composed(cell, x, state, k, t, b)
        scale = expected.abs().max()
        assert scale > 1e-4
        assert (flow.jacobian(t, k)[b] - expected).abs().max() < 1e-12 * scale
        size = state.h[b].numel()
        assert torch.equal(flow.output_jacobian(t, k), flow.jacobian(t, k)[:, :size, :size])


def test_a_product_of_output_blocks_is_another_thing():
    cell, x, state = made("gated")
    flow = GradientFlow(cell, x, state)
    blocks = torch.eye(3, dtype=torch.float64)
    for factor in flow.factors[:, 0]:
        blocks = factor[:3, :3] @ blocks
    true = flow.output_jacobian()[0]
    assert (blocks - true).norm() > 0.3 * true.norm()


def test_states_are_those_of_the_layer():
    cell, x, state = made("gated")
    y, end = Unroll(cell)(x, state)
    flow = GradientFlow(cell, x, state)
    torch.testing.assert_close(flow.states[1:, :, :3], y.detach())
    torch.testing.assert_close(flow.states[-1], torch.cat(end, 1).detach())
    torch.testing.assert_close(flow.states[0], torch.cat(state, 1))
    assert flow.output_size == 3


def test_a_step_has_the_factor_of_the_book():
    """J = diag(1 - h²) W_hh', from h = tanh(... + h W_hh)."""
    cell, x, state = made("tanh")
    flow = GradientFlow(cell, x, state)
    h = Unroll(cell)(x, state)[0].detach()
    expected = (1 - h**2)[..., None] * cell.W_hh.detach().T
    torch.testing.assert_close(flow.factors, expected)


def test_many_chunks_give_what_one_gives(monkeypatch):
    cell, x, state = made("gated", steps=7)
    whole = GradientFlow(cell, x, state).factors
    for numbers in (1, 3 * 36 * 2):  # steps of a chunk: 1, 2
        monkeypatch.setattr("companion.bptt.flow._CHUNK", numbers)
        torch.testing.assert_close(GradientFlow(cell, x, state).factors, whole)


def test_nothing_of_the_cell_changes():
    cell, x, state = made("gated")
    x.requires_grad_()
    with torch.no_grad():  # it is on nobody's graph and needs none
        GradientFlow(cell, x, state).norms()
    assert all(w.grad is None for w in cell.parameters()) and x.grad is None
    for w in cell.parameters():
        w.requires_grad_(False)  # a frozen cell has Jacobians too
    assert GradientFlow(cell, x, state).jacobian().abs().max() > 0


# ---- norms and spectra ----


@pytest.mark.parametrize("block", ["output", "state"])
def test_norms_and_spectra_are_those_of_the_jacobians(block):
    cell, x, state = made("gated")
    flow = GradientFlow(cell, x, state)
    for t in (6, 4):
        spectra, norms = flow.spectra(t, block), flow.norms(t=t, block=block)
        frobenius = flow.norms("frobenius", t, block)
        assert norms.shape == (t + 1, 3)
        for lag in range(t + 1):
            whole = flow.jacobian(t, t - lag)
            part = whole if block == "state" else whole[:, :3, :3]
            torch.testing.assert_close(spectra[lag], torch.linalg.svdvals(part))
            torch.testing.assert_close(norms[lag], spectra[lag, :, 0])
            torch.testing.assert_close(frobenius[lag], part.square().sum((1, 2)).sqrt())


def linear(matrix):
    """A ReLU cell whose units stay positive, hence linear: J is W' at every step."""
    cell = RNNCell(1, len(matrix), bias=False, nonlinearity="relu")
    with torch.no_grad():
        cell.weight_hh.copy_(matrix)
        cell.weight_ih.fill_(1.0)
    return cell


def test_a_linear_recurrence_follows_its_eigenvalue_however_far():
    """Symmetric with positive entries: norm = radius ** lag, also where float64 ends (1e±308)."""
    matrix = torch.tensor([[2.0, 1.0], [1.0, 2.0]])  # eigenvalues 3 and 1
    for radius in (0.25, 3.0):
        cell = linear(matrix * radius / 3).double()
        x = torch.full((600 if radius > 1 else 1000, 1, 1), 0.5, dtype=torch.float64)
        flow = GradientFlow(cell, x)
        lags = torch.arange(len(x) + 1.0, dtype=torch.float64)
        torch.testing.assert_close(flow.log_norms()[:, 0], lags * math.log(radius))
    assert flow.norms()[600] == pytest.approx(3.0**600, rel=1e-9)
    assert flow.spectra()[5, 0].tolist() == pytest.approx([3.0**5, 1.0])
    small = GradientFlow(linear(matrix / 12), torch.full((1000, 1, 1), 0.5))
    assert small.norms()[-1] == 0 and small.log_norms()[-1] == pytest.approx(1000 * math.log(0.25))


def test_a_shut_unit_lets_nothing_through():
    cell = linear(torch.eye(2))
    flow = GradientFlow(cell, torch.full((3, 1, 1), -1.0))  # ReLU at negative net inputs
    assert flow.norms()[:, 0].tolist() == [1, 0, 0, 0]
    assert flow.log_norms()[2].item() == -math.inf


# ---- the gradient of a loss ----


@pytest.mark.parametrize("name", CELLS)
def test_gradient_by_lag_is_the_losss_share_through_each_jacobian(name):
    """dL/ds_k is the sum over t >= k of dL/dh_t, as the loss sees h_t, times ds_t/ds_k."""
    cell, x, state = made(name)
    weights = torch.randn(6, 3, state.h.shape[1], dtype=torch.float64)
    found = gradient_by_lag(cell, x, lambda y: (y * weights).sum(), state)
    flow = GradientFlow(cell, x, state)
    size = state.h.shape[1]
    for k in range(7):
        whole = torch.zeros(3, flow.states.shape[2], dtype=torch.float64)
        for t in range(max(k, 1), 7):
            whole += torch.einsum("bi,bij->bj", weights[t - 1], flow.jacobian(t, k)[:, :size])
        torch.testing.assert_close(found.state[6 - k], whole.norm(dim=1))
        torch.testing.assert_close(found.output[6 - k], whole[:, :size].norm(dim=1))


def test_gradient_by_lag_does_not_see_what_comes_later():
    cell, x, state = made("gated")
    found = gradient_by_lag(cell, x, lambda y: y[2].sum(), state)
    assert found.state.shape == (7, 3)
    assert not found.state[:3].any() and found.state[3:].all()


@pytest.mark.parametrize("name", CELLS)
def test_the_steps_shares_add_up_to_autograds_gradient(name):
    cell, x, state = made(name)
    shares = weight_gradient_by_step(cell, x, lambda y: y.square().sum() + y[-1].sum(), state)
    cell.zero_grad()
    y, _ = Unroll(cell, loop=True)(x, state)
    (y.square().sum() + y[-1].sum()).backward()
    assert list(shares) == [n for n, _ in cell.named_parameters()]
    for n, w in cell.named_parameters():
        assert shares[n].shape == (6, *w.shape)
        torch.testing.assert_close(shares[n].sum(0), w.grad)
        assert (shares[n][0] - shares[n][3]).abs().max() > 1e-3  # shares, not copies of the mean


def test_a_steps_share_is_the_gradient_at_its_own_copy():
    """Only the last step with other weights: its share is that copy's gradient."""
    cell, x, state = made("tanh")
    shares = weight_gradient_by_step(cell, x, lambda y: y[-1].sum(), state)
    h = Unroll(cell)(x[:-1], state)[0][-1]
    last = cell(x[-1], RNNState(h.detach()))
    (expected,) = torch.autograd.grad(last.h.sum(), cell.weight_hh)
    torch.testing.assert_close(shares["weight_hh"][-1], expected)


def test_frozen_weights_have_no_share():
    cell, x, state = made("tanh")
    cell.bias_hh.requires_grad_(False)
    assert "bias_hh" not in weight_gradient_by_step(cell, x, lambda y: y.sum(), state)
    for w in cell.parameters():
        w.requires_grad_(False)
    with pytest.raises(ValueError, match="cell must have trainable parameters, got none"):
        weight_gradient_by_step(cell, x, lambda y: y.sum(), state)


# ---- bad input ----


class Dropped(RNNCell):
    def forward(self, x_t, state=None):
        return RNNState(nn.functional.dropout(super().forward(x_t, state).h, 0.5, self.training))


class Mixing(RNNCell):
    def forward(self, x_t, state=None):
        h = super().forward(x_t, state).h
        return RNNState(h - h.mean(0))


@pytest.mark.parametrize("kind", [Dropped, Mixing])
@pytest.mark.parametrize(("steps", "batch"), [(1, 4), (5, 1), (5, 4)])
def test_a_cell_that_is_no_function_of_its_row_is_refused(kind, steps, batch):
    torch.manual_seed(0)
    cell, x = kind(2, 8), torch.randn(steps, batch, 2)
    with pytest.raises(ValueError, match="cell must take the same step .* call cell.eval"):
        GradientFlow(cell, x)


def test_dropout_that_is_off_may_stay():
    assert GradientFlow(Dropped(2, 8).eval(), torch.randn(5, 2, 2)).norms().shape == (6, 2)


class Complex(RNNCell):
    def initial_state(self, batch_size):
        return RNNState(torch.zeros(batch_size, 4, dtype=torch.complex64))


X = torch.zeros(5, 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GradientFlow(Unroll(RNNCell(3, 4)), X), TypeError, "cell must be a module with"),
        (lambda: GradientFlow(RNNCell(3, 4), X[:0]), ValueError, "x must hold at least one step"),
        (lambda: GradientFlow(RNNCell(3, 4), [1]), TypeError, "x must be a torch.Tensor, got list"),
        (lambda: GradientFlow(RNNCell(3, 4), X[..., :2]), ValueError, r"x_t must be \(B, 3\)"),
        (
            lambda: GradientFlow(RNNCell(3, 4), X, RNNState(torch.zeros(1, 4))),
            ValueError,
            r"state.h must be \(2, 4\), got \(1, 4\)",
        ),
        (lambda: GradientFlow(RNNCell(3, 4), X / 0), ValueError, "x must keep .* at step 1"),
        (lambda: GradientFlow(Complex(3, 4), X), TypeError, "state must be of real numbers"),
        (lambda: GradientFlow(RNNCell(3, 4), X).jacobian(6), ValueError, "t must be at most 5"),
        (lambda: GradientFlow(RNNCell(3, 4), X).jacobian(2, 3), ValueError, "k must be at most 2"),
        (lambda: GradientFlow(RNNCell(3, 4), X).jacobian(2, -1), ValueError, "k must be at least"),
        (lambda: GradientFlow(RNNCell(3, 4), X).norms("l1"), ValueError, "kind must be one of"),
        (lambda: GradientFlow(RNNCell(3, 4), X).spectra(block="c"), ValueError, "block must be"),
        (lambda: gradient_by_lag(RNNCell(3, 4), X, None), TypeError, "loss must be callable"),
        (lambda: gradient_by_lag(RNNCell(3, 4), X, lambda y: y), ValueError, "loss must return a"),
        (
            lambda: gradient_by_lag(RNNCell(3, 4), X, lambda y: y.sum().detach()),
            ValueError,
            "loss must depend on y",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Root(RNNCell):
    def forward(self, x_t, state=None):
        return RNNState(super().forward(x_t, state).h.abs().sqrt())


def test_a_derivative_that_is_infinite_is_named():
    cell = Root(3, 4, bias=False)
    with pytest.raises(ValueError, match="cell must have finite derivatives, got others at step 1"):
        GradientFlow(cell, X).norms()


@pytest.mark.parametrize("measure", [gradient_by_lag, weight_gradient_by_step])
def test_a_loss_of_something_else_is_refused(measure):
    other = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="loss must depend on y"):
        measure(RNNCell(3, 4), torch.randn(3, 1, 3), lambda y: other.sum())
