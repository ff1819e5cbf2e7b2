"""companion.reference: forward against torch, backward against autograd and plain differences."""

import numpy as np
import pytest
import torch
from torch import nn

from companion.reference import rnn
from companion.reference.derivatives import central_differences, complex_step

T, B, D, H, K = 7, 4, 3, 5, 2


@pytest.mark.parametrize("phi", ["tanh", "relu"])
@pytest.mark.parametrize("seed", range(3))
def test_forward_and_backward_equal_torch(phi, seed):
    torch.manual_seed(seed)
    module = nn.RNN(D, H, nonlinearity=phi, dtype=torch.float64)
    readout = nn.Linear(H, K, dtype=torch.float64)
    x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    h_0 = torch.randn(1, B, H, dtype=torch.float64, requires_grad=True)
    d_y = torch.randn(T, B, K, dtype=torch.float64)
    d_end = torch.randn(1, B, H, dtype=torch.float64)
    h, end = module(x, h_0)
    y = readout(h)
    ((y * d_y).sum() + (end * d_end).sum()).backward()

    def array(tensor):
        return tensor.detach().numpy()

    params = rnn.Parameters(
        array(module.weight_ih_l0).T,
        array(module.weight_hh_l0).T,
        array(module.bias_ih_l0 + module.bias_hh_l0),
    )
    out = rnn.OutputParameters(array(readout.weight).T, array(readout.bias))
    got_h, got_end, tapes = rnn.forward(params, array(x), rnn.State(array(h_0)[0]), phi)
    got_y = rnn.output(out, got_h)
    d_h, d_out = rnn.output_back(out, d_y.numpy(), got_h)
    d_x, d_h_0, grads = rnn.backward(params, d_h, tapes, rnn.State(d_end.numpy()[0]), phi)
    pairs = {
        "h": (got_h, h),
        "y": (got_y, y),
        "end": (got_end.h, end[0]),
        "d_x": (d_x, x.grad),
        "d_h_0": (d_h_0.h, h_0.grad[0]),
        "d_W_xh": (grads.W_xh, module.weight_ih_l0.grad.T),
        "d_W_hh": (grads.W_hh, module.weight_hh_l0.grad.T),
        "d_b_h": (grads.b_h, module.bias_hh_l0.grad),
        "d_W_hy": (d_out.W_hy, readout.weight.grad.T),
        "d_b_y": (d_out.b_y, readout.bias.grad),
    }
    for name, (got, expected) in pairs.items():
        expected = array(expected)
        assert got.dtype == np.float64 and got.shape == expected.shape, name
        assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max(), name


def test_a_step_by_hand():
    # h = tanh(2·0.5 + 3·0.25 + 0.3) = tanh(2.05); back: d_a = 1 − h², d_x = d_a·0.5, d_h = d_a·0.25
    params = rnn.Parameters(np.array([[0.5]]), np.array([[0.25]]), np.array([0.3]))
    state, tape = rnn.step(params, np.array([[2.0]]), rnn.State(np.array([[3.0]])))
    assert state.h.item() == pytest.approx(0.96740, abs=5e-6)
    d_x, d_state, grads = rnn.step_back(params, rnn.State(np.array([[1.0]])), tape)
    d_a = 1 - state.h.item() ** 2
    assert d_x.item() == pytest.approx(0.5 * d_a) and d_state.h.item() == pytest.approx(0.25 * d_a)
    assert [g.item() for g in grads] == pytest.approx([2 * d_a, 3 * d_a, d_a])


def test_integers_and_single_precision_are_computed_in_double():
    params = rnn.Parameters(
        np.ones((1, 1), np.float32), np.zeros((1, 1), np.int64), np.zeros(1, np.float32)
    )
    h, _, _ = rnn.forward(params, np.full((1, 1, 1), 2))
    assert h.dtype == np.float64 and h.item() == np.tanh(2.0)


@pytest.mark.parametrize("shape", [(B, D), (T, B, D + 1), (0, B, D), (T, 0, D)])
def test_bad_x_is_named(shape):
    params = rnn.Parameters(np.zeros((D, H)), np.zeros((H, H)), np.zeros(H))
    with pytest.raises(ValueError, match=r"x must be \(T, B, 3\)"):
        rnn.forward(params, np.zeros(shape))


def test_bad_state_and_gradient_are_named():
    params = rnn.Parameters(np.zeros((D, H)), np.zeros((H, H)), np.zeros(H))
    with pytest.raises(ValueError, match=r"state.h must be \(4, 5\), got \(3, 5\)"):
        rnn.forward(params, np.zeros((T, B, D)), rnn.State(np.zeros((3, H))))
    _, _, tapes = rnn.forward(params, np.zeros((T, B, D)))
    with pytest.raises(ValueError, match=r"d_h must be \(7, 4, 5\), got \(7, 4, 6\)"):
        rnn.backward(params, np.zeros((T, B, 6)), tapes)


PARAMS = rnn.Parameters(np.zeros((D, H)), np.zeros((H, H)), np.zeros(H))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W_xh": np.zeros(H)}, r"W_xh must be \(D, H\), got \(5,\)"),
        ({"W_hh": np.zeros((1, H))}, r"W_hh must be \(5, 5\), got \(1, 5\)"),
        ({"b_h": np.zeros((B, 1))}, r"b_h must be \(5,\), got \(4, 1\)"),
        ({"b_h": np.zeros(1)}, r"b_h must be \(5,\), got \(1,\)"),
    ],
)
def test_bad_weights_are_named(change, message):
    h, _, tapes = rnn.forward(PARAMS, np.zeros((T, B, D)))
    with pytest.raises(ValueError, match=message):
        rnn.forward(PARAMS._replace(**change), np.zeros((T, B, D)))
    with pytest.raises(ValueError, match=message):
        rnn.backward(PARAMS._replace(**change), h, tapes)


def test_bad_activations_states_and_tapes_are_named():
    x = np.zeros((T, B, D))
    h, state, tapes = rnn.forward(PARAMS, x)
    for call in (
        lambda: rnn.forward(PARAMS, x, phi="elu"),
        lambda: rnn.backward(PARAMS, h, tapes, phi="elu"),
        lambda: rnn.step(PARAMS, x[0], state, phi="elu"),
        lambda: rnn.step_back(PARAMS, state, tapes[0], phi="elu"),
    ):
        with pytest.raises(ValueError, match="phi must be one of 'tanh', 'relu', got 'elu'"):
            call()
    with pytest.raises(ValueError, match="tapes must hold at least one step, got none"):
        rnn.backward(PARAMS, h, [])
    with pytest.raises(TypeError, match="^state must be a State, got ndarray"):
        rnn.forward(PARAMS, x, np.zeros((B, H)))
    with pytest.raises(TypeError, match="^d_state must be a State, got ndarray"):
        rnn.backward(PARAMS, h, tapes, np.zeros((B, H)))
    with pytest.raises(ValueError, match=r"d_state.h must be \(4, 5\), got \(1, 5\)"):
        rnn.backward(PARAMS, h, tapes, rnn.State(np.zeros((1, H))))


def test_what_is_changed_after_the_forward_run_changes_no_gradient():
    rng = np.random.default_rng(0)
    params = rnn.Parameters(rng.normal(size=(D, H)), rng.normal(size=(H, H)), rng.normal(size=H))
    x, start = rng.normal(size=(T, B, D)), rnn.State(rng.normal(size=(B, H)))
    h, end, tapes = rnn.forward(params, x, start)
    d_h = rng.normal(size=h.shape)
    expected = rnn.backward(params, d_h, tapes)
    for array in (x, start.h, h, end.h):
        array *= 2
    got = rnn.backward(params, d_h, tapes)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1].h, expected[1].h)
    for one, other in zip(got[2], expected[2], strict=True):
        np.testing.assert_array_equal(one, other)


# ---- the other wirings: forward and backward against loops in torch ----


def close(got, expected, tolerance=1e-12):
    expected = expected.numpy(force=True) if isinstance(expected, torch.Tensor) else expected
    assert got.shape == expected.shape
    return np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def draw(seed, *shapes):
    """Random arrays, no entry of them zero or equal to another: biases too."""
    rng = np.random.default_rng(seed)
    return [rng.normal(scale=0.7, size=shape) for shape in shapes]


SHAPES = {
    rnn.Parameters: ((D, H), (H, H), (H,)),
    rnn.JordanParameters: ((D, H), (K, H), (H,), (H, K), (K,)),
}
WIRINGS = {
    "elman": rnn.ELMAN,
    "jordan": rnn.JORDAN,
    "leaky": rnn.leaky(0.3),
    "leaky jordan": rnn.leaky(0.6, rnn.JORDAN),
}
LEAKS = {"leaky": 0.3, "leaky jordan": 0.6}


def torch_run(name, params, x, state, phi):
    """The same wiring, written once more in torch."""
    act, leak = getattr(torch, phi), LEAKS.get(name, 1.0)
    outputs = []
    for x_t in x:
        if "jordan" in name:
            W_xh, W_yh, b_h, W_hy, b_y = params
            new = act(x_t @ W_xh + state @ W_yh + b_h) @ W_hy + b_y
        else:
            W_xh, W_hh, b_h = params
            new = act(x_t @ W_xh + state @ W_hh + b_h)
        state = (1 - leak) * state + leak * new
        outputs.append(state)
    return torch.stack(outputs)


def case(name, seed=0):
    wiring = WIRINGS[name]
    shapes = SHAPES[wiring.parameters]
    width = shapes[-1][0]
    arrays = draw(seed, *shapes, (T, B, D), (B, width), (T, B, width), (B, width))
    return wiring, wiring.parameters(*arrays[:-4]), *arrays[-4:]


@pytest.mark.parametrize("phi", ["tanh", "relu"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", WIRINGS)
def test_every_wiring_equals_autograd(name, seed, phi):
    wiring, params, x, start, d_h, d_end = case(name, seed)
    leaves = [torch.tensor(a, requires_grad=True) for a in (*params, x, start)]
    h = torch_run(name, leaves[:-2], leaves[-2], leaves[-1], phi)
    ((h * torch.tensor(d_h)).sum() + (h[-1] * torch.tensor(d_end)).sum()).backward()

    got_h, end, tapes = rnn.forward(params, x, rnn.State(start), phi, wiring)
    assert close(got_h, h) and close(end.h, h[-1])
    d_x, d_start, grads = rnn.backward(params, d_h, tapes, rnn.State(d_end), phi, wiring)
    for field, got, leaf in zip(
        (*params._fields, "x", "start"), (*grads, d_x, d_start.h), leaves, strict=True
    ):
        assert close(got, leaf.grad), field


@pytest.mark.parametrize("name", WIRINGS)
def test_every_wiring_equals_differences_and_the_complex_step(name):
    wiring, params, x, start, d_h, d_end = case(name)
    _, _, tapes = rnn.forward(params, x, rnn.State(start), wiring=wiring)
    d_x, d_start, grads = rnn.backward(params, d_h, tapes, rnn.State(d_end), wiring=wiring)
    arrays = [*params, x, start]
    for place, got in enumerate([*grads, d_x, d_start.h]):

        def loss(array, place=place):
            *weights, inputs, first = [*arrays[:place], array, *arrays[place + 1 :]]
            weights = wiring.parameters(*weights)
            h, end, _ = rnn.forward(weights, inputs, rnn.State(first), wiring=wiring)
            return np.sum(h * d_h) + np.sum(end.h * d_end)

        assert close(got, central_differences(loss, arrays[place]), 1e-8)
        assert close(got, complex_step(loss, arrays[place]), 1e-12)


@pytest.mark.parametrize("name", WIRINGS)
def test_an_output_at_the_end_alone(name):
    wiring, params, x, start, d_h, d_end = case(name)
    leaves = [torch.tensor(a, requires_grad=True) for a in (*params, x, start)]
    h = torch_run(name, leaves[:-2], leaves[-2], leaves[-1], "tanh")
    (h[-1] * torch.tensor(d_end)).sum().backward()
    _, _, tapes = rnn.forward(params, x, rnn.State(start), wiring=wiring)
    d_x, d_start, grads = rnn.backward(params, None, tapes, rnn.State(d_end), wiring=wiring)
    for got, leaf in zip((*grads, d_x, d_start.h), leaves, strict=True):
        assert close(got, leaf.grad)


@pytest.mark.parametrize("phi", ["tanh", "relu"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("both_ways", [False, True])
def test_deep_and_bidirectional_equal_torch(layers, both_ways, phi):
    torch.manual_seed(layers)
    layers = 1 if both_ways else layers
    module = nn.RNN(D, H, layers, nonlinearity=phi, bidirectional=both_ways, dtype=torch.float64)
    ways = layers * (1 + both_ways)
    x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    start = torch.randn(ways, B, H, dtype=torch.float64, requires_grad=True)
    d_h = torch.randn(T, B, H * (1 + both_ways), dtype=torch.float64)
    d_end = torch.randn(ways, B, H, dtype=torch.float64)
    h, end = module(x, start)
    ((h * d_h).sum() + (end * d_end).sum()).backward()

    weights = [w.numpy(force=True) for w in module.parameters()]  # four a layer and direction
    params = [
        rnn.Parameters(w_ih.T, w_hh.T, b_ih + b_hh)
        for w_ih, w_hh, b_ih, b_hh in zip(*(weights[i::4] for i in range(4)), strict=True)
    ]
    starts = [rnn.State(s) for s in start.numpy(force=True)]
    d_ends = [rnn.State(s) for s in d_end.numpy()]
    if both_ways:
        got_h, ends, tapes = rnn.bidirectional(*params, x.numpy(force=True), starts, phi)
        back = rnn.bidirectional_back(*params, d_h.numpy(), tapes, d_ends, phi)
    else:
        got_h, ends, tapes = rnn.deep(params, x.numpy(force=True), starts, phi)
        back = rnn.deep_back(params, d_h.numpy(), tapes, d_ends, phi)
    d_x, d_starts, grads = back
    assert close(got_h, h) and close(np.stack([s.h for s in ends]), end)
    assert close(d_x, x.grad) and close(np.stack([s.h for s in d_starts]), start.grad)
    gradients = [w.grad for w in module.parameters()]
    for got, w_ih, w_hh, b in zip(grads, *(gradients[i::4] for i in range(3)), strict=True):
        assert close(got.W_xh, w_ih.T) and close(got.W_hh, w_hh.T) and close(got.b_h, b)


@pytest.mark.parametrize("both_ways", [False, True])
def test_deep_and_bidirectional_equal_differences_and_the_complex_step(both_ways):
    width = 2 * H if both_ways else H
    shapes = ((D, H), (H, H), (H,), (D if both_ways else H, H), (H, H), (H,))
    *weights, x, d_h = draw(5, *shapes, (T, B, D), (T, B, width))

    def run(weights, x):
        params = [rnn.Parameters(*weights[:3]), rnn.Parameters(*weights[3:])]
        if both_ways:
            h, _, tapes = rnn.bidirectional(*params, x)
            return h, lambda: rnn.bidirectional_back(*params, d_h, tapes)
        h, _, tapes = rnn.deep(params, x)
        return h, lambda: rnn.deep_back(params, d_h, tapes)

    d_x, _, grads = run(weights, x)[1]()
    arrays = [*weights, x]
    for place, got in enumerate([*grads[0], *grads[1], d_x]):

        def loss(array, place=place):
            *changed, inputs = [*arrays[:place], array, *arrays[place + 1 :]]
            return np.sum(run(changed, inputs)[0] * d_h)

        assert close(got, central_differences(loss, arrays[place]), 1e-8)
        assert close(got, complex_step(loss, arrays[place]), 1e-12)


# ---- truncated: the loss of a step reaches so many steps ----


@pytest.mark.parametrize("horizon", [1, 2, 4, T - 1, T, T + 5])
@pytest.mark.parametrize("name", WIRINGS)
def test_a_horizon_equals_autograd_through_states_cut_off(name, horizon):
    """The loss of each step by itself, through a run that starts from a constant state."""
    wiring, params, x, start, d_h, d_end = case(name)
    states, _, tapes = rnn.forward(params, x, rnn.State(start), wiring=wiring)
    before = [start, *states[:-1]]
    leaves = [torch.tensor(a, requires_grad=True) for a in (*params, x, start)]
    d_losses = d_h.copy()
    d_losses[-1] += d_end  # the loss by the last state is one of the last step
    for end in range(1, T + 1):
        first = max(0, end - horizon)
        state = leaves[-1] if first == 0 else torch.tensor(before[first])
        h = torch_run(name, leaves[:-2], leaves[-2][first:end], state, "tanh")
        (h[-1] * torch.tensor(d_losses[end - 1])).sum().backward()
    d_x, d_start, grads = rnn.backward(
        params, d_h, tapes, rnn.State(d_end), wiring=wiring, horizon=horizon
    )
    for got, leaf in zip((*grads, d_x, d_start.h), leaves, strict=True):
        assert close(got, leaf.grad)


def test_a_long_horizon_is_the_gradient_and_a_short_one_is_not():
    wiring, params, x, start, d_h, _ = case("elman")
    _, _, tapes = rnn.forward(params, x, rnn.State(start))
    full = rnn.backward(params, d_h, tapes)[2]
    for horizon in (T, T + 1, 10 * T):
        got = rnn.backward(params, d_h, tapes, horizon=horizon)[2]
        np.testing.assert_array_equal(got.W_hh, full.W_hh)
    for horizon in (1, T - 1):
        got = rnn.backward(params, d_h, tapes, horizon=horizon)[2]
        assert not close(got.W_hh, full.W_hh, 1e-6)


def test_a_horizon_of_one_by_hand():
    # One unit, h = tanh(a): with horizon 1 each loss reaches its own step only, so the share of
    # step t is d_h_t·(1 − h_t²) times x_t, h_{t−1} and 1.
    params = rnn.Parameters(np.array([[0.5]]), np.array([[0.8]]), np.array([0.1]))
    x, d_h = np.array([1.0, -2.0]).reshape(2, 1, 1), np.array([3.0, 5.0]).reshape(2, 1, 1)
    h, _, tapes = rnn.forward(params, x)
    _, _, grads = rnn.backward(params, d_h, tapes, horizon=1)
    first, second = 3 * (1 - h[0] ** 2).item(), 5 * (1 - h[1] ** 2).item()
    assert grads.W_xh.item() == pytest.approx(first * 1 + second * -2)
    assert grads.W_hh.item() == pytest.approx(second * h[0].item())
    assert grads.b_h.item() == pytest.approx(first + second)


def test_bad_horizons_leaks_and_jordan_weights_are_named():
    h, _, tapes = rnn.forward(PARAMS, np.zeros((T, B, D)))
    for horizon, message in ((0, "horizon must be at least 1, got 0"), (-3, "got -3")):
        with pytest.raises(ValueError, match=message):
            rnn.backward(PARAMS, h, tapes, horizon=horizon)
    with pytest.raises(TypeError, match="horizon must be a whole number, got 2.5"):
        rnn.backward(PARAMS, h, tapes, horizon=2.5)
    for leak in (0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="leak must be above 0 and at most 1"):
            rnn.leaky(leak)
    with pytest.raises(TypeError, match="leak must be a number"):
        rnn.leaky("slow")
    with pytest.raises(TypeError):
        rnn.forward(PARAMS, np.zeros((T, B, D)), wiring=rnn.JORDAN)
    jordan = rnn.JordanParameters(*map(np.zeros, SHAPES[rnn.JordanParameters]))
    for change, message in (
        ({"W_yh": np.zeros((K, H + 1))}, r"W_yh must be \(2, 5\), got \(2, 6\)"),
        ({"W_yh": np.zeros(H)}, r"W_yh must be \(K, 5\), got \(5,\)"),
        ({"W_hy": np.zeros((H, K + 1))}, r"W_hy must be \(5, 2\), got \(5, 3\)"),
        ({"b_y": np.zeros(1)}, r"b_y must be \(2,\), got \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            rnn.forward(jordan._replace(**change), np.zeros((T, B, D)), wiring=rnn.JORDAN)
    with pytest.raises(ValueError, match=r"state.h must be \(4, 2\), got \(4, 5\)"):
        start = rnn.State(np.zeros((B, H)))
        rnn.forward(jordan, np.zeros((T, B, D)), start, wiring=rnn.JORDAN)
