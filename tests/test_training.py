"""The training loop: what it computes, what it refuses, and that processes agree."""

import functools
import json
import math
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

from companion.bptt import ClipValue
from companion.recurrent import RNN, RNNCell, Stack, Unroll
from companion.sequences import MaskedLoss, batches
from companion.training import History, evaluate, fit

quiet = functools.partial(fit, progress=False)
SGD = functools.partial(torch.optim.SGD, lr=0.1)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("COMPANION_DEVICE", "cpu")


class Weight(torch.nn.Module):
    """One number w: the prediction is w x."""

    def __init__(self, start=0.0):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return self.w * x


class Forecaster(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = RNN(1, 4), torch.nn.Linear(4, 1)

    def forward(self, x, state=None, lengths=None):
        y, state = self.rnn(x, state, lengths)
        return self.out(y), state


def column(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1)


def line(batches=4, size=8, seed=0):
    x = torch.randn(batches, size, 1, generator=torch.Generator().manual_seed(seed))
    return [(one, 3 * one) for one in x]


def noisy(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))


# ---- what a step computes ---------------------------------------------------------------------


def test_two_epochs_by_hand():
    # loss (w x - t)^2, gradient 2 x (w x - t), rate 0.1, x = 1, t = 1:
    # w = 0: loss 1, gradient -2, w = 0.2: loss 0.64, gradient -1.6, w = 0.36
    model = Weight()
    history = quiet(model, [(column(1), column(1))], mse_loss, epochs=2, optimiser=SGD)
    assert model.w.item() == pytest.approx(0.36)
    assert history.loss == pytest.approx([1, 0.64])
    assert history.gradient_norm == pytest.approx([2, 1.6]) == history.gradient_norm_max
    assert history.learning_rate == [0.1, 0.1] and history.steps == 2 == len(history)
    assert len(history.seconds) == 2 and min(history.seconds) > 0


def test_default_optimiser_is_adam_with_its_own_rate_or_the_one_given():
    # Adam's first step is the rate, whatever the gradient
    for rate, step in ((None, 1e-3), (0.5, 0.5)):
        model = Weight()
        quiet(model, [(column(1), column(1))], mse_loss, epochs=1, learning_rate=rate)
        assert model.w.item() == pytest.approx(step, rel=1e-4)


def test_an_optimiser_instance_goes_on_where_it_stood():
    data = [(column(1), column(1))]
    twice, once = Weight(), Weight()
    adam = torch.optim.Adam(twice.parameters(), lr=0.1)
    for _ in range(2):
        quiet(twice, data, mse_loss, epochs=3, optimiser=adam)
    quiet(once, data, mse_loss, epochs=6, learning_rate=0.1)
    assert twice.w.item() == once.w.item()
    with pytest.raises(ValueError, match="learning_rate must be None .* got 0.1"):
        quiet(twice, data, mse_loss, epochs=1, optimiser=adam, learning_rate=0.1)


def test_epoch_means_count_every_target_alike():
    # errors 1, 1, 1 | 5: the mean of squares is (1 + 1 + 1 + 25) / 4 = 7, not (1 + 25) / 2
    data = [(column(0, 0, 0), column(1, 1, 1)), (column(0), column(5))]
    history = quiet(Weight(), data, mse_loss, epochs=1, validation=data)
    assert history.loss == history.validation == [7]
    assert evaluate(Weight(), data, mse_loss) == 7


def test_a_loss_may_bring_its_own_count():
    # valid tokens: 1 of 2 with error 2, then 2 of 2 with errors 1: (4 + 1 + 1) / 3 = 2
    def masked(prediction, target):
        target, mask = target
        return ((prediction - target) ** 2 * mask).sum() / mask.sum(), mask.sum()

    data = [
        (column(0, 0), (column(2, 9), column(1, 0))),
        (column(0, 0), (column(1, 1), column(1, 1))),
    ]
    history = quiet(Weight(), data, masked, epochs=1)
    assert history.loss == [2] and evaluate(Weight(), data, masked) == 2
    with pytest.raises(TypeError, match=r"\(mean, count\) where the target is no tensor"):
        quiet(Weight(), data, lambda p, t: masked(p, t)[0], epochs=1)


def test_integer_targets_of_classes():
    logits = torch.nn.Linear(3, 3)
    labels = torch.arange(3).repeat(4)
    data = [(torch.eye(3)[labels], labels)]
    history = quiet(logits, data, cross_entropy, epochs=60, learning_rate=0.1)
    assert history.loss[0] > 0.8 and history.loss[-1] < 0.1
    # (N, C) against (N,) would broadcast for N = C, and classes are meant to be so
    square = [(torch.eye(3), torch.arange(3))]
    assert quiet(logits, square, cross_entropy, epochs=1).loss[0] < 0.1


@pytest.mark.parametrize("wrap", [lambda x, n: (x, None, n), lambda x, n: [x, None, n]])
def test_inputs_by_position_and_by_keyword_and_a_model_that_returns_its_state(wrap):
    x = torch.randn(5, 3, 1, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([5, 2, 4])
    losses = []
    for inputs in (wrap(x, lengths), {"x": x, "lengths": lengths}, {"x": x, "lengths": [5, 2, 4]}):
        torch.manual_seed(0)
        losses.append(quiet(Forecaster(), [(inputs, x)], mse_loss, epochs=3).loss)
    assert losses[0] == losses[1] == losses[2]
    torch.manual_seed(0)
    assert quiet(Forecaster(), [(x, x)], mse_loss, epochs=3).loss != losses[0]


def test_packed_input_is_one_argument():
    x = torch.randn(5, 3, 1, generator=torch.Generator().manual_seed(0))
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 4, 2])

    def last(prediction, target):  # the prediction is packed too
        return mse_loss(prediction.data[:3], target.data[:3]), 3

    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.RNN(1, 1)

        def forward(self, x):
            assert isinstance(x, torch.nn.utils.rnn.PackedSequence)
            return self.rnn(x)

    assert quiet(Packed(), [(packed, packed)], last, epochs=2).steps == 2


def test_a_data_loader_trains():
    x = torch.linspace(-1, 1, 32).reshape(-1, 1)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, 3 * x), batch_size=5, shuffle=True
    )
    history = quiet(torch.nn.Linear(1, 1), loader, mse_loss, epochs=40, learning_rate=0.1, seed=0)
    assert history.steps == 40 * 7 and history.loss[-1] < 1e-3


# ---- clipping ---------------------------------------------------------------------------------


def test_clipping_bounds_the_step_and_the_norm_is_from_before():
    # gradients -2 x t: x = 1, t = 10 gives 20; clipped to 1 the step is 0.1
    model = Weight()
    history = quiet(model, [(column(1), column(10))], mse_loss, epochs=1, optimiser=SGD, clip=1.0)
    assert model.w.item() == pytest.approx(0.1, rel=1e-5)
    assert history.gradient_norm == pytest.approx([20])


def test_norms_of_an_epoch_are_mean_and_largest():
    frozen = functools.partial(torch.optim.SGD, lr=0.0)
    data = [(column(1), column(1)), (column(1), column(3))]  # norms 2 and 6
    history = quiet(Weight(), data, mse_loss, epochs=1, optimiser=frozen)
    assert (history.gradient_norm, history.gradient_norm_max) == ([4], [6])


def test_sparse_gradients_are_measured_and_clipped_like_dense_ones():
    data = [(torch.tensor([0, 2, 2]), 10 * torch.ones(3, 1))]  # row 2 twice: its entries add up
    rates = []
    for sparse in (False, True):
        model = torch.nn.Embedding(4, 1, sparse=sparse)
        torch.nn.init.zeros_(model.weight)
        history = quiet(model, data, mse_loss, epochs=2, optimiser=SGD, clip=1.0)
        rates.append((history.gradient_norm, weights(model)))
    assert rates[0] == rates[1]
    adam = torch.optim.SparseAdam
    quiet(model, data, mse_loss, epochs=1, optimiser=adam)  # refuses gradients that are dense
    assert weights(model) != rates[1][1]


def test_parameters_of_the_loss_get_fresh_gradients_too():
    # loss a + (w x - t)^2 with w out of it: the gradient of a is 1 in every step
    a = torch.nn.Parameter(torch.tensor(0.0))
    model = Weight()
    sgd = torch.optim.SGD([model.w, a], lr=0.1)
    data = [(column(1), column(1))] * 3
    quiet(model, data, lambda p, t: mse_loss(p, t) + a, epochs=1, optimiser=sgd)
    assert a.item() == pytest.approx(-0.3) and a.grad is None
    # nor do those of the model pile up that the optimiser was not given
    two = torch.nn.Linear(1, 1)
    sgd = torch.optim.SGD([two.weight], lr=0.1)
    quiet(two, data, mse_loss, epochs=1, optimiser=sgd)
    assert two.weight.grad is None and two.bias.grad is None


# ---- validation, early stopping, callbacks ----------------------------------------------------


def test_validation_is_without_dropout_and_gradients_and_puts_modes_back():
    seen = []

    class Watch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = noisy()

        def forward(self, x):
            seen.append((self.training, self.net[1].training, torch.is_grad_enabled()))
            return self.net(x)

    model = Watch().eval()
    model.net.train()
    quiet(model, line(1), mse_loss, epochs=2, validation=line(1))
    assert seen == [(True, True, True), (False, False, False)] * 2
    assert not model.training and model.net.training and model.net[1].training
    before = evaluate(model, line(), mse_loss)
    assert before == evaluate(model, line(), mse_loss)  # no dropout
    assert not model.training and model.net[1].training


def test_modes_come_back_after_an_error():
    model = Weight(math.nan).eval()
    with pytest.raises(FloatingPointError):
        quiet(model, line(), mse_loss, epochs=1)
    assert not model.training


def test_patience_stops_and_restores_the_best_weights():
    # rate 1 on x = 1, t = 1: w runs 0 -> 2 -> 0 ...; validation wants w = 2, met after epoch 1
    swing = functools.partial(torch.optim.SGD, lr=1.0)
    arguments = {"optimiser": swing, "validation": [(column(1), column(2))]}
    data = [(column(1), column(1))]
    model = Weight()
    history = quiet(model, data, mse_loss, epochs=50, patience=3, **arguments)
    assert len(history) == 4 and history.best_epoch == 1 and history.validation == [0, 4, 0, 4]
    assert model.w.item() == 2
    model = Weight()  # also when the epochs run out first
    assert len(quiet(model, data, mse_loss, epochs=2, patience=3, **arguments)) == 2
    assert model.w.item() == 2
    model = Weight()  # without patience the last weights stay
    quiet(model, data, mse_loss, epochs=2, **arguments)
    assert model.w.item() == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, FloatingPointError])
def test_patience_restores_the_best_weights_after_an_error_too(error):
    # as above: w is 2, the best, after epoch 1, then 0; the second epoch's end breaks off
    data, validation = [(column(1), column(1))], [(column(1), column(2))]
    seen = []

    def breaks(model, history):
        seen.append(model.w.item())
        if len(history) == 2 and error is KeyboardInterrupt:
            raise error
        data[0] = (column(1), column(1 if len(history) == 1 else math.nan))

    model = Weight()
    swing = functools.partial(torch.optim.SGD, lr=1.0)
    with pytest.raises(error) as raised:
        quiet(
            model, data, mse_loss, epochs=3, optimiser=swing, validation=validation, patience=3,
            callback=breaks,
        )  # fmt: skip
    assert seen == [2, 0] and model.w.item() == 2
    assert error is KeyboardInterrupt or "weights are those of the best epoch" in str(raised.value)


def test_patience_restores_whatever_else_a_model_keeps():
    class Keeper(Weight):
        kept = None

        def get_extra_state(self):
            return {"kept": self.kept}

        def set_extra_state(self, state):
            self.kept = state["kept"]

    def keep(model, history):
        model.kept.append(len(history))

    model = Keeper()
    model.kept = []
    swing = functools.partial(torch.optim.SGD, lr=1.0)
    quiet(
        model, [(column(1), column(1))], mse_loss, epochs=3, optimiser=swing, patience=3,
        validation=[(column(1), column(2))], callback=keep,
    )  # fmt: skip
    assert model.w.item() == 2 and model.kept == []  # as they were when epoch 1 ended


def test_a_part_in_evaluation_mode_stays_in_it():
    def norm():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.BatchNorm1d(2),
                                   torch.nn.Linear(2, 1))  # fmt: skip

    model = norm()
    model[1].eval()
    quiet(model, line(), mse_loss, epochs=2, validation=line(1))
    assert model[1].num_batches_tracked == 0 and not model[1].training and model[0].training
    model = norm().eval()  # the whole model in it: trained all the same
    quiet(model, line(), mse_loss, epochs=2, validation=line(1))
    assert model[1].num_batches_tracked == 8 and not any(m.training for m in model.modules())


def test_a_models_own_way_of_training_is_asked():
    class Frozen(torch.nn.BatchNorm1d):
        def train(self, mode=True):
            return super().train(False)

    model = torch.nn.Sequential(torch.nn.Linear(1, 1), Frozen(1))
    quiet(model, line(), mse_loss, epochs=1)
    assert model[1].num_batches_tracked == 0


def test_callback_sees_every_epoch_and_may_stop():
    seen = []

    def three(model, history):
        seen.append((model.w.item(), len(history)))
        return len(history) == 3

    model = Weight()
    history = quiet(model, line(), mse_loss, epochs=10, callback=three)
    assert len(history) == 3 and [count for _, count in seen] == [1, 2, 3]
    assert seen[-1][0] == model.w.item()


def test_progress_bar_shows_losses_or_nothing(capsys):
    fit(Weight(), line(), mse_loss, epochs=2, validation=line(1))
    shown = capsys.readouterr().err
    assert "2/2" in shown and "loss=" in shown and "validation=" in shown
    quiet(Weight(), line(), mse_loss, epochs=2)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


# ---- randomness, precision --------------------------------------------------------------------


def test_a_seed_repeats_the_run_and_leaves_the_generators_alone():
    x = torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, 3 * x), batch_size=8, shuffle=True
    )

    def run(seed, drawn):
        model = noisy()
        torch.manual_seed(9)
        torch.rand(drawn)  # the generator stands elsewhere each time
        history = quiet(model, loader, mse_loss, epochs=3, seed=seed)
        state = torch.get_rng_state()
        torch.manual_seed(9)
        torch.rand(drawn)
        untouched = torch.equal(state, torch.get_rng_state())
        return history.loss, history.gradient_norm, untouched

    first = run(1, drawn=0)
    assert first == run(1, drawn=5) and first[2]
    assert run(2, drawn=0)[0] != first[0]
    # without a seed the run draws from the generator where it stands
    assert run(None, drawn=0)[0] != run(None, drawn=5)[0]
    assert run(None, drawn=0)[0] == run(None, drawn=0)[0] and not run(None, drawn=0)[2]


def test_bfloat16_mixed_precision_on_the_cpu():
    torch.manual_seed(0)
    model = Forecaster()
    dtypes = []
    model.out.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    x = torch.randn(6, 16, 1)
    data = [(x[:, :8], x[:, :8].cumsum(0)), (x[:, 8:], x[:, 8:].cumsum(0))]
    history = quiet(
        model, data, mse_loss, epochs=100, learning_rate=0.02, precision="bf16-mixed",
        validation=data[:1],
    )  # fmt: skip
    assert set(dtypes) == {torch.bfloat16}  # validation too
    assert model.out.weight.dtype == torch.float32
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert evaluate(model, data[:1], mse_loss, precision="bf16-mixed") == history.validation[-1]
    assert dtypes[-1] == torch.bfloat16


def test_double_precision():
    x = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(-1, 1)
    for precision in (None, "64-true"):
        model = torch.nn.Linear(1, 1).to(torch.float64 if precision is None else torch.float32)
        history = quiet(model, [(x, 3 * x)], mse_loss, epochs=2, precision=precision)
        assert model.weight.dtype == torch.float64 and len(history) == 2
    # the precision converts inputs of training and validation alike
    data = [(x.float(), 3 * x.float())]
    model = torch.nn.Linear(1, 1)
    history = quiet(model, data, mse_loss, epochs=1, precision="64-true", validation=data)
    assert history.validation == [evaluate(model, data, mse_loss, precision="64-true")]
    # the loss meets one dtype, though the precision converts outputs and not targets
    seen = []
    quiet(model, [(x, 3 * x)], lambda p, t: seen.append((p.dtype, t.dtype)) or mse_loss(p, t),
          epochs=1, precision="64-true")
    assert len(seen) == 1 and seen[0][0] == seen[0][1]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_evaluation_leaves_the_weights_as_they_are(precision):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, line(), mse_loss, precision=precision)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_the_companions_device_is_asked(monkeypatch):
    monkeypatch.setenv("COMPANION_DEVICE", "abacus")
    for call in (functools.partial(quiet, epochs=1), evaluate):
        with pytest.raises(ValueError, match="COMPANION_DEVICE.*abacus"):
            call(Weight(), line(), mse_loss)


# ---- what stops it ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_weights(bad):
    good = (column(1), column(1))
    model, reference = Weight(), Weight()
    # epoch 1: two good steps; epoch 2: one good, then the bad one is step 4
    data = [good, good]

    def spoil(model, history):
        data[1] = (column(1), column(bad))

    with pytest.raises(FloatingPointError) as error:
        quiet(model, data, mse_loss, epochs=5, optimiser=SGD, callback=spoil)
    assert all(
        part in str(error.value)
        for part in (f"loss is {bad}", "step 4 (epoch 2)", "NaN", "learning rate", "clip")
    )
    quiet(reference, [good] * 3, mse_loss, epochs=1, optimiser=SGD)
    assert model.w.item() == reference.w.item()


def test_a_gradient_that_is_not_finite_stops_too():
    # the square root of 0 is 0, its derivative is infinite
    model = Weight()
    with pytest.raises(FloatingPointError, match=r"gradient's norm is nan in step 1 \(epoch 1\)"):
        quiet(
            model, [(column(1), column(0))], lambda p, t: (p - t).abs().sum().sqrt(),
            epochs=1, optimiser=SGD, clip=1.0,
        )  # fmt: skip
    assert model.w.item() == 0 and model.w.grad is None


def test_a_validation_loss_that_is_not_finite_stops_too():
    bad = [(column(1), column(math.nan))]
    with pytest.raises(FloatingPointError, match="validation loss is nan after epoch 1"):
        quiet(Weight(), line(), mse_loss, epochs=2, validation=bad)
    assert math.isnan(evaluate(Weight(), bad, mse_loss))


@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((3, 4, 1), (3, 4, 2))])
def test_silent_broadcasting_is_refused(shapes):
    x, target = torch.ones(shapes[0]), torch.ones(shapes[1])
    message = f"got {shapes[0]} and {shapes[1]}".replace("(", r"\(").replace(")", r"\)")
    for call in (functools.partial(quiet, epochs=1), evaluate):
        with pytest.raises(ValueError, match=message):
            call(Weight(), [(x, target)], mse_loss)
    # a loss that wants it so takes the target in a tuple
    quiet(Weight(), [(x, (target,))], lambda p, t: (mse_loss(p.sum(), t[0].sum()), 1), epochs=1)


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.uint8])
@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((4, 4, 1), (4, 4))])
def test_silent_broadcasting_of_whole_numbers_is_refused(shapes, dtype):
    x, target = torch.ones(shapes[0]), torch.ones(shapes[1], dtype=dtype)
    with pytest.raises(ValueError, match="which would broadcast silently"):
        quiet(Weight(), [(x, target)], lambda p, t: ((p - t.float()) ** 2).mean(), epochs=1)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [((3, 3), (3,)), ((2, 2, 2), (2, 2)), ((1, 3), (1,)), ((3,), ()), ((4, 3, 3, 3), (4, 3, 3))],
)
def test_classes_are_meant_to_have_another_shape(prediction, target):
    data = [(torch.ones(prediction), torch.zeros(target, dtype=torch.long))]
    count = max(1, math.prod(target))
    for loss in (cross_entropy, lambda p, t: (cross_entropy(p, t), count)):
        assert quiet(Weight(1.0), data, loss, epochs=1).loss == pytest.approx(
            [math.log(prediction[1 if len(prediction) > 1 else 0])]
        )
    # classes last and flattened in the loss, as for text: (T, N, K) against (T, N)
    x, labels = torch.ones(3, 3, 3), torch.zeros(3, 3, dtype=torch.long)
    quiet(
        Weight(), [(x, labels)], lambda p, t: cross_entropy(p.flatten(0, 1), t.flatten()), epochs=1
    )
    # and as indices for gather: (N, K) against (N, 1)
    quiet(Weight(), [(x[0], labels[:, :1])], lambda p, t: -p.gather(1, t).mean(), epochs=1)


def test_without_the_refusal_broadcasting_would_teach_the_mean():
    """Reader's question 17: the reason for the check above."""
    x = column(-1, 0, 1, 2)
    target = 3 * x[:, 0]
    model = torch.nn.Linear(1, 1)

    def broadcasting(prediction, target):
        return ((prediction - target[0]) ** 2).mean(), 16

    quiet(model, [(x, (target,))], broadcasting, epochs=500, learning_rate=0.05)
    torch.testing.assert_close(model(x), torch.full((4, 1), 1.5), atol=1e-2, rtol=0)


class Empty:
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": 2.5}, TypeError, "epochs must be a whole number, got 2.5"),
        ({"clip": 0}, ValueError, "clip must be a positive.* got 0"),
        ({"clip": math.nan}, ValueError, "clip must be a positive.* got nan"),
        ({"patience": 3}, ValueError, "patience must come with validation"),
        ({"patience": 0, "validation": line(1)}, ValueError, "patience must be at least 1"),
        ({"batches": []}, ValueError, r"batches must hold at least one .* got none"),
        ({"batches": Empty()}, ValueError, "batches must hold at least one"),
        ({"validation": []}, ValueError, "validation must hold at least one .* got none"),
        ({"validation": Empty()}, ValueError, "batches must hold at least one .* to evaluate"),
        ({"model": None}, TypeError, "model must be a torch.nn.Module, got None"),
        ({"model": Weight}, TypeError, "model must be a torch.nn.Module, got <class"),
        ({"loss": None}, TypeError, "loss must be callable, got None"),
        ({"clip": "a"}, TypeError, "clip must be a positive.* got 'a'"),
        ({"clip": True}, TypeError, "clip must be a positive.* got True"),
        ({"seed": "a"}, TypeError, "seed must be a whole number, got 'a'"),
        ({"seed": 2**70}, ValueError, r"seed must be below 2\*\*64, got 1180591620717411303424"),
        ({"optimiser": "adam"}, TypeError, "optimiser must be a torch.optim.Optimizer.* got str"),
        ({"optimiser": list}, TypeError, "optimiser must be a torch.optim.Optimizer.* got list"),
        ({"optimiser": torch.optim.LBFGS}, TypeError, "optimiser must step .* got LBFGS"),
        (
            {"optimiser": torch.optim.Adam(Weight().parameters())},
            ValueError,
            "optimiser must hold .* of the model's trainable parameters, got none",
        ),
        ({"callback": lambda m, h: torch.ones(2)}, TypeError, "callback must return .* got Tensor"),
        ({"batches": [(column(1), column(1).numpy())]}, TypeError, "target must be .* got ndarray"),
        ({"loss": lambda p, t: (mse_loss(p, t),)}, TypeError, "loss must return .* tuple of 1"),
        ({"batches": (b for b in line())}, TypeError, "one-shot generator"),
        ({"validation": iter(line())}, TypeError, "validation must be .* one-shot list_iterator"),
        ({"batches": 3}, TypeError, "batches must be iterable anew .* got the int"),
        ({"loss": lambda p, t: (mse_loss(p, t), 0)}, ValueError, "count must be positive, got 0"),
        ({"batches": [column(1)]}, TypeError, "must yield pairs .* got a Tensor"),
        ({"batches": [(column(1),) * 3]}, TypeError, "must yield pairs .* got a tuple of 3"),
        ({"batches": [(column(1).numpy(), column(1))]}, TypeError, "inputs must be .* ndarray"),
        ({"loss": lambda p, t: (p - t) ** 2}, ValueError, r"scalar tensor.* got \(8, 1\)"),
        ({"loss": lambda p, t: 1.0}, ValueError, "scalar tensor.* got float"),
        ({"loss": lambda p, t: (p - t).detach().mean()}, ValueError, "without a gradient"),
        ({"model": torch.nn.Tanh()}, ValueError, "model must have trainable parameters"),
        (
            {"model": torch.nn.Linear(1, 1).requires_grad_(False)},
            ValueError,
            "model must have trainable parameters",
        ),
    ],
)
def test_bad_arguments(changed, error, message):
    arguments = {"model": Weight(), "batches": line(), "loss": mse_loss, "epochs": 1} | changed
    with pytest.raises(error, match=message):
        quiet(**arguments)


def test_empty_validation_is_refused_before_training():
    model = Weight()
    loader = torch.utils.data.DataLoader(range(3), batch_size=4, drop_last=True)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="validation must hold at least one"):
        quiet(model, line(), mse_loss, epochs=1, validation=loader)
    assert model.w.item() == 0 and torch.equal(state, torch.get_rng_state())


def test_batches_of_unknown_number_train():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(line())

    loader = torch.utils.data.DataLoader(Stream(), batch_size=None)
    assert quiet(Weight(), loader, mse_loss, epochs=1, validation=loader).steps == 4


def test_frozen_weights_stay():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    model[0].requires_grad_(False)
    frozen, free = model[0].weight.clone(), model[1].weight.clone()
    quiet(model, line(), mse_loss, epochs=1)
    assert torch.equal(model[0].weight, frozen) and not torch.equal(model[1].weight, free)


# ---- history ----------------------------------------------------------------------------------


def test_history_reads_back_from_json_and_shows_itself():
    history = quiet(Weight(), line(), mse_loss, epochs=3, validation=line(1))
    stored = json.loads(json.dumps(history.to_dict(), allow_nan=False))
    assert History(**stored) == history
    assert "3 epochs, 12 steps" in repr(history) and f"in epoch {history.best_epoch}" in repr(
        history
    )
    assert repr(History()) == "History(no epochs)" and History().best_epoch is None
    assert History(loss=[3, 1, 2]).best_epoch == 2


def test_the_best_epoch_is_one_that_was_measured():
    nan = math.nan
    assert History(loss=[1, 2, 3], validation=[nan, 2, 1]).best_epoch == 3
    assert History(loss=[nan, 2, 1, 1]).best_epoch == 3
    never = History(loss=[2, 1], validation=[nan, nan])
    assert never.best_epoch is None and "best" not in repr(never)


def test_history_plots_itself():
    from matplotlib.figure import Figure

    history = quiet(Weight(), line(), mse_loss, epochs=3, validation=line(1))
    axes = Figure().subplots()
    history.plot(ax=axes)
    heights = [list(curve.get_ydata()) for curve in axes.lines]
    assert history.loss in heights and history.validation in heights


# ---- several processes ------------------------------------------------------------------------

SCRIPT = """
import json, os, sys, torch
from torch.nn.functional import mse_loss
from companion.training import evaluate, fit
sys.path.insert(0, sys.argv[2])
from test_training import SGD, Forecaster, ragged, weights

rank, out = int(os.environ["RANK"]), {}
torch.manual_seed(rank)  # other weights at first: those of the first process count
for run in ("first", "second"):
    model = Forecaster()
    torch.manual_seed(100 + rank)
    history = fit(model, ragged(5), mse_loss, epochs=2, optimiser=SGD, clip=0.5,
                  validation=ragged(3), patience=2, progress=False)
    out[run] = {"history": history.to_dict(), "weights": weights(model),
                "evaluated": evaluate(model, ragged(3), mse_loss)}
calls = []
evaluate(model, ragged(3), lambda p, t: calls.append(1) or mse_loss(p, t))
out["calls"] = len(calls)
loader = torch.utils.data.DataLoader(range(12), batch_size=2, shuffle=True)
seen = []
class Look(torch.nn.Linear):
    def forward(self, x):
        seen.extend(x.tolist())
        return super().forward(x.float()[:, None])
class Pairs:
    def __iter__(self):
        return ((batch, batch.float()[:, None]) for batch in loader)
fit(Look(1, 1), Pairs(), mse_loss, epochs=1, progress=False)
out["seen"] = seen
try:
    bad = torch.tensor([[float("nan") if rank else 1.0]])
    fit(torch.nn.Linear(1, 1), [(bad, bad)] * 2, mse_loss, epochs=1, progress=False)
except FloatingPointError as error:
    out["stopped"] = str(error)
json.dump(out, open(f"{sys.argv[1]}/{rank}.json", "w"))
"""


def ragged(count):
    """Batches of unequal sizes with lengths, the same in every process."""
    generator = torch.Generator().manual_seed(7)
    batches = []
    for number in range(count):
        x = torch.randn(6, 3 + number, 1, generator=generator)
        lengths = torch.tensor([6, 2] + [4] * (1 + number))
        batches.append(({"x": x, "lengths": lengths}, x.cumsum(0)))
    return batches


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()


def trained_alone():
    """Take what two processes should: averaged gradients of rounds (0, 1), (2, 3), (4, 0)."""
    torch.manual_seed(0)
    model, batches = Forecaster(), ragged(5)
    sgd = SGD(model.parameters())
    for first, second in ((0, 1), (2, 3), (4, 0)) * 2:
        sgd.zero_grad()
        for inputs, target in (batches[first], batches[second]):
            (mse_loss(model(**inputs)[0], target) / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        sgd.step()
    return model


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun has no libuv store on Windows")
def test_two_processes_train_as_one_that_averages_gradients(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    here = os.path.dirname(os.path.abspath(__file__))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COMPANION_DEVICE": "cpu"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    with subprocess.Popen(
        [*launch, str(script), str(tmp_path), here], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as run:  # fmt: skip
        try:
            printed = run.communicate(timeout=100)[0]
        except subprocess.TimeoutExpired:
            run.terminate()  # torchrun then ends its processes; killed, it would leave them behind
            pytest.fail("the two processes hang")
    assert run.returncode == 0, printed[-3000:]
    zero, one = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))

    for run in ("first", "second"):  # several calls in one script
        assert zero[run] == one[run]  # weights, history (seconds too), evaluation
        assert zero[run]["evaluated"] == min(zero[run]["history"]["validation"])
    alone = trained_alone()
    torch.testing.assert_close(zero["first"]["weights"], weights(alone), rtol=1e-5, atol=1e-6)
    assert zero["first"]["history"]["steps"] == 2 * 3  # 5 batches: 3 rounds, the last filled up
    # processes have unequal shares of the 3 validation batches: the mean is over all targets
    expected = evaluate(alone, ragged(3), mse_loss)
    assert zero["first"]["evaluated"] == pytest.approx(expected, rel=1e-5)
    assert (zero["calls"], one["calls"]) == (2, 1)
    # each process shuffles alike and takes the other half
    assert sorted(zero["seen"] + one["seen"]) == list(range(12))
    # NaN in one process stops both
    assert zero["stopped"] == one["stopped"] and "loss is nan in step 1" in one["stopped"]


def test_batches_of_the_companion_train_a_recurrent_network():
    x = torch.randn(12, 40, 1, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    data = batches(x, x.cumsum(0), size=16, seed=0)
    history = quiet(Forecaster(), data, mse_loss, epochs=30, learning_rate=0.02, clip=1.0)
    assert history.loss[-1] < 0.5 * history.loss[0]


def sequence_model(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return Stack(RNN(2, 5, dtype=dtype), torch.nn.Linear(5, 3, dtype=dtype))


def long_batch(steps=23, seed=1):
    torch.manual_seed(seed)
    return torch.randn(steps, 4, 2, dtype=torch.float64), torch.randn(
        steps, 4, 3, dtype=torch.float64
    )


def test_truncated_training_equals_the_loop_written_out():
    x, target = long_batch()
    model, witness = sequence_model(), sequence_model()
    history = quiet(model, [(x, target)], mse_loss, epochs=2, optimiser=SGD, 
                  truncate=7)
    module = witness[0].to_torch()
    optimiser = torch.optim.SGD([*module.parameters(), *witness[1].parameters()], 0.1)
    for _ in range(2):
        h, total = torch.zeros(1, 4, 5, dtype=torch.float64), 0.0
        for start in (0, 7, 14, 21):  # the last window has 2 of the 23 steps
            y, h = module(x[start : start + 7], h.detach())
            loss = (witness[1](y) - target[start : start + 7]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(y)
    assert history.steps == 8 and history.loss[-1] == pytest.approx(total / 23, rel=1e-12)
    for got, weight in zip(model[0].to_torch().parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(got, weight, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model[1].weight, witness[1].weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("truncate", [23, 1000])
def test_truncation_that_is_not_below_the_length_is_none(truncate):
    x, target = long_batch()
    models = sequence_model(), sequence_model()
    for model, steps in zip(models, (None, truncate), strict=True):
        quiet(model, [(x, target)], mse_loss, epochs=2, truncate=steps)
    for one, other in zip(*(m.state_dict().values() for m in models), strict=True):
        assert torch.equal(one, other)


def test_truncated_ragged_sequences_count_what_is_real_alone():
    x, target = long_batch(9)
    lengths = torch.tensor([9, 2, 4, 7])
    real = torch.arange(9)[:, None] < lengths
    x, target = x.clone(), target.clone()
    x[~real] = float("nan")
    target[~real] = float("nan")
    model = sequence_model()
    history = quiet(model, [({"x": x, "lengths": lengths}, (target, real))], MaskedLoss(mse_loss),
                  epochs=1, optimiser=SGD, learning_rate=1e-9, truncate=3)
    # at so small a rate the weights stand still: each sequence by itself, whole
    errors = [
        (sequence_model()(x[:n, [b]])[0] - target[:n, [b]]).square().flatten()
        for b, n in enumerate(lengths)
    ]
    assert history.steps == 3
    assert history.loss[0] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-7)


@pytest.mark.parametrize("truncate", [1, 5, 23])
def test_evaluation_by_windows_equals_evaluation_of_the_whole(truncate):
    model, batch = sequence_model(), long_batch()
    whole = evaluate(model, [batch], mse_loss)
    assert evaluate(model, [batch], mse_loss, truncate=truncate) == pytest.approx(whole, rel=1e-12)


def test_a_first_state_is_taken_and_windows_without_targets_only_move_it_on():
    x, target = long_batch(12)
    real = (torch.arange(12) >= 8)[:, None].expand(12, 4)
    model = sequence_model()
    state = model.initial_state(4)
    state = (state[0] + 0.5, None)
    history = quiet(model, [({"x": x, "state": state}, (target, real))], MaskedLoss(mse_loss),
                    epochs=1, optimiser=SGD, learning_rate=1e-9, truncate=4)
    expected = (sequence_model()(x, state)[0][8:] - target[8:]).square().mean().item()
    assert history.steps == 1 and history.loss[0] == pytest.approx(expected, rel=1e-7)
    with pytest.raises(ValueError, match="targets that count, got none"):
        quiet(model, [(x, (target, real & False))], MaskedLoss(mse_loss), epochs=1, truncate=4)


def test_truncation_names_what_does_not_quiet():
    x, target = long_batch()

    def attempt(model=None, batch=(x, target), truncate=5):
        quiet(model or sequence_model(), [batch], mse_loss, epochs=1, truncate=truncate)

    for truncate, error in ((0, ValueError), (-3, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="truncate must be"):
            attempt(truncate=truncate)
    with pytest.raises(TypeError, match=r"called as model\(x, state\)"):
        attempt(torch.nn.Linear(2, 3, dtype=torch.float64))
    both = Stack(RNN(2, 5, bidirectional=True), torch.nn.Linear(10, 3)).double()
    for model in (both, Stack(Unroll(RNNCell(2, 3, dtype=torch.float64), reverse=True))):
        with pytest.raises(ValueError, match="must read ahead only"):
            attempt(model)
        with pytest.raises(ValueError, match="must read ahead only"):
            evaluate(model, [(x, target)], mse_loss, truncate=5)
    with pytest.raises(ValueError, match=r"target must have the inputs' \(T, B\) = \(23, 4\)"):
        attempt(batch=(x, target[-1]))
    with pytest.raises(ValueError, match=r"inputs must be a tensor \(T, B, ...\) or a dict"):
        attempt(batch=((x, None), target))
    with pytest.raises(ValueError, match=r"a dict with x, mask"):
        attempt(batch=({"x": x, "mask": None}, target))

    class Forgetful(torch.nn.Linear):
        def forward(self, x, state):
            return super().forward(x)

    with pytest.raises(TypeError, match=r"model must return \(y, state\)"):
        attempt(Forgetful(2, 3, dtype=torch.float64))


def test_a_penalty_moves_the_weights_but_not_the_history():
    # prediction 0, target 10: gradient -20; the penalty 3 w adds 3, and the step is 0.1 * 17
    model, seen = Weight(), []

    def penalty(mean):
        seen.append(mean.item())
        return 3 * model.w

    history = quiet(model, [(column(1), column(10))], mse_loss, epochs=1, optimiser=SGD,
                    penalty=penalty)
    assert model.w.item() == pytest.approx(1.7) and history.loss == seen == [100]
    with pytest.raises(TypeError, match="penalty must be callable"):
        quiet(model, [(column(1), column(1))], mse_loss, epochs=1, penalty=0.1)


def test_clipping_by_another_part():
    model = Weight()  # gradient -20, bounded at -2: the step is 0.2
    history = quiet(model, [(column(1), column(10))], mse_loss, epochs=1, optimiser=SGD,
                    clip=ClipValue(2.0))
    assert model.w.item() == pytest.approx(0.2) and history.gradient_norm == pytest.approx([20])


def test_truncation_checks_lengths_and_the_batch_axis():
    x, target = long_batch(9)
    real = torch.ones(9, 4, dtype=torch.bool)
    for lengths in ([0, 3, 6, 9], [99, 3, 6, 9], [], [3, 6, 9]):
        batch = ({"x": x, "lengths": lengths}, (target, real))
        with pytest.raises(ValueError, match="lengths must"):
            quiet(sequence_model(), [batch], MaskedLoss(mse_loss), epochs=1, truncate=4)
    model = RNN(2, 3, batch_first=True, dtype=torch.float64)
    with pytest.raises(ValueError, match="model must be time first"):
        quiet(model, [(x, target)], mse_loss, epochs=1, truncate=4)


def test_classes_that_are_left_out_do_not_count():
    torch.manual_seed(0)
    scores = torch.nn.Parameter(torch.randn(6, 3))
    target = torch.tensor([0, 1, -100, -100, -100, 2])

    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = scores

        def forward(self, x, state=None):
            return self.scores[x[:, 0]], state

    rows = torch.arange(6)[:, None]
    expected = cross_entropy(scores, target).item()
    whole = [(rows, target[:, None])]

    def loss(prediction, target):
        return cross_entropy(prediction, target.flatten())

    assert evaluate(Table(), whole, loss, truncate=1) == pytest.approx(expected)
    pieces = [(rows[i : i + 3], target[i : i + 3]) for i in (0, 3)]
    assert evaluate(Table(), pieces, cross_entropy) == pytest.approx(expected)
