"""Batches of equal and of unequal lengths, padding, masks, packing, bucketing, masked loss."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from companion.recurrent import RNN, Bidirectional, RNNCell, Unroll
from companion.sequences import MaskedLoss, batches, elnino, mask, pad, windows
from companion.training import evaluate, fit


def ragged(lengths, size=3, seed=0, dtype=torch.float64):
    """Random sequences of vectors, of the lengths asked for."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, size, generator=generator, dtype=dtype) for length in lengths]


def numbered(lengths):
    """Sequences of ids that say where they stand: 100 * sequence + step."""
    return [[100 * i + t for t in range(length)] for i, length in enumerate(lengths)]


def test_equal_lengths_hold_every_sequence_once_each_time():
    inputs = np.arange(24.0).reshape(2, 12, 1)
    plain = batches(inputs, inputs[:1] * 10, size=5)
    assert len(plain) == 3 and [x.shape[1] for x, _ in plain] == [5, 5, 2]
    joined = torch.cat([x for x, _ in plain], 1)
    assert joined.dtype == torch.float32
    assert joined.equal(torch.tensor(inputs, dtype=torch.float32))

    def orders(seed):
        data = batches(inputs, inputs[:1] * 10, size=5, seed=seed)
        return [torch.cat([torch.cat([x[:1], y]) for x, y in data], 1) for _ in range(3)]

    first, again = orders(1), orders(1)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first[0].equal(first[1]) and not first[0].equal(orders(2)[0])
    for epoch in first:
        assert sorted(epoch[0, :, 0].tolist()) == list(range(12))
        assert epoch[1].equal(epoch[0] * 10)  # targets go with their inputs
    tokens = batches(inputs.astype(int), inputs, size=12)
    assert [x.dtype for x in next(iter(tokens))] == [torch.int64, torch.float32]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the views that windows gives are read-only
        batches(*windows(elnino(), 24)[:2], size=32)


def test_equal_lengths_with_one_target_each_or_none():
    inputs = np.arange(24.0).reshape(2, 12, 1)
    for x, label in batches(inputs, np.arange(12), size=5, seed=0):
        assert label.tolist() == x[0, :, 0].tolist()
    alone = list(batches(inputs, size=5))
    assert [tuple(x.shape) for x in alone] == [(2, 5, 1), (2, 5, 1), (2, 2, 1)]


def test_batches_take_numpys_seed_and_no_default_device():
    inputs = torch.arange(6.0).reshape(1, 6)
    sequences = [torch.full((i + 1,), i) for i in range(6)]

    def order(seed):
        return torch.cat(list(batches(inputs, size=4, seed=seed)), 1)

    def lists(seed):
        data = batches(sequences, sequences, size=2, seed=seed, bucket=2)
        return torch.cat([(batch["x"] * real)[0] for batch, (_, real) in data])

    assert order(np.int64(1)).equal(order(1))
    with torch.device("meta"):  # a default for tensors that are made, not for what is here
        found = order(1), order(None), lists(1)
    assert found[0].equal(order(1)) and found[1].equal(inputs) and found[2].equal(lists(1))
    with pytest.raises(TypeError, match="seed must be a whole number, got 1.5"):
        order(1.5)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    size=st.integers(1, 7),
    bucket=st.integers(1, 4),
    seed=st.one_of(st.none(), st.integers(0, 9)),
)
def test_lists_hold_every_step_once_and_targets_stay_beside_them(lengths, size, bucket, seed):
    inputs = numbered(lengths)
    targets = [[-1 - v for v in sequence] for sequence in inputs]
    data = batches(inputs, targets, size=size, seed=seed, bucket=bucket)
    assert len(data) == -(-len(inputs) // size)
    for _ in range(2):  # it can be iterated again
        seen, count = [], 0
        for batch, (target, real) in data:
            x, count = batch["x"], count + 1
            assert batch["lengths"] == real.sum(0).tolist() and len(x) == max(batch["lengths"])
            assert x[real].equal(-1 - target[real])
            assert (x[~real] == 0).all() and (target[~real] == -100).all()
            seen += [column[:n].tolist() for column, n in zip(x.T, batch["lengths"], strict=True)]
        assert count == len(data) and sorted(seen) == sorted(inputs)
        if seed is None and bucket == 1:
            assert seen == inputs


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12), extra=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_pad_is_torchs_pad_sequence(lengths, extra):
    sequences = ragged(lengths)
    x, found = pad(sequences, padding=-7.0)
    assert found == lengths and x.equal(pad_sequence(sequences, padding_value=-7.0))
    x, found = pad(sequences, steps=max(lengths) + extra)
    assert len(x) == max(lengths) + extra and x[: max(lengths)].equal(pad_sequence(sequences))
    cut, found = pad(sequences, steps=2)  # a pre-set length: longer ones lose their ends
    assert found == [min(length, 2) for length in lengths] and len(cut) == 2
    assert cut[: max(found)].equal(pad_sequence([sequence[:2] for sequence in sequences]))


def test_a_preset_length_cuts_targets_too():
    data = batches(numbered([1, 5, 3]), numbered([1, 5, 3]), size=2, steps=3)
    for batch, (target, real) in data:
        assert batch["x"].shape == target.shape == real.shape and len(real) == 3
        assert real.sum(0).tolist() == batch["lengths"]
        assert batch["x"][real].equal(target[real])
    assert batch["lengths"] == [3] and target.tolist() == [[200], [201], [202]]


@pytest.mark.parametrize("seed", range(5))
def test_bucketing_bounds_the_padding_and_still_shuffles(seed):
    lengths = np.random.default_rng(seed).integers(1, 60, 400).tolist()

    def wasted(bucket, shuffle=seed):
        data = batches(numbered(lengths), size=8, seed=shuffle, bucket=bucket)
        return [len(b["x"]) * len(b["lengths"]) - sum(b["lengths"]) for b in data]

    # sorted, each batch spans its own stretch of lengths: the stretches add up to 59 - 1 at most
    for bucket in (5, 50):
        pools = -(-len(wasted(bucket)) // bucket)
        assert sum(wasted(bucket)) <= pools * 8 * (max(lengths) - min(lengths))
        assert sum(wasted(bucket, None)) <= pools * 8 * (max(lengths) - min(lengths))
    assert sum(wasted(50)) < 0.2 * sum(wasted(5)) < 0.2 * sum(wasted(1))

    data = batches(numbered(lengths), size=8, seed=seed, bucket=50)
    epochs = [[tuple(b["x"][0].tolist()) for b in data] for _ in range(2)]
    assert set(epochs[0]) != set(epochs[1])  # other sequences meet
    means = [np.mean(b["lengths"]) for b in data]
    assert abs(np.corrcoef(np.arange(50), means)[0, 1]) < 0.5  # short batches do not come first


def test_one_target_a_sequence_goes_with_its_sequence():
    inputs, labels = numbered([3, 1, 2, 5]), [0, 1, 2, 3]
    for targets in (labels, np.array(labels), torch.tensor(labels), np.eye(4)):
        for batch, target in batches(inputs, targets, size=2, seed=1, bucket=2):
            chosen = (batch["x"][0] // 100).tolist()
            expected = torch.tensor(np.asarray(targets))[chosen]
            assert target.to(expected.dtype).equal(expected)


def test_packed_batches_hold_the_same_steps():
    inputs, targets = ragged([3, 1, 4, 1, 5]), ragged([3, 1, 4, 1, 5], size=2, seed=1)
    plain = batches(inputs, targets, size=3, seed=2)
    packed = batches(inputs, targets, size=3, seed=2, packed=True)
    for (batch, (target, real)), (pack, flat) in zip(plain, packed, strict=True):
        assert isinstance(pack, PackedSequence)
        x, lengths = pad_packed_sequence(pack)
        assert x.equal(batch["x"]) and lengths.tolist() == batch["lengths"]
        back, _ = pad_packed_sequence(pack._replace(data=flat))
        assert back[real].equal(target[real]) and len(flat) == real.sum()
    for pack, label in batches(inputs, [0, 1, 2, 3, 4], size=5, packed=True):
        assert len(pack.data) == 14 and label.tolist() == [0, 1, 2, 3, 4]
    assert all(isinstance(pack, PackedSequence) for pack in batches(inputs, size=5, packed=True))


def test_dtypes_and_padding():
    (x, (target, real)), = batches([[1.0], [2.0, 3.0]], [[True], [False, True]], size=2, padding=9)
    assert x["x"].dtype == torch.float32 and x["x"].tolist() == [[1.0, 2.0], [9.0, 3.0]]
    assert target.dtype == torch.int64 and target.tolist() == [[1, 0], [-100, 1]]
    arrays = [np.ones((1, 2)), np.ones((3, 2))]
    (x, (target, real)), = batches(arrays, arrays, size=2)
    assert x["x"].dtype == target.dtype == torch.float32 and target[~real].isnan().all()
    (x,) = batches([torch.ones(2, 1, dtype=torch.float64)], size=1)
    assert x["x"].dtype == torch.float64


def test_arrays_of_any_layout_and_byte_order():
    array = np.arange(12.0).reshape(6, 2)
    for odd in (array[::-1], array[:, ::-1], array.astype(">f4"), array.astype(">i8")[::-1]):
        x, _ = pad([odd])
        assert x[:, 0].tolist() == odd.tolist()
        assert next(iter(batches(odd, size=2))).tolist() == odd.tolist()
    assert mask(np.array([1, 2], dtype=">i2")[::-1]).equal(mask([2, 1]))
    for unsigned in (np.uint16, np.uint32, np.uint64):
        ids = np.array([7, 8], dtype=unsigned)
        assert pad([ids, ids[:1]])[0].equal(torch.tensor([[7, 7], [8, 0]]))
        assert mask(ids).equal(mask([7, 8]))
    assert pad([torch.tensor([7, 8], dtype=torch.uint16)])[0].dtype == torch.int64


def test_lists_of_tensors():
    one, two = torch.tensor(1.5, requires_grad=True), torch.tensor(2.5)
    x, _ = pad([[one, two], [two]])
    assert x.tolist() == [[1.5, 2.5], [2.5, 0.0]]
    x[0, 0].backward()
    assert one.grad == 1
    (_, label), = batches([[1], [2]], [one, two], size=2)
    assert label.tolist() == [1.5, 2.5]


def test_padding_of_every_type_stays_what_it_was():
    fits = [([1], 2.0), ([1], -7), ([True], False), ([0.5], 0.1), ([0.5], math.nan),
            ([0.5], -math.inf), (np.ones(1, np.uint8), 255), ([True], 1)]  # fmt: skip
    for sequence, padding in fits:
        found = pad([sequence], padding, steps=2)[0][1, 0].item()
        assert found == pytest.approx(padding, nan_ok=True), (sequence, padding)


@pytest.mark.parametrize(
    ("sequence", "padding", "error"),
    [
        ([1], 0.5, ValueError), ([1], math.nan, ValueError), ([1], 2**70, ValueError),
        ([True], 5, ValueError), (np.ones(1, np.uint8), -1, ValueError),
        (np.ones(1, np.uint8), 300, ValueError), ([0.5], 1e60, ValueError),
        (torch.ones(1).half(), 1e6, ValueError),
        ([1], "x", TypeError), ([1], None, TypeError), ([1], [0], TypeError),
    ],
)  # fmt: skip
def test_padding_that_does_not_fit_is_refused_at_once(sequence, padding, error):
    for make in (lambda: pad([sequence], padding), lambda: batches([sequence], size=1,
                                                                   padding=padding)):
        with pytest.raises(error, match="padding must be a number"):
            make()


def test_a_tuple_of_targets_is_a_list_of_targets():
    for targets in ([[1, 2], [3, 4]], ([1, 2], [3, 4])):
        (_, (target, real)), = batches([[5, 6], [7, 8]], targets, size=2)
        assert target.tolist() == [[1, 3], [2, 4]] and real.all()
    (_, label), = batches([[5, 6], [7, 8]], (0, 1), size=2)
    assert label.tolist() == [0, 1]


def test_the_mask_goes_to_the_device_asked_for():
    assert mask([1], device="meta").device.type == "meta"
    if torch.cuda.is_available():
        assert mask([1], device=0).device == torch.device("cuda", 0)
    else:  # never silently on the CPU
        with pytest.raises((AssertionError, RuntimeError)):
            mask([1], device=0)


def test_what_cross_entropy_ignores_does_not_count():
    """Real labels 1 and ignored, so the mean is of one: that of the first step alone."""
    prediction = torch.randn(3, 1, 4, requires_grad=True)
    target, real = torch.tensor([[1], [-100], [2]]), mask([2], 3)
    mean, count = MaskedLoss(cross_entropy)(prediction, (target, real))
    assert count == 1 and mean.equal(cross_entropy(prediction[0], target[0]))
    mean, count = MaskedLoss(cross_entropy)(prediction, (target, mask([1], 3).roll(1, 0)))
    assert (mean.item(), count) == (0.0, 0)
    mean.backward()
    assert (prediction.grad == 0).all()


def test_masks_by_hand():
    assert mask([2, 0, 3]).tolist() == [[True, False, True], [True, False, True], [False] * 2 + [1]]
    assert mask(torch.tensor([1]), steps=3).tolist() == [[True], [False], [False]]
    assert mask([0, 0]).shape == (0, 2) and not mask([0, 0], 4).any()


class Tagger(nn.Module):
    """Scores of K classes for each step."""

    def __init__(self, classes=4):
        super().__init__()
        self.rnn, self.read_out = RNN(3, 8), nn.Linear(8, classes)

    def forward(self, x, lengths=None):
        return self.read_out(self.rnn(x, lengths=lengths)[0])


@pytest.mark.parametrize("bucket", [1, 3])
def test_masked_loss_is_that_of_the_sequences_one_by_one(bucket):
    torch.manual_seed(0)
    model, lengths = Tagger().double(), [5, 1, 9, 2, 2, 7, 4]
    inputs = ragged(lengths)
    labels = [torch.randint(4, (length,)) for length in lengths]
    alone = [cross_entropy(model(x[:, None])[:, 0], y, reduction="sum") for x, y in
             zip(inputs, labels, strict=True)]
    expected = sum(alone) / sum(lengths)
    gradients = torch.autograd.grad(expected, list(model.parameters()))

    loss, total = MaskedLoss(cross_entropy), 0
    for batch, target in batches(inputs, labels, size=3, seed=0, bucket=bucket):
        mean, count = loss(model(**batch), target)
        assert count == sum(batch["lengths"])
        total = total + mean * count
    total = total / sum(lengths)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(total, list(model.parameters())), gradients, rtol=1e-9, atol=1e-12
    )
    data = batches(inputs, labels, size=3, bucket=bucket)
    assert evaluate(model, data, loss) == pytest.approx(expected.item(), rel=1e-12)


def test_nothing_in_the_padding_reaches_value_or_gradient():
    prediction = torch.randn(4, 2, 3, requires_grad=True)
    target, real = torch.randn(4, 2, 3), mask([4, 1])
    loss = MaskedLoss(mse_loss)

    def run(fill):
        p = torch.where(real[..., None], prediction, fill)
        mean, count = loss(p, (target.masked_fill(~real[..., None], fill), real))
        return mean, count, torch.autograd.grad(mean, prediction)[0]

    clean, dirty = run(0.0), run(float("nan"))
    assert clean[1] == dirty[1] == 5 * 3  # values, not steps: fit weights batches by it
    assert clean[0].equal(dirty[0]) and clean[2].equal(dirty[2])
    by_hand = ((prediction - target) ** 2)[real].sum() / 15
    torch.testing.assert_close(clean[0], by_hand)


def test_a_batch_of_nothing_but_padding_gives_no_nan():
    prediction = torch.randn(3, 2, 5, requires_grad=True)
    mean, count = MaskedLoss(cross_entropy)(
        prediction, (torch.full((3, 2), -100), mask([0, 0], 3))
    )
    assert (mean.item(), count) == (0.0, 0)
    mean.backward()
    assert (prediction.grad == 0).all()
    # the plain losses do give NaN
    assert cross_entropy(prediction.flatten(0, 1), torch.full((6,), -100)).isnan()
    with pytest.raises(ValueError, match="is the whole batch padding"):
        fit(nn.Linear(5, 5), [(prediction.detach(), (torch.full((3, 2), -100), mask([0, 0], 3)))],
            MaskedLoss(cross_entropy), epochs=1, progress=False)


def test_dividing_by_all_steps_differs_and_ours_does_not():
    """Losses 1, 2, 3, 5 of four real steps among six: 11 / 4, but 11 / 6 if zeroed and averaged."""
    prediction = torch.tensor([[1.0, 5.0], [2.0, 0.0], [3.0, 0.0]]).sqrt()
    real = mask([3, 1])
    mean, count = MaskedLoss(mse_loss)(prediction, (torch.zeros(3, 2), real))
    assert mean.item() == pytest.approx(11 / 4) and count == 4
    assert ((prediction**2) * real).mean().item() == pytest.approx(11 / 6)


@pytest.mark.parametrize("layer", [RNN(3, 4), RNN(3, 4, loop=True), Unroll(RNNCell(3, 4))])
def test_samples_of_a_batch_do_not_mix(layer):
    """Change one sequence: the others' outputs must not move (a view in place of a transpose)."""
    layer = layer.double()
    x, lengths = pad(ragged([5, 2, 4]))
    before, _ = layer(x, lengths=lengths)
    for changed in range(3):
        moved = x.clone()
        moved[:, changed] += 1
        after, _ = layer(moved, lengths=lengths)
        same = [before[:, i].equal(after[:, i]) for i in range(3)]
        assert same == [i != changed for i in range(3)]
    # the witness that the check can fail: batch-first data brought to (T, B, D) by a view
    wrong = x.transpose(0, 1).contiguous()  # (B, T, D)
    y = [layer(w.view(5, 3, 3))[0] for w in (wrong, wrong + torch.tensor([0, 1, 0])[:, None, None])]
    assert not y[0][:, 0].equal(y[1][:, 0])


def test_last_real_outputs():
    lengths = [5, 2, 4]
    sequences = ragged(lengths)
    x, found = pad(sequences, padding=float("nan"))
    torch.manual_seed(0)
    layer = RNN(3, 4).double()
    alone = torch.stack([layer(s[:, None])[0][-1, 0] for s in sequences])
    y, state = layer(x, lengths=found)
    last = y[torch.tensor(found) - 1, torch.arange(3)]
    torch.testing.assert_close(last, alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state[0], alone, rtol=1e-12, atol=1e-12)
    assert (y[-1, [1, 2]] == 0).all()  # what y[-1] would have read
    both = Bidirectional(Unroll(RNNCell(3, 4)), Unroll(RNNCell(3, 4), reverse=True)).double()
    y, _ = both(x, lengths=found)
    for i, sequence in enumerate(sequences):
        torch.testing.assert_close(
            y[: lengths[i], i], both(sequence[:, None])[0][:, 0], rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("packed", [False, True])
def test_fit_takes_ragged_batches(packed):
    """Is there more above zero than below? Told from sequences of 2 to 12 steps."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2 + i % 11, 1, generator=generator) for i in range(120)]
    labels = [int(x.sum() > 0) for x in inputs]

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(1, 8) if packed else RNN(1, 8)
            self.read_out = nn.Linear(8, 2)

        def forward(self, x, **lengths):
            return self.read_out(self.rnn(x, **lengths)[1][0])

    torch.manual_seed(0)
    data = batches(inputs, labels, size=16, seed=0, bucket=4, packed=packed)
    history = fit(Last(), data, cross_entropy, epochs=20, learning_rate=0.02, progress=False)
    assert history.loss[-1] < 0.4 < history.loss[0] and history.steps == 20 * 8


def test_a_million_tokens_come_through_once():
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 49, 40_000)
    ids = generator.integers(0, 10_000, lengths.sum())
    sentences = [part.tolist() for part in np.split(ids, lengths.cumsum()[:-1])]
    tokens = total = places = 0
    for batch in batches(sentences, size=64, seed=0, bucket=50):
        tokens, places = tokens + sum(batch["lengths"]), places + batch["x"].numel()
        total += int(batch["x"].sum())
    assert tokens == lengths.sum() > 0.9e6 and total == ids.sum()
    assert places < 1.05 * tokens  # a pool pads 64 * 48 places at most, of 64 * 50 * 24.5


def test_padding_takes_the_memory_of_one_batch():
    """All 20,000 sequences padded to the longest would take 160 GB, a batch takes 16 MB at most."""
    sequences = [torch.zeros(1_000_000, dtype=torch.int64)] + [torch.ones(1).long()] * 19_999
    shapes = [tuple(batch["x"].shape) for batch in batches(sequences, size=2)]
    assert shapes == [(1_000_000, 2)] + [(1, 2)] * 9_999


WRONG = {
    "none": (lambda: batches([], size=2), ValueError, "inputs must hold at least one .* got none"),
    "empty": (lambda: batches([[1], []], size=2), ValueError, r"inputs\[1\] must hold .* got \[\]"),
    "size": (lambda: batches([[1]], size=0), ValueError, "size must be at least 1, got 0"),
    "even size": (lambda: batches(np.ones((1, 1)), size=0), ValueError, "size must be at least 1"),
    "whole": (lambda: batches([[1]], size=1.5), TypeError, "size must be a whole number, got 1.5"),
    "bucket": (lambda: batches([[1]], size=1, bucket=0), ValueError, "bucket must be at least 1"),
    "steps": (lambda: batches([[1]], size=1, steps=0), ValueError, "steps must be at least 1"),
    "seed": (lambda: batches([[1]], size=1, seed=-1), ValueError, "seed must be at least 0"),
    "words": (lambda: batches([["a", "b"]], size=1), TypeError, r"inputs\[0\] must hold numbers"),
    "letters": (lambda: batches(["ab"], size=1), TypeError, r"inputs\[0\] must hold numbers"),
    "flat": (lambda: batches([1, 2], size=1), ValueError, r"inputs\[0\] must hold at .* got 1"),
    "tuple": (lambda: batches(windows(elnino(), 24), size=1), TypeError, "inputs must .* Windows"),
    "vectors": (
        lambda: batches([np.ones((2, 3)), np.ones((2, 4))], size=1),
        ValueError, r"inputs\[1\] must have steps of shape \(3,\) .* got \(4,\)",
    ),
    "fewer": (lambda: batches([[1], [2]], [0], size=1), ValueError, "as many as inputs, 2, got 1"),
    "no targets": (lambda: batches([[1], [2]], [], size=1), ValueError, "as inputs, 2, got 0"),
    "misfit": (
        lambda: batches([[1], [1, 2]], [[1], [1]], size=1),
        ValueError, r"targets\[1\] must have 2 steps as inputs\[1\] has, got 1",
    ),
    "options": (
        lambda: batches(np.ones((1, 1)), size=1, bucket=2), ValueError, "equally long",
    ),
    "other N": (
        lambda: batches(np.ones((2, 12, 1)), np.ones((2, 3, 1)), size=5),
        ValueError, r"same N as inputs \(2, 12, 1\), got \(2, 3, 1\)",
    ),
    "other count": (
        lambda: batches(np.ones((2, 12, 1)), np.ones(3), size=5), ValueError, r"got \(3,\)",
    ),
    "no N": (lambda: batches(np.ones((2, 0, 1)), size=5), ValueError, r"got \(2, 0, 1\)"),
    "no batch axis": (lambda: batches(np.ones(5), size=5), ValueError, r"\(T, N, .*got \(5,\)"),
    "scalar": (
        lambda: batches(np.ones((2, 3)), np.float64(1), size=5), ValueError, r"got \(\)",
    ),
    "one target": (lambda: batches([[1]], 5, size=1), ValueError, "one a sequence, got 5"),
    "great seed": (
        lambda: batches([[1]], size=1, seed=2**64),
        ValueError, r"seed must be below 2\*\*64, got 18",
    ),
    "packed": (lambda: batches([[1]], size=1, packed="no"), ValueError, "packed must be .* 'no'"),
    "masked array": (
        lambda: batches(np.ma.masked_array(np.ones((1, 2)), [[True, False]]), size=1),
        ValueError, "inputs must have no masked values, got masked_array",
    ),
    "masked sequence": (
        lambda: pad([[1], np.ma.masked_array([1, 2], [True, False])]),
        ValueError, r"sequences\[1\] must have no masked values, got masked_array",
    ),
    "too great": (
        lambda: pad([np.array([2**63], dtype=np.uint64)]), ValueError, r"numbers below 2\*\*63",
    ),
    "unequal tensors": (
        lambda: pad([[torch.ones(1), torch.ones(2)]]),
        TypeError, r"sequences\[0\] must hold numbers",
    ),
    "pad numbers": (lambda: pad([1, 2]), ValueError, "step in a list or array of its own, got 1"),
    "mask of words": (lambda: mask(["a"]), TypeError, "lengths must hold numbers"),
    "mask of nothing": (lambda: mask(None), TypeError, "lengths must hold numbers .* got None"),
    "pad": (lambda: pad([]), ValueError, "sequences must hold at least one sequence, got none"),
    "pad what": (lambda: pad("ab"), TypeError, "sequences must be a list, got str"),
    "pad steps": (lambda: pad([[1]], steps=0), ValueError, "steps must be at least 1, got 0"),
    "long": (lambda: mask([3, 5], steps=4), ValueError, r"from 0 to T = 4, got \[3, 5\]"),
    "negative": (lambda: mask([3, -1]), ValueError, r"from 0 to T = 3, got \[3, -1\]"),
    "no lengths": (lambda: mask([]), ValueError, r"one number a sequence, got shape \(0,\)"),
    "part": (lambda: mask([1.5]), TypeError, "lengths must be whole numbers, got dtype"),
    "loss": (lambda: MaskedLoss(3), TypeError, "loss must be callable, got 3"),
    "no pair": (
        lambda: MaskedLoss(mse_loss)(torch.ones(2, 1), torch.ones(2, 1)),
        TypeError, r"must be a pair \(target, mask\), got Tensor",
    ),
    "mask of another batch": (
        lambda: MaskedLoss(mse_loss)(torch.ones(2, 3), (torch.ones(2, 3), mask([2, 1]))),
        ValueError, r"mask must be \(T, B\) .* prediction \(2, 3\) and .* got \(2, 2\)",
    ),
    "column beside whole numbers": (
        lambda: MaskedLoss(lambda p, y: ((p - y) ** 2).mean())(
            torch.ones(2, 2, 1), (torch.ones(2, 2).long(), mask([2, 1]))
        ),
        ValueError, r"same shape, got \(2, 2, 1\) and \(2, 2\)",
    ),
    "row beside whole numbers": (
        lambda: MaskedLoss(lambda p, y: ((p - y) ** 2).mean())(
            torch.ones(2, 2), (torch.ones(2, 2, 1).long(), mask([2, 1]))
        ),
        ValueError, r"same shape, got \(2, 2\) and \(2, 2, 1\)",
    ),
    "loss of each": (
        lambda: MaskedLoss(nn.MSELoss(reduction="none"))(
            torch.ones(2, 2), (torch.ones(2, 2), mask([2, 1]))
        ),
        ValueError, r"loss must give one number, a mean, got shape \(3,\)",
    ),
    "list for a mask": (
        lambda: MaskedLoss(mse_loss)(torch.ones(1, 1), (torch.ones(1, 1), [[True]])),
        TypeError, r"mask must be a tensor, got \[\[True\]\]",
    ),
    "array for a target": (
        lambda: MaskedLoss(mse_loss)(torch.ones(1, 1), (np.ones((1, 1)), mask([1]))),
        TypeError, "target must be a tensor, got array",
    ),
    "output and state": (
        lambda: MaskedLoss(mse_loss)((torch.ones(1, 1), None), (torch.ones(1, 1), mask([1]))),
        TypeError, r"prediction must be a tensor, got \(tensor",
    ),
    "numbers for a mask": (
        lambda: MaskedLoss(mse_loss)(torch.ones(2, 3), (torch.ones(2, 3), torch.ones(2, 3))),
        ValueError, "of torch.float32",
    ),
    "broadcast": (
        lambda: MaskedLoss(mse_loss)(torch.ones(2, 1, 1), (torch.ones(2, 1), mask([2]))),
        ValueError, r"same shape, got \(2, 1, 1\) and \(2, 1\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_named(case):
    run, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        run()
