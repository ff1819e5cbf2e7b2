"""Truncation: where the gradient ends, what is carried on, and that memory does not grow."""

import functools
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from companion.bptt import SavedForBackward, detached
from companion.recurrent import RNN, RNNCell, RNNState, Stack, Unroll
from companion.reference import rnn as reference
from companion.sequences import MaskedLoss
from companion.training import evaluate, fit
from tests.helpers import relative_error

quiet = functools.partial(fit, progress=False)
SGD = functools.partial(torch.optim.SGD, lr=0.1)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("COMPANION_DEVICE", "cpu")


def network(seed=0, units=5, dtype=torch.float64):
    torch.manual_seed(seed)
    return Stack(RNN(2, units, dtype=dtype), nn.Linear(units, 1, dtype=dtype))


def data(steps, rows=3, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, rows, 2, generator=generator, dtype=dtype)
    return x, torch.randn(steps, rows, 1, generator=generator, dtype=dtype)


# ---- the state ----


def test_a_detached_state_has_the_same_values_and_structure_and_no_past():
    h = torch.randn(2, 3, requires_grad=True) * 2
    state = (RNNState(h), None, [h, (h,)])
    cut = detached(state)
    assert type(cut) is tuple and type(cut[0]) is RNNState and type(cut[2]) is list
    assert cut[1] is None and detached(None) is None
    for part in (cut[0].h, cut[2][0], cut[2][1][0], detached(h)):
        assert torch.equal(part, h) and not part.requires_grad
    assert h.requires_grad  # the state itself keeps its past
    with pytest.raises(TypeError, match="state must hold tensors, tuples or None, got dict"):
        detached((h, {"h": h}))


# ---- the gradient ----


def test_windows_have_the_gradient_of_the_reference_by_windows():
    steps, n = 23, 5
    x, _ = data(steps)
    torch.manual_seed(3)
    cell = RNNCell(2, 4, dtype=torch.float64)
    layer, d_h = Unroll(cell), torch.randn(steps, 3, 4, dtype=torch.float64)
    state = None
    for start in range(0, steps, n):
        h, state = layer(x[start : start + n], state)
        (h * d_h[start : start + n]).sum().backward()  # gradients add up
        state = detached(state)

    params = reference.Parameters(*(w.detach().numpy() for w in (cell.W_xh, cell.W_hh, cell.b_h)))
    _, _, tapes = reference.forward(params, x.numpy())
    expected = [
        reference.backward(params, d_h[i : i + n].numpy(), tapes[i : i + n])[2]
        for i in range(0, steps, n)
    ]
    for got, name in ((cell.weight_ih, "W_xh"), (cell.weight_hh, "W_hh")):
        total = torch.from_numpy(sum(getattr(grads, name) for grads in expected)).T
        assert relative_error(got.grad, total) < 1e-12
    total = torch.from_numpy(sum(grads.b_h for grads in expected))
    assert relative_error(cell.bias_ih.grad, total) < 1e-12


def test_nothing_reaches_back_beyond_the_window():
    """The loss of the last window has a gradient by its own inputs alone."""
    x, _ = data(12)
    x.requires_grad_()
    layer = RNN(2, 4, dtype=torch.float64)
    state = None
    for start in (0, 4, 8):
        y, state = layer(x[start : start + 4], detached(state))
    y.sum().backward()
    assert (x.grad[8:] != 0).all() and not x.grad[:8].any()


# ---- training by windows ----


def test_every_batch_starts_afresh_and_may_be_smaller():
    """A state of the last batch would not fit, or belong to other sequences."""
    many, few = data(10, rows=4, seed=1), data(7, rows=2, seed=2)
    model, witness = network(), network()
    quiet(model, [many, few], mse_loss, epochs=2, optimiser=SGD, truncate=4)
    optimiser = SGD(witness.parameters())
    for x, target in [many, few] * 2:
        state = None
        for start in range(0, len(x), 4):
            y, state = witness(x[start : start + 4], detached(state))
            optimiser.zero_grad()
            mse_loss(y, target[start : start + 4]).backward()
            optimiser.step()
    for got, expected in zip(model.parameters(), witness.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_a_row_is_carried_on_to_its_own_row():
    """Another first window of row 1 moves what follows in row 1 alone."""
    x, target = data(12, rows=3)
    other = x.clone()
    other[:4, 1] += 1

    def by_row(x):
        mean = [
            evaluate(network(), [(x, (target, rows))], MaskedLoss(mse_loss), truncate=4)
            for rows in (
                (torch.arange(12)[:, None] >= 4) & (torch.arange(3) == row) for row in range(3)
            )
        ]
        return np.array(mean)

    changed = by_row(other) != by_row(x)
    assert changed.tolist() == [False, True, False]


def last_bit(seed, steps=300, rows=16, gap=10):
    """A bit is shown once in ten steps; the latest is asked for at every step."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (steps // gap, rows), generator=generator) * 2.0 - 1
    x = torch.zeros(steps, rows, 2)
    x[::gap, :, 0] = bits
    return x, (bits > 0).float().repeat_interleave(gap, 0)[..., None]


@pytest.mark.parametrize("seed", range(3))
def test_a_carried_state_knows_what_stood_before_the_window(seed):
    """Half the windows of five contain no bit: without the state they are guesses (0.75)."""
    model = network(seed, units=16, dtype=torch.float32)
    quiet(
        model,
        [last_bit(seed)],
        binary_cross_entropy_with_logits,
        epochs=6,
        truncate=5,
        learning_rate=0.01,
        clip=1.0,
    )
    x, target = last_bit(seed + 10)
    with torch.no_grad():
        right = ((model(x)[0] > 0) == (target > 0.5)).float().mean()
        reset = torch.cat([model(window)[0] for window in x.split(5)])
    assert right > 0.95
    assert ((reset > 0) == (target > 0.5)).float().mean() < 0.85


# ---- memory ----


def test_saved_bytes_are_those_of_the_operations():
    x = torch.ones(100, dtype=torch.float64, requires_grad=True)
    with SavedForBackward() as saved:
        doubled = 2 * x  # keeps nothing as large as x: the factor is a number
        assert saved.now == 0
        one, other = doubled.square(), doubled.exp()  # one keeps its input, one its output
        assert saved.now == 2 * 800
        total = (doubled * one).sum()  # keeps both factors: doubled is held already
        assert saved.now == 3 * 800
        total.backward()
        assert saved.now == 800  # exp has not been gone back over
        del other
    assert (saved.now, saved.peak) == (0, 2400)


def test_saved_bytes_end_with_the_block_and_without_gradients():
    x = torch.ones(100, requires_grad=True)
    with SavedForBackward() as saved, torch.no_grad():
        x.square()
    outside = x.square()
    assert (saved.now, saved.peak) == (0, 0)
    with SavedForBackward() as saved:
        outside.sum().backward()
    assert saved.peak == 0


@pytest.mark.parametrize("loop", [False, True])
def test_memory_depends_on_the_window_alone(loop):
    def peak(steps, truncate):
        torch.manual_seed(0)
        model = Stack(RNN(2, 8, loop=loop), nn.Linear(8, 1))
        with SavedForBackward() as saved:
            quiet(model, [data(steps, dtype=torch.float32)], mse_loss, epochs=1, truncate=truncate)
        assert saved.now == 0
        return saved.peak

    assert peak(60, 20) == peak(240, 20) < peak(240, 40) < peak(240, None)
    assert peak(240, None) > 3 * peak(60, None)


LONG = '''
    import json, pathlib, re, resource, torch
    from companion.recurrent import RNN, Stack
    from companion.training import fit

    torch.set_num_threads(1)

    def peak():
        """Bytes; Linux counts what the process that started this one held in ru_maxrss."""
        status = pathlib.Path("/proc/self/status")
        if status.exists():
            return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text()).group(1))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if {mac} else 1024)

    def peak_after(steps, truncate):
        torch.manual_seed(0)
        model = Stack(RNN(2, 64), torch.nn.Linear(64, 1))
        x, target = torch.randn(steps, 4, 2), torch.randn(steps, 4, 1)
        history = fit(model, [(x, target)], torch.nn.functional.mse_loss, epochs=1,
                      truncate=truncate, progress=False)
        return history.steps, peak()

    print(json.dumps([peak_after(1_000, 100), peak_after({steps}, 100), peak_after({steps}, None)]))
'''


def test_a_long_sequence_trains_in_bounded_memory():
    """The peak of a whole process; the last run, not truncated, shows that it would be seen."""
    pytest.importorskip("resource")
    steps = 10_000
    script = textwrap.dedent(LONG).format(mac=sys.platform == "darwin", steps=steps)
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    (few, short), (many, long), (_, whole) = json.loads(run.stdout.splitlines()[-1])
    assert (few, many) == (10, steps // 100)
    sequence = steps * 4 * 3 * 4  # bytes of the inputs and targets: they are there in any case
    states = steps * 4 * 64 * 4  # bytes of all hidden states
    assert long - short < 2 * sequence + 0.5 * states
    assert whole - long > 2 * states


def test_a_tensor_changed_in_place_is_noticed_inside_the_count():
    w = torch.ones(3, requires_grad=True)
    with SavedForBackward():
        y = w.exp()
        y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_expanded_tensors_count_what_they_hold():
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    with SavedForBackward() as saved:
        (a.expand(1000) * b.expand(1000)).sum()
    assert saved.peak == 8
