"""companion.bptt's teacher forcing: scheduled sampling, schedules, errors of a free run."""

import math
import pickle

import pytest
import torch
from torch import nn

from companion.bptt import (
    ScheduledSampling,
    exponential_decay,
    inverse_sigmoid_decay,
    linear_decay,
    running_errors,
)
from companion.recurrent import RNN, Stack, free_run
from companion.training import evaluate


def forecaster(seed=0, units=6):
    torch.manual_seed(seed)
    return Stack(RNN(2, units), nn.Linear(units, 2)).double()


def sequences(steps=9, count=5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, count, 2, generator=generator, dtype=torch.float64)


def test_probability_1_is_the_layer_itself():
    layer, x = forecaster(), sequences()
    y, state = ScheduledSampling(layer)(x)
    expected, end = layer(x)
    assert torch.equal(y, expected) and torch.equal(state.layer[0], end[0])
    assert torch.equal(state.y, y[-1:])


def test_probability_0_runs_free_from_the_second_step_on():
    layer, x = forecaster(), sequences()
    model = ScheduledSampling(layer, 0)
    for y, state in (model(x), model.eval()(x)):
        torch.testing.assert_close(y, free_run(layer, x[:1], len(x)))
        fed = torch.cat([x[:1], y[:-1]])
        torch.testing.assert_close(state.layer[0], layer(fed)[1][0])


def test_coins_are_tossed_for_each_step_of_each_sequence():
    seen = []

    class Watch(nn.Module):
        def forward(self, x, state=None):
            seen.append(x)
            return torch.full_like(x, -1), state

    x = torch.ones(2001, 8, 1)
    generator = torch.Generator().manual_seed(0)
    ScheduledSampling(Watch(), 0.25, generator=generator)(x)
    own = torch.cat(seen)[1:, :, 0] == -1
    # 2000 tosses a sequence: the share of own outputs .75 has standard error .0097
    assert (own.double().mean(0) - 0.75).abs().max() < 0.05
    # neighbours in time and in the batch agree as independent coins do: .75² + .25² = .625
    for one, other in ((own[1:], own[:-1]), (own[:, 1:], own[:, :-1])):
        assert (one == other).double().mean().item() == pytest.approx(0.625, abs=0.02)
    assert torch.equal(seen[0], x[:1])


def test_the_gradient_stops_at_what_is_fed_back_unless_it_is_let_through():
    # y = w x, fed back: y_2 = w (w x). Stopped, dy_2/dw = w x; let through, 2 w x
    for feedback, expected in ((None, 3.0), (lambda y, x: y, 6.0)):
        linear = nn.Linear(1, 1, bias=False)
        nn.init.constant_(linear.weight, 3.0)
        y, _ = ScheduledSampling(Stack(linear), 0, feedback)(torch.ones(2, 1, 1))
        y[1].sum().backward()
        assert linear.weight.grad.item() == expected


def test_feedback_may_keep_what_is_known_and_choose_words():
    keep = ScheduledSampling(
        Stack(nn.Linear(2, 1)), 0, lambda y, x: torch.cat([x[..., :1], y], -1)
    )
    x = torch.randn(4, 3, 2)
    y, _ = keep(x)
    fed = torch.stack([x[1:, :, 0], y[:-1, :, 0]], -1)
    torch.testing.assert_close(keep.layer(fed)[0], y[1:])

    words = Stack(nn.Embedding(5, 4), RNN(4, 4), nn.Linear(4, 5))
    model = ScheduledSampling(words, 0, lambda y, x: y.argmax(-1))
    ids = torch.tensor([[1, 2], [3, 4], [0, 0]])
    scores, _ = model(ids)
    fed = torch.cat([ids[:1], scores[:-1].argmax(-1)])
    torch.testing.assert_close(words(fed)[0], scores)


@pytest.mark.parametrize("probability", [0, 1])
def test_pieces_give_what_one_call_gives(probability):
    layer, x = forecaster(), sequences()
    model = ScheduledSampling(layer, probability)
    y, state = model(x[:4])
    rest, _ = model(x[4:], state)
    torch.testing.assert_close(torch.cat([y, rest]), model(x)[0])
    batches = [(x, sequences(seed=2))]
    whole = evaluate(model, batches, nn.functional.mse_loss)
    assert evaluate(model, batches, nn.functional.mse_loss, truncate=2) == pytest.approx(whole)


def test_it_can_be_pickled():
    model = ScheduledSampling(forecaster(), 0)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(model(sequences())[0], again(sequences())[0])


@pytest.mark.parametrize("layer", [RNN(2, 2, batch_first=True), RNN(2, 2, bidirectional=True)])
def test_layers_that_cannot_go_step_by_step_are_refused(layer):
    with pytest.raises(ValueError, match="layer must be time first|layer must read ahead only"):
        ScheduledSampling(layer, 0)
    with pytest.raises(ValueError, match="layer must be time first|layer must read ahead only"):
        running_errors(layer, torch.ones(4, 3, 2), 2)


def test_a_state_of_the_layer_alone_is_refused():
    layer = forecaster()
    with pytest.raises(TypeError, match="state must be a SampledState, got tuple"):
        ScheduledSampling(layer, 0)(sequences(), layer.initial_state(5))


def test_errors_forced_and_free():
    layer, x = forecaster(), sequences(12)
    layer.train()
    forced, free = running_errors(layer, x, past=4)
    assert forced.shape == free.shape == (8,) and not free.requires_grad
    torch.testing.assert_close(forced[0], free[0])
    expected = (layer(x)[0][6] - x[7]).square().mean().sqrt()
    torch.testing.assert_close(forced[3], expected.detach())
    y = free_run(layer, x[:4], 8)
    torch.testing.assert_close(free[5], (y[5] - x[9]).square().mean().sqrt().detach())
    assert layer.training and layer[1].training


def test_errors_are_measured_without_dropout():
    layer = Stack(nn.Dropout(0.5), nn.Linear(2, 2)).double()
    x = sequences()
    first, second = (running_errors(layer, x, 3) for _ in range(2))
    assert torch.equal(first.free, second.free)


def test_schedules():
    assert [linear_decay(i, 0.1, 0.35) for i in (0, 4, 100)] == pytest.approx([1, 0.6, 0.35])
    assert exponential_decay(2, 0.9) == pytest.approx(0.81)
    # k / (k + e^(i/k)) with k = 4, i = 4: 4 / (4 + e)
    assert inverse_sigmoid_decay(4, 4) == pytest.approx(4 / (4 + math.e))
    half = 6 * math.log(6)
    assert inverse_sigmoid_decay(math.ceil(half), 6) <= 0.5 <= inverse_sigmoid_decay(int(half), 6)
    assert inverse_sigmoid_decay(10**9, 2) == 0.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ScheduledSampling(abs), TypeError, "layer must be a module"),
        (lambda: ScheduledSampling(nn.Identity(), 1.5), ValueError, "probability must be from 0"),
        (lambda: ScheduledSampling(nn.Identity(), math.nan), ValueError, "probability must be"),
        (lambda: ScheduledSampling(nn.Identity(), "1"), TypeError, "probability must be a number"),
        (lambda: ScheduledSampling(nn.Identity(), 1, 3), TypeError, "feedback must be callable"),
        (lambda: ScheduledSampling(forecaster())([1.0]), TypeError, "x must be a torch.Tensor"),
        (lambda: ScheduledSampling(forecaster(), 0)(sequences(0)), ValueError, "T at least 1"),
        (lambda: linear_decay(1, -0.1), ValueError, "slope must be at least 0"),
        (lambda: linear_decay(1, 0.1, 2), ValueError, "least must be from 0 to 1"),
        (lambda: linear_decay(-1, 0.1), ValueError, "step must be at least 0"),
        (lambda: exponential_decay(1, 1.0), ValueError, "base must be above 0 and below 1"),
        (lambda: inverse_sigmoid_decay(1, 0.5), ValueError, "pace must be at least 1"),
        (lambda: inverse_sigmoid_decay(1.5, 2), TypeError, "step must be a whole number"),
        (lambda: running_errors(forecaster(), [1], 1), TypeError, "x must be a torch.Tensor"),
        (lambda: running_errors(forecaster(), sequences()[0], 1), ValueError, "x must be"),
        (lambda: running_errors(forecaster(), sequences(), 9), ValueError, "past must be below"),
        (lambda: running_errors(forecaster(), sequences(), 0), ValueError, "past must be at least"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_feedback_of_another_shape_is_named():
    layer = Stack(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"feedback must return \(1, 4, 2\), a step's input"):
        ScheduledSampling(layer, 0)(torch.ones(3, 4, 2))
