"""CBOW, skip-gram and their losses against NumPy, hand arithmetic and known distributions."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from companion.reference import words as reference
from companion.training import fit
from companion.words import (
    CBOW,
    Embedding,
    FullSoftmax,
    NegativeSampling,
    NoiseContrastive,
    SkipGram,
    contexts,
    pairs,
)

V, D, N, K = 7, 4, 12, 3
NOISE = np.array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05, 0.0])  # the last word is never drawn
DOUBLE = {"dtype": torch.float64}
OBJECTIVES = [
    FullSoftmax(),
    NegativeSampling(NOISE, K),
    NoiseContrastive(np.full(V, 1 / V), K),
]
MODELS = [SkipGram, CBOW]


def named(part):
    return getattr(part, "__name__", type(part).__name__)


def example(seed, model):
    """Inputs with words that occur several times, targets, and drawn words that hit them."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, V, N)
    if model is CBOW:
        inputs = rng.integers(-1, V, (N, 4))
        inputs[:, 1] = rng.integers(0, V, N)  # at least one word in each row
        inputs[0] = [2, 2, -1, 2]
    targets, drawn = rng.integers(0, V, N), rng.integers(0, V, (N, K))
    drawn[1] = targets[1]
    return inputs, targets, drawn


def tables(seed):
    rng = np.random.default_rng(100 + seed)
    return reference.Parameters(rng.normal(size=(V, D)), rng.normal(size=(V, D)))


def by_hand(params, model, objective, inputs, targets, drawn):
    """Loss and gradients by the NumPy reference."""
    ahead, back = {
        SkipGram: (reference.skip_gram, reference.skip_gram_back),
        CBOW: (reference.cbow, reference.cbow_back),
    }[model]
    h = ahead(params, inputs)
    if type(objective) is FullSoftmax:
        loss, tape = reference.full_softmax(params, h, targets)
        d_h, d_U = reference.full_softmax_back(params, tape)
    else:
        if type(objective) is NegativeSampling:
            loss, tape = reference.negative_sampling(params, h, targets, drawn)
        else:
            noise = objective.units.numpy() / objective.total
            loss, tape = reference.noise_contrastive(params, h, targets, drawn, noise)
        d_h, d_U = reference.sampled_back(params, tape)
    return loss, reference.Parameters(back(params, d_h, inputs), d_U)


def by_autograd(params, model, objective, inputs, targets, drawn, sparse=False):
    module = model(V, D, objective, sparse=sparse, **DOUBLE)
    with torch.no_grad():
        module.input.weight.copy_(torch.from_numpy(params.E))
        module.output.weight.copy_(torch.from_numpy(params.U))
    options = {} if type(objective) is FullSoftmax else {"drawn": torch.from_numpy(drawn)}
    h = module(torch.from_numpy(inputs))
    loss = module.loss(h, torch.from_numpy(targets), **options)
    loss.backward()
    return loss.item(), module


def dense(gradient):
    return (gradient.to_dense() if gradient.is_sparse else gradient).numpy()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=named)
@pytest.mark.parametrize("model", MODELS, ids=named)
@pytest.mark.parametrize("seed", range(3))
def test_gradient_by_hand_is_autograds(seed, model, objective, sparse):
    params, batch = tables(seed), example(seed, model)
    loss, (d_E, d_U) = by_hand(params, model, objective, *batch)
    got, module = by_autograd(params, model, objective, *batch, sparse=sparse)
    assert got == pytest.approx(loss, rel=1e-13)
    pairs_ = ((dense(module.input.weight.grad), d_E), (dense(module.output.weight.grad), d_U))
    for ours, expected in pairs_:
        assert np.abs(ours - expected).max() <= 1e-12 * np.abs(expected).max() > 0


@pytest.mark.parametrize("objective", OBJECTIVES, ids=named)
@pytest.mark.parametrize("model", MODELS, ids=named)
def test_gradient_by_hand_is_the_central_difference(model, objective):
    params, batch, step = tables(0), example(0, model), 1e-6
    _, grads = by_hand(params, model, objective, *batch)
    for table, gradient in zip(params, grads, strict=True):
        numeric = np.zeros_like(table)
        for at in np.ndindex(*table.shape):
            before, losses = table[at], []
            for moved in (before + step, before - step):
                table[at] = moved
                losses.append(by_hand(params, model, objective, *batch)[0])
            table[at] = before
            numeric[at] = (losses[0] - losses[1]) / (2 * step)
        assert np.abs(numeric - gradient).max() < 1e-8 * np.abs(gradient).max() + 1e-9


def test_losses_by_hand():
    # h = (1, 2); scores of the three words: 1, -2, 3
    h = torch.tensor([[1.0, 2.0]], **DOUBLE)
    table = Embedding.from_pretrained(torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], **DOUBLE))
    target, drawn = torch.tensor([0]), torch.tensor([[2, 1]])
    full = FullSoftmax()(h, target, table)
    assert full.item() == pytest.approx(math.log(math.exp(1) + math.exp(-2) + math.exp(3)) - 1)

    def log_sigmoid(s):
        return -math.log(1 + math.exp(-s))

    quarter = [0.25, 0.25, 0.5]
    sampled = NegativeSampling(quarter, 2)(h, target, table, drawn=drawn)
    expected = -log_sigmoid(1) - log_sigmoid(-3) - log_sigmoid(2)
    assert sampled.item() == pytest.approx(expected, rel=1e-14)
    # k q = 1/2, 1/2, 1: the scores grow by log 2, log 2 and 0
    sampled = NoiseContrastive(quarter, 2)(h, target, table, drawn=drawn)
    expected = -log_sigmoid(1 + math.log(2)) - log_sigmoid(-3) - log_sigmoid(2 - math.log(2))
    assert sampled.item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("kind", [NegativeSampling, NoiseContrastive])
@pytest.mark.parametrize("k", [1, 2])
def test_where_the_expected_loss_is_least(kind, k):
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    objective = kind(q, k)
    target = np.log(p) if kind is NoiseContrastive else np.log(p) - np.log(k * q)
    table = Embedding.from_pretrained(torch.from_numpy(target)[:, None], freeze=False)
    one = torch.ones(1, 1, **DOUBLE)

    def expected_loss():
        total = 0.0  # every target with all draws, weighted by how likely they are
        for w, *drawn in itertools.product(range(3), repeat=1 + k):
            loss = objective(one, torch.tensor([w]), table, drawn=torch.tensor([drawn]))
            total = total + p[w] * np.prod(q[drawn]) * loss
        return total

    least = expected_loss()
    (gradient,) = torch.autograd.grad(least, table.weight)
    assert gradient.abs().max() < 1e-8  # the noise is rounded to 2^-30
    # elsewhere it is not zero
    with torch.no_grad():
        table.weight += torch.tensor([[0.1], [0.0], [0.0]])
    moved = expected_loss()
    (gradient,) = torch.autograd.grad(moved, table.weight)
    assert gradient[0].abs() > 1e-3 and moved > least


@pytest.mark.parametrize("seed", range(3))
def test_sampled_training_reaches_what_theory_says(seed):
    p, q, k = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4]), 4
    words = np.random.default_rng(seed).choice(4, 10_000, p=p)
    share = np.bincount(words) / len(words)
    one, targets = torch.ones(len(words), 1), torch.from_numpy(words)
    generator = torch.Generator().manual_seed(seed)
    for kind, expected in (
        (NoiseContrastive, np.log(share)),
        (NegativeSampling, np.log(share) - np.log(k * q)),
    ):
        objective, table = kind(q, k), Embedding.from_pretrained(torch.zeros(4, 1), freeze=False)
        optimiser = torch.optim.SGD(table.parameters(), lr=3.0)
        for _ in range(120):
            optimiser.zero_grad()
            objective(one, targets, table, generator=generator).backward()
            optimiser.step()
        assert np.abs(table.weight.detach()[:, 0].numpy() - expected).max() < 0.06


@pytest.mark.parametrize("model", MODELS, ids=named)
@pytest.mark.parametrize("objective", OBJECTIVES[1:], ids=named)
def test_a_sampled_step_touches_only_its_words(model, objective):
    inputs, targets, drawn = example(0, model)
    targets, drawn, wide = targets[:3], drawn[:3], 1000
    noise = np.zeros(wide)
    noise[:V] = 1 / V
    module = model(wide, D, type(objective)(noise, K), sparse=True)
    torch.nn.init.normal_(module.output.weight)  # at zero, the first step would move no input
    before = [table.weight.detach().clone() for table in (module.input, module.output)]
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    h = module(torch.from_numpy(inputs[:3]))
    module.loss(h, torch.from_numpy(targets), drawn=torch.from_numpy(drawn)).backward()
    used = [set(inputs[:3].ravel().tolist()) - {-1}, {*targets.tolist(), *drawn.ravel().tolist()}]
    for table, rows in zip((module.input, module.output), used, strict=True):
        gradient = table.weight.grad
        assert gradient.is_sparse and set(gradient.coalesce().indices()[0].tolist()) == rows
    optimiser.step()
    for table, rows, old in zip((module.input, module.output), used, before, strict=True):
        moved = (table.weight.detach() != old).any(1).nonzero()[:, 0]
        assert set(moved.tolist()) == rows


def test_the_full_softmax_touches_every_row():
    module = SkipGram(50, D, sparse=True)
    module.loss(module(torch.tensor([3])), torch.tensor([4])).backward()
    assert (module.output.weight.grad != 0).any(1).all()
    assert module.input.weight.grad.coalesce().indices().tolist() == [[3]]


# ---- drawing from the noise ----


@pytest.mark.parametrize("kind", [NegativeSampling, NoiseContrastive])
def test_draws_follow_the_noise(kind):
    objective, values = kind(NOISE), []
    for seed in range(5):
        drawn = objective.draw(200, 500, generator=torch.Generator().manual_seed(seed))
        assert drawn.shape == (200, 500) and drawn.dtype == torch.int64
        count = np.bincount(drawn.flatten().numpy(), minlength=V)
        assert count[-1] == 0
        values.append(stats.chisquare(count[:-1], NOISE[:-1] * count.sum()).pvalue)
    assert min(values) > 1e-4 and max(values) > 0.01


def test_every_unit_belongs_to_its_word(monkeypatch):
    objective = NegativeSampling([0.0, 1e-15, 1 - 1e-15])
    assert objective.units.tolist() == [0, 1, 2**30] and objective.total == 2**30 + 1
    # the very first unit belongs to the rare word, all others to the last one
    units = torch.tensor([0, 1, 2**30])
    monkeypatch.setattr(torch, "randint", lambda *_, **__: units)
    assert objective.draw(3).tolist() == [1, 2, 2]


def test_a_generator_decides_the_draws():
    objective = NegativeSampling(NOISE, K)
    module = SkipGram(V, D, objective)
    torch.nn.init.normal_(module.output.weight)
    words, near = torch.arange(V), torch.arange(V)

    def loss(seed):
        generator = torch.Generator().manual_seed(seed)
        return module.loss(module(words), near, generator=generator).item()

    state = torch.get_rng_state()
    assert loss(1) == loss(1) != loss(2)
    assert torch.equal(torch.get_rng_state(), state)  # the global generator stood still
    torch.manual_seed(3)
    first = module.loss(module(words), near).item()
    torch.manual_seed(3)
    assert module.loss(module(words), near).item() == first


def test_noise_keeps_its_precision_in_other_types():
    q = np.random.default_rng(0).dirichlet(np.ones(50))
    scores, ids = torch.zeros(50), torch.arange(50)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        objective = NoiseContrastive(q, 3).to(dtype)
        got = objective.logits(scores.to(dtype), ids)
        drawn = objective.units.numpy() / objective.total  # q, in multiples of 2^-30
        np.testing.assert_allclose(drawn, q, atol=1e-9)
        tolerance = 1e-12 if dtype is torch.float64 else 2e-6
        np.testing.assert_allclose(got.double().numpy(), -np.log(3 * drawn), rtol=tolerance)


# ---- models ----


def test_tables_start_as_in_word2vec():
    module = SkipGram(2000, 10, generator=torch.Generator().manual_seed(1))
    weight = module.input.weight.detach()
    assert 0.049 < weight.max() < 0.05 and -0.05 < weight.min() < -0.049
    assert weight.var().item() == pytest.approx(0.1**2 / 12, rel=0.05)  # of an even distribution
    assert not module.output.weight.any()
    again = CBOW(2000, 10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(weight, again.input.weight)
    assert set(module.state_dict()) == {"input.weight", "output.weight"}
    noisy = SkipGram(V, D, NegativeSampling(NOISE))
    assert set(noisy.state_dict()) == {"input.weight", "output.weight"}


def test_cbow_averages_what_is_there():
    module = CBOW(V, D, **DOUBLE)
    rows = module.input.weight
    h = module(torch.tensor([[-1, 2, -1, -1], [0, 1, 2, 3], [5, 5, -1, 6]]))
    expected = torch.stack([rows[2], rows[:4].mean(0), (2 * rows[5] + rows[6]) / 3])
    torch.testing.assert_close(h, expected, rtol=1e-14, atol=0)
    h[2].sum().backward()  # each use of a word gets a third
    assert rows.grad[5].tolist() == pytest.approx([2 / 3] * D, rel=1e-14)
    assert rows.grad[6].tolist() == pytest.approx([1 / 3] * D, rel=1e-14)
    assert not rows.grad[:5].any()
    assert torch.equal(
        module(torch.tensor([[1, -1]], dtype=torch.int32)), module(torch.tensor([[1]]))
    )


def entropy_floor(inputs, targets):
    """Mean conditional entropy of targets given (hashable) inputs, from their counts."""
    joint, alone = {}, {}
    for i, t in zip(inputs, targets, strict=True):
        joint[i, t] = joint.get((i, t), 0) + 1
        alone[i] = alone.get(i, 0) + 1
    return sum(-n * math.log(n / alone[i]) for (i, _), n in joint.items()) / len(targets)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", MODELS, ids=named)
def test_full_softmax_falls_to_the_entropy(model, seed):
    birds = [[0, 1, 2, colour, 7] for colour in (3, 4, 5, 6)]  # this is a ... bird
    words, near = pairs(birds, 2) if model is SkipGram else contexts(birds, 2)[::-1]
    floor = entropy_floor([tuple(np.atleast_1d(w).tolist()) for w in words], near.tolist())
    torch.manual_seed(seed)
    module = model(8, 8)
    batches = [(torch.from_numpy(words), torch.from_numpy(near))]
    history = fit(module, batches, module.loss, epochs=300, learning_rate=0.05, progress=False)
    assert history.loss[0] == pytest.approx(math.log(8), rel=1e-6)  # every word as likely
    assert 0.999 * floor < history.loss[-1] < 1.03 * floor + 0.01


@pytest.mark.parametrize("objective", OBJECTIVES[1:], ids=named)
@pytest.mark.parametrize("model", MODELS, ids=named)
def test_sampled_losses_fall_in_training(model, objective):
    birds = [[0, 1, 2, colour, 6] for colour in (3, 4, 5)]
    inputs, targets = pairs(birds, 2) if model is SkipGram else contexts(birds, 2)[::-1]
    batches = [(torch.from_numpy(inputs), torch.from_numpy(targets))]
    objective = type(objective)(np.full(7, 1 / 7), K)
    for sparse, optimiser in ((False, torch.optim.Adam), (True, torch.optim.SparseAdam)):
        module = model(7, 5, objective, sparse=sparse, generator=torch.Generator().manual_seed(0))
        history = fit(
            module, batches, module.loss, epochs=150, learning_rate=0.05, optimiser=optimiser,
            seed=0, progress=False, clip=5.0,
        )  # fmt: skip
        assert np.mean(history.loss[-20:]) < 0.8 * history.loss[0]


def test_a_vocabulary_of_one():
    module = SkipGram(1, D)
    assert module.loss(module(torch.tensor([0])), torch.tensor([0])).item() == 0  # nothing to learn
    for kind in (NegativeSampling, NoiseContrastive):
        with pytest.raises(ValueError, match="at least two words, .* got 1"):
            kind([1.0])
        with pytest.raises(ValueError, match="at least two words, .* got 1"):
            kind([0.0, 1.0])


@pytest.mark.parametrize(
    ("noise", "error", "words"),
    [
        ([3, 1], ValueError, "sum to 1, got 4; noise_distribution"),
        ([1.5, -0.5], ValueError, "at least 0"),
        ([0.5, np.nan], ValueError, "finite"),
        ([[0.5, 0.5]], ValueError, r"\(V,\)"),
        (["a", "b"], TypeError, "numbers"),
    ],
)
def test_what_is_no_noise_is_refused(noise, error, words):
    for kind in (NegativeSampling, NoiseContrastive):
        with pytest.raises(error, match=words):
            kind(noise)


def test_wrong_shapes_and_sizes_are_refused():
    with pytest.raises(ValueError, match="negatives must be at least 1, got 0"):
        NegativeSampling(NOISE, 0)
    with pytest.raises(ValueError, match="num_embeddings must be at least 1"):
        SkipGram(0, D)
    ids = torch.tensor([1, 2])
    for objective in OBJECTIVES:
        module = SkipGram(V, D, objective)
        with pytest.raises(ValueError, match=r"got \(1, 4\) and \(2,\)"):  # would broadcast
            module.loss(module(ids[:1]), ids)
    module = SkipGram(V + 1, D, NegativeSampling(NOISE, K))
    with pytest.raises(ValueError, match="each of the table's 8 words, got 7"):
        module.loss(module(ids), ids)
    module = SkipGram(V, D, NegativeSampling(NOISE, K))
    with pytest.raises(ValueError, match=r"drawn must be \(2, 3\), got \(2, 2\)"):
        module.loss(module(ids), ids, drawn=torch.zeros(2, 2, dtype=torch.int64))
    module = CBOW(V, D)
    with pytest.raises(ValueError, match=r"contexts must be \(N, C\), got \(2,\)"):
        module(ids)
    with pytest.raises(ValueError, match="a word in each row, got none in row 1"):
        module(torch.tensor([[1, -1], [-1, -1], [-1, -1]]))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=named)
def test_targets_outside_the_table_are_refused_by_every_loss(objective):
    model = SkipGram(V, D, objective)
    h = torch.zeros(2, D)
    for wrong in (-100, -1, V):  # -100 is what cross_entropy ignores by itself
        with pytest.raises(ValueError, match=f"from 0 to num_embeddings - 1 = 6, got {wrong}"):
            model.loss(h, torch.tensor([1, wrong]))
    for targets in (torch.tensor([1.7, 2.0]), torch.tensor([True, False]), [1, 2]):
        with pytest.raises(TypeError, match="targets must be a tensor of int64 or int32"):
            model.loss(h, targets)
    with pytest.raises(ValueError, match=r"h must be \(N, 4\), got \(2, 3\)"):
        model.loss(torch.zeros(2, 3), torch.tensor([1, 2]))


@pytest.mark.parametrize("model", MODELS)
def test_a_model_with_its_own_generator_leaves_the_global_one_alone(model):
    before = torch.get_rng_state()
    model(V, D, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())


def test_objectives_are_checked_and_kept():
    for objective in (NegativeSampling, "ns"):
        with pytest.raises(TypeError, match=r"objective must be a loss such as NegativeSampling"):
            SkipGram(V, D, objective)
    objective = NegativeSampling(NOISE, K)
    SkipGram(V, D, objective, device="meta")  # has no numbers, but leaves the objective its own
    loss = SkipGram(V, D, objective).loss(torch.ones(2, D), torch.tensor([1, 2]))
    assert loss.item() == pytest.approx((K + 1) * math.log(2), rel=1e-6)


def test_only_minus_one_says_that_there_is_no_word():
    with pytest.raises(ValueError, match="must be from 0 to num_embeddings - 1 = 6, got -5"):
        CBOW(V, D)(torch.tensor([[-5, 1]]))
