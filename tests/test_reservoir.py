"""Echo state networks against NumPy, scikit-learn, dense weights and arithmetic by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from companion.bptt import EchoState
from companion.bptt.reservoir import _spectral_radius
from companion.recurrent import Leaky, RNNCell, Unroll, free_run
from companion.sequences import mackey_glass
from tests.helpers import relative_error


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def task(steps, batch=1, seed=0):
    """Noise with three features, and two numbers to be told about it."""
    x = noise(steps, batch, 3, seed=seed)
    before = torch.cat([torch.zeros(1, batch, 3).double(), x[:-1]])
    y = torch.stack([before[..., 0] * x[..., 1], x.sum(-1) + 4], -1)
    return x, y


def network(seed=0, **settings):
    settings = {"units": 30, "output_size": 2, "bias_scale": 0.3, "leak": 0.7} | settings
    return EchoState(3, seed=seed, **settings)


# ---- the reservoir ----


def test_states_follow_the_equation():
    net = network(leak=np.linspace(0.1, 1, 30))
    cell = net[0].cell.cell
    W_xh, W_hh, b_h = (w.numpy() for w in (cell.W_xh, cell.W_hh, cell.b_h))
    x, leak = noise(12, 2, 3), np.linspace(0.1, 1, 30)
    h, expected = np.zeros((2, 30)), []
    for x_t in x.numpy():
        h = (1 - leak) * h + leak * np.tanh(x_t @ W_xh + h @ W_hh + b_h)
        expected.append(h)
    states, (end, _) = net.reservoir(x)
    np.testing.assert_allclose(states, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(end.h, states[-1])


def test_gradients_of_the_inputs_are_those_of_dense_weights():
    net, dense = network(), RNNCell(3, 30, dtype=torch.float64)
    cell = net[0].cell.cell
    with torch.no_grad():
        dense.weight_ih.copy_(cell.W_xh.T)
        dense.weight_hh.copy_(cell.W_hh.T)
        dense.bias_ih.copy_(cell.b_h)
        dense.bias_hh.zero_()
    x = noise(6, 2, 3).requires_grad_()
    weigh = noise(6, 2, 30, seed=1)
    (expected,) = torch.autograd.grad((Unroll(Leaky(dense, 0.7))(x)[0] * weigh).sum(), x)
    (got,) = torch.autograd.grad((net.reservoir(x)[0] * weigh).sum(), x)
    assert relative_error(got, expected) < 1e-12


@pytest.mark.parametrize(("units", "sparsity"), [(1, 0), (40, 0), (200, 0.97), (700, 0.99)])
def test_radius_and_sparsity_are_as_asked(units, sparsity):
    """The largest of the four has its eigenvalue found by iteration; NumPy finds all."""
    W_hh = network(units=units, sparsity=sparsity, radius=1.3)[0].cell.cell.W_hh.numpy()
    assert abs(np.linalg.eigvals(W_hh)).max() == pytest.approx(1.3, rel=1e-8)
    assert np.count_nonzero(W_hh) == round((1 - sparsity) * units**2)


def test_scales_are_as_asked():
    net = network(units=2000, sparsity=0.995, input_scale=[0.5, 2, 0], bias_scale=0.1)
    cell = net[0].cell.cell
    assert cell.W_xh[2].abs().max() == 0
    for values, scale in ((cell.W_xh[0], 0.5), (cell.W_xh[1], 2), (cell.b_h, 0.1)):
        assert 0.99 * scale < values.abs().max() <= scale
        assert values.std().item() == pytest.approx(scale / math.sqrt(3), rel=0.05)


def test_a_seed_is_a_reservoir():
    same, other = network(seed=1), network(seed=2)
    for a, b in zip(network(seed=1).buffers(), same.buffers(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(same[0].cell.cell.W_hh, other[0].cell.cell.W_hh)
    rng = np.random.default_rng(1)
    first, second = network(seed=rng), network(seed=rng)
    assert torch.equal(first[0].cell.cell.W_hh, same[0].cell.cell.W_hh)
    assert not torch.equal(second[0].cell.cell.W_hh, same[0].cell.cell.W_hh)


@pytest.mark.parametrize("connections", [1, 5, 8, 11])
def test_no_radius_without_a_cycle(connections):
    """A pattern is without a cycle exactly if its tenth power is zero."""
    acyclic = 0
    for seed in range(40):
        sparsity = 1 - connections / 100
        places = np.random.default_rng(seed).choice(100, connections, replace=False)
        pattern = np.isin(np.arange(100), places).reshape(10, 10).astype(int)
        if np.linalg.matrix_power(pattern, 10).any():
            W_hh = network(seed, units=10, sparsity=sparsity, radius=0.5)[0].cell.cell.W_hh
            assert abs(np.linalg.eigvals(W_hh.numpy())).max() == pytest.approx(0.5, rel=1e-6)
        else:
            acyclic += 1
            with pytest.raises(ValueError, match="sparsity must leave .* form a cycle, got 0"):
                network(seed, units=10, sparsity=sparsity)
    assert acyclic >= 2


def test_radius_of_matrices_by_hand():
    from scipy.sparse import csr_array

    assert _spectral_radius(csr_array(np.triu(np.ones((5, 5)), 1))) == 0
    turn = np.array([[0, 1, 7], [-4, 0, 7], [0, 0, 0]])  # eigenvalues 2i, -2i, 0
    assert _spectral_radius(csr_array(turn)) == pytest.approx(2, rel=1e-12)


# ---- the readout ----


@pytest.mark.parametrize("ridge", [1e-9, 0.3, 100.0])
def test_readout_is_ridge_regression(ridge):
    """Scikit-learn's, from the states of a loop; a washout in each of two sequences."""
    net, (x, y) = network(ridge=ridge), task(150, batch=2)
    net.fit(x, y, washout=20)
    h = net.reservoir(x)[0][20:].flatten(0, 1).numpy()
    target = y[20:].flatten(0, 1).numpy()
    expected = Ridge(ridge, solver="svd").fit(h, target)
    np.testing.assert_allclose(net.W_hy.T, expected.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(net.b_y, expected.intercept_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(net(x)[0][20:].flatten(0, 1), expected.predict(h), atol=1e-8)


def test_readout_solves_the_normal_equations():
    net, (x, y) = network(ridge=0.5), task(150)
    net.fit(x, y)
    h = net.reservoir(x)[0][:, 0]
    X = torch.cat([torch.ones(150, 1).double(), h], 1)
    penalty = 0.5 * torch.eye(31).double()
    penalty[0, 0] = 0
    W = torch.linalg.solve(X.T @ X + penalty, X.T @ y[:, 0])
    assert relative_error(torch.cat([net.b_y[None], net.W_hy]), W) < 1e-9


def test_a_tiny_ridge_keeps_its_digits():
    """Where the normal equations have none left: states of a reservoir that hears a slow wave."""
    x = torch.sin(torch.arange(3000.0).double() / 40)[:, None, None]
    net = EchoState(1, 100, leak=0.3, ridge=1e-20, seed=0)
    net.fit(x[:-1], x[1:], washout=500)
    assert (net(x[:-1])[0] - x[1:])[500:].abs().max() < 1e-9
    X = net.reservoir(x[:-1])[0][500:, 0]
    assert torch.linalg.cond(X) > 1e12


@pytest.mark.parametrize("cuts", [(100,), (7, 60, 200), (299,)])
def test_stretches_of_a_stream_are_fitted_as_the_whole(cuts):
    (x, y), whole, parts = task(300, batch=2), network(), network()
    end = whole.fit(x, y, washout=5)
    parts.fit(*task(50, seed=3))  # to be forgotten
    state, take_in = None, parts.fit
    starts = [0, *cuts]
    for start, stop in zip(starts, [*cuts, 300], strict=True):
        washout = 5 if start == 0 else 0
        state = take_in(x[start:stop], y[start:stop], washout=washout, state=state)
        take_in = parts.partial_fit
    assert relative_error(parts.W_hy, whole.W_hy) < 1e-8
    assert torch.allclose(state[0].h, end[0].h, atol=1e-14)
    assert int(parts.rows) == int(whole.rows) == 2 * 295


def test_sequences_are_fitted_side_by_side_or_one_after_the_other():
    (x, y), both, each = task(120, batch=3), network(), network()
    both.fit(x, y, washout=10)
    for b in range(3):
        each.partial_fit(x[:, b : b + 1], y[:, b : b + 1], washout=10)
    assert relative_error(each.W_hy, both.W_hy) < 1e-8


def test_a_failed_fit_changes_nothing():
    net, (x, y) = network(), task(100)
    net.fit(x, y)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="y must be finite, got NaN or infinity"):
        net.fit(x, y * torch.nan)
    with pytest.raises(ValueError, match="state"):
        net.partial_fit(x, y, state=net.initial_state(2))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_stored_network_goes_on():
    (x, y), net = task(200), network()
    net.fit(x[:120], y[:120])
    other = network(seed=5)
    other.load_state_dict(net.state_dict())
    for each in (net, other):
        each.partial_fit(x[120:], y[120:])
    assert torch.equal(net(x)[0], other(x)[0])


# ---- running ----


def test_streaming_gives_what_the_whole_gives():
    net, (x, y) = network(), task(500, batch=2)
    net.fit(x, y)
    whole, end = net(x)
    h, _ = net.reservoir(x)
    assert torch.allclose(whole, h @ net.W_hy + net.b_y, atol=1e-10)
    parts, state = [], None
    for part in x.split(37):
        out, state = net(part, state)
        parts.append(out)
    assert torch.allclose(torch.cat(parts), whole, atol=1e-12)
    assert torch.allclose(state[0].h, end[0].h, atol=1e-14)


def test_no_more_than_a_piece_of_the_states_is_held(monkeypatch):
    """33 columns make pieces of 132 rows, whatever the number of steps and sequences."""
    seen = []
    run = Unroll.forward

    def watched(layer, x, state=None, lengths=None):
        seen.append(len(x) * x.shape[1])
        return run(layer, x, state, lengths)

    monkeypatch.setattr(Unroll, "forward", watched)
    net, (x, y) = network(), task(1000, batch=2)
    net.fit(x, y)
    net(x)
    assert max(seen) <= 132 and sum(seen) == 2 * 2000


def test_lengths_hide_the_padding():
    net, (x, y) = network(), task(40, batch=2)
    net.fit(x, y)
    padded = x.clone()
    padded[25:, 1] = torch.nan
    out, state = net(padded, lengths=[40, 25])
    alone, end = net(x[:25, 1:])
    assert torch.allclose(out[:25, 1:], alone, atol=1e-12) and not out[25:, 1].any()
    assert torch.allclose(state[0].h[1:], end[0].h, atol=1e-14)


def test_free_running_feeds_outputs_back():
    x = torch.sin(torch.arange(400.0).double() / 4)[:, None, None]
    net = EchoState(1, 40, seed=0)
    net.fit(x[:300], x[1:301], washout=50)
    got = free_run(net, x[:300], 50)
    y, state = net(x[:300])
    expected = [y[-1:]]
    for _ in range(49):
        y, state = net(expected[-1], state)
        expected.append(y)
    assert torch.equal(got, torch.cat(expected))
    assert (got - x[300:350]).abs().max() < 0.01


def test_mackey_and_glass_are_foretold():
    """84 steps freely, in standard deviations: about .001 was seen; the series' spread is 1."""
    y = mackey_glass(2000 + 5 * 584 + 1, seed=0)
    x = torch.tensor(np.tanh(y - 1))[:, None, None]
    net = EchoState(
        1, 200, radius=0.88, leak=0.4, sparsity=0.95, input_scale=0.56, bias_scale=0.02,
        ridge=1e-12, seed=0,
    )  # fmt: skip
    net.fit(x[:1999], x[1:2000], washout=500)
    tests = x[2000:4920].reshape(5, 584, 1).transpose(0, 1)
    error = free_run(net, tests[:500], 84)[-1] - tests[583]
    assert error.square().mean().sqrt() < 0.02 * x.std()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_trainable_and_the_type_is_kept(dtype):
    net, (x, y) = network(dtype=dtype), task(60)
    net.fit(x.to(dtype), y.to(dtype))
    assert not [p for p in net.parameters() if p.requires_grad]
    out, state = net(x.to(dtype))
    assert out.dtype == state[0].h.dtype == dtype and not out.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finds_the_same_readout():
    (x, y), here, there = task(300, batch=2), network(), network(device="cuda")
    here.fit(x, y, washout=5)
    there.fit(x.cuda(), y.cuda(), washout=5)
    assert relative_error(there.W_hy.cpu(), here.W_hy) < 1e-8
    assert torch.allclose(there(x.cuda())[0].cpu(), here(x)[0], atol=1e-9)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"units": 0}, ValueError, "units must be at least 1, got 0"),
        ({"output_size": 1.5}, TypeError, "output_size must be a whole number, got 1.5"),
        ({"radius": 0}, ValueError, "radius must be positive and finite, got 0"),
        ({"radius": -0.9}, ValueError, "radius must be positive and finite, got -0.9"),
        ({"radius": math.inf}, ValueError, "radius must be positive and finite, got inf"),
        ({"radius": "0.9"}, TypeError, "radius must be a number, got '0.9'"),
        ({"leak": 0}, ValueError, "leak must be above 0 and at most 1, got 0"),
        ({"leak": [0.1, 0.2]}, ValueError, r"leak must be one number or \(30,\)"),
        ({"sparsity": 1}, ValueError, "sparsity must be from 0 to below 1, got 1"),
        ({"sparsity": math.nan}, ValueError, "sparsity must be from 0 to below 1, got nan"),
        ({"sparsity": 0.9999}, ValueError, "sparsity must leave .* with 0 of them among 30 units"),
        ({"input_scale": [1, 2]}, ValueError, r"input_scale must be one finite number or \(3,\)"),
        ({"input_scale": math.nan}, ValueError, "input_scale must be one finite number"),
        ({"bias_scale": math.inf}, ValueError, "bias_scale must be finite, got inf"),
        ({"ridge": 0}, ValueError, "ridge must be positive and finite, got 0"),
        ({"seed": None}, TypeError, "seed must be a whole number, got None"),
    ],
)
def test_settings_that_make_no_sense(change, error, message):
    with pytest.raises(error, match=message):
        network(**change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"washout": 60}, ValueError, "washout must be below T = 60, got 60"),
        ({"washout": -1}, ValueError, "washout must be at least 0, got -1"),
        ({"washout": 1.0}, TypeError, "washout must be a whole number, got 1.0"),
        ({"x": noise(60, 1, 2)}, ValueError, r"x must be \(T, B, 3\), got \(60, 1, 2\)"),
        ({"x": noise(60, 1, 3).float()}, TypeError, "x must have the weights' dtype torch.float64"),
        ({"y": noise(60, 1, 3)}, ValueError, r"y must be \(T, B, 2\), got \(60, 1, 3\)"),
        ({"y": noise(59, 1, 2)}, ValueError, r"y must be \(60, 1, 2\), as x is, got \(59, 1, 2\)"),
        ({"y": np.zeros((60, 1, 2))}, TypeError, "y must be a torch.Tensor, got ndarray"),
        ({"x": noise(60, 1, 3) / 0}, ValueError, "x must be finite, got NaN or infinity"),
    ],
)
def test_data_that_cannot_be_fitted(change, error, message):
    x, y = task(60)
    with pytest.raises(error, match=message):
        network().fit(**({"x": x, "y": y, "washout": 10} | change))


def test_running_before_fitting():
    with pytest.raises(ValueError, match="network must be fitted before it can answer"):
        network()(noise(5, 1, 3))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (noise(5, 1, 2), ValueError, r"x must be \(T, B, 3\), got \(5, 1, 2\)"),
        (noise(0, 1, 3), ValueError, "x must hold at least one step of one sequence"),
        (noise(5, 3), ValueError, r"x must be \(T, B, 3\), got \(5, 3\)"),
        (None, TypeError, "x must be a torch.Tensor, got NoneType"),
    ],
)
def test_inputs_that_do_not_fit(x, error, message):
    net = network()
    net.fit(*task(60))
    with pytest.raises(error, match=message):
        net(x)
