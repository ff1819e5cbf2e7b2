"""Word2Vec: steps against autograd and the reference, draws, gensim as witness, bad input."""

import tracemalloc
from collections import Counter

import gensim
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from companion.reference import words as reference
from companion.words import Word2Vec, World, noise_distribution, pairs
from companion.words.word2vec import _block, _cbow, _offsets, _skip_gram

RATE = 0.1


def busy(model, text):
    """How many words are watched in the first piece of a text."""
    ids, sentence = model._encode(text)
    *_, watched, _ = next(iter(model._steps(ids, sentence, 1, model.window)))
    return len(watched)


def make(sg, window=2, **more):
    """A model with a vocabulary of ten, and the blocks of its first step, all sentences in it."""
    rng = np.random.default_rng(1)
    text = [[str(w) for w in rng.integers(10, size=n)] for n in (1, 7, 2, 25, 0, 13)]
    model = Word2Vec(
        vector_size=6,
        window=window,
        min_count=1,
        sg=sg,
        sample=0,
        batch=10**6,
        device="cpu",
        **more,
    ).fit(text)
    ids, sentence = model._encode(text)
    *_, blocks = next(iter(model._steps(ids, sentence, 1, model.window)))
    return model, blocks, [model.vocabulary.encode(s) for s in text]


def tables(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = len(model.vocabulary), model.vector_size
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)]


def examples(model, blocks):
    """What the blocks hold, word by word: the word, its context, its negatives and their weight."""
    for context, left, right, negatives in zip(*blocks, strict=True):
        for i in range(len(left)):
            at = model.window + i
            near = [*range(at - int(left[i]), at), *range(at + 1, at + 1 + int(right[i]))]
            if near:
                share = len(near) if model.sg else 1
                yield context[at], context[near], negatives, share / (model.window + 1)


def loss_of(model, blocks, inputs, outputs):
    """The loss as it is written in the equations, one word after the other."""
    total = 0.0
    for word, near, negatives, share in examples(model, blocks):
        if model.sg:
            h, targets = inputs[word], near
        else:
            h = inputs[near].mean(0) if model.cbow_mean else inputs[near].sum(0)
            targets = word[None]
        total = total - F.logsigmoid(outputs[targets] @ h).sum()
        total = total - share * F.logsigmoid(-outputs[negatives] @ h).sum()
    return total


def test_a_skip_gram_step_is_one_down_autograds_gradient():
    model, blocks, _ = make(sg=1)
    inputs, outputs = (table.requires_grad_() for table in tables(model))
    loss = loss_of(model, blocks, inputs, outputs)
    loss.backward()
    moved, tally = tables(model), torch.zeros(2)
    _skip_gram(*moved, blocks, _offsets(2, "cpu"), RATE, model, tally)
    for table, start in zip(moved, (inputs, outputs), strict=True):
        expected = start.detach() - RATE * start.grad
        assert (expected - start).abs().max() > 0.1
        torch.testing.assert_close(table, expected, rtol=1e-6, atol=1e-6)  # shares are float32
    count = sum(len(near) for _, near, _, _ in examples(model, blocks))
    assert tally.tolist() == pytest.approx([loss.item(), count], rel=1e-5)


@pytest.mark.parametrize("mean", [0, 1])
def test_a_cbow_step_is_autograds_but_for_word2vecs_own_rule(mean):
    model, blocks, _ = make(sg=0, cbow_mean=mean)
    inputs, outputs = (table.requires_grad_() for table in tables(model))
    loss = loss_of(model, blocks, inputs, outputs)
    loss.backward()
    moved, tally = tables(model), torch.zeros(2)
    _cbow(*moved, blocks, _offsets(2, "cpu"), RATE, model, tally)
    torch.testing.assert_close(
        moved[1], (outputs - RATE * outputs.grad).detach(), rtol=1e-6, atol=1e-6
    )
    assert tally[0].item() == pytest.approx(loss.item(), rel=1e-5)

    # mean: each context word takes the gradient of h whole, n times its own; sum: a part in n
    expected = inputs.detach().clone()
    for word, near, negatives, share in examples(model, blocks):
        h = inputs[near].detach().mean(0) if mean else inputs[near].detach().sum(0)
        h.requires_grad_()
        part = (
            -F.logsigmoid(outputs[word] @ h) - share * F.logsigmoid(-outputs[negatives] @ h).sum()
        )
        (d_h,) = torch.autograd.grad(part, h)
        for c in near:
            expected[c] -= RATE * d_h / (1 if mean else len(near))
    torch.testing.assert_close(moved[0], expected, rtol=1e-6, atol=1e-6)


def test_a_skip_gram_step_is_the_references():
    model, blocks, _ = make(sg=1)
    E, U = tables(model)
    moved = [E.clone(), U.clone()]
    _skip_gram(*moved, blocks, _offsets(2, "cpu"), RATE, model)
    params = reference.Parameters(E.numpy(), U.numpy())
    d_E, d_U = np.zeros_like(params.E), np.zeros_like(params.U)
    for word, near, negatives, share in examples(model, blocks):
        # the reference has k negatives a pair, each with weight 1: take the two parts apart
        per_pair = share / len(near)
        for target in near.numpy():
            words, targets = np.array([int(word)]), np.array([target])
            both = []
            for drawn in (negatives.numpy()[None], np.empty((1, 0), np.int64)):
                h = reference.skip_gram(params, words)
                _, tape = reference.negative_sampling(params, h, targets, drawn)
                d_h, d_table = reference.sampled_back(params, tape)
                both.append((reference.skip_gram_back(params, d_h, words), d_table))
            (all_E, all_U), (near_E, near_U) = both
            d_E += near_E + per_pair * (all_E - near_E)
            d_U += near_U + per_pair * (all_U - near_U)
    np.testing.assert_allclose(moved[0].numpy(), params.E - RATE * d_E, atol=1e-6)
    np.testing.assert_allclose(moved[1].numpy(), params.U - RATE * d_U, atol=1e-6)


def found_pairs(model, blocks):
    return Counter(
        (int(word), int(c)) for word, near, _, _ in examples(model, blocks) for c in near
    )


def test_with_window_one_the_blocks_hold_exactly_the_pairs():
    model, blocks, ids = make(sg=1, window=1)
    expected = Counter(zip(*(part.tolist() for part in pairs(ids, window=1)), strict=True))
    assert found_pairs(model, blocks) == expected


def test_every_distance_comes_as_often_as_it_should():
    # all words different, one sentence: the pair tells its distance
    text = [[f"{i:05}" for i in range(20_000)]]
    model = Word2Vec(vector_size=2, window=4, min_count=1, sample=0, batch=10**6, epochs=1)
    ids, sentence = model.fit(text)._encode(text)
    *_, blocks = next(iter(model._steps(ids, sentence, 1, model.window)))
    distances = Counter(abs(a - b) for a, b in found_pairs(model, blocks))
    assert set(distances) == {1, 2, 3, 4}
    for distance, count in distances.items():  # reach is even on 1 to 4: P(reach >= d)
        assert count / 40_000 == pytest.approx((5 - distance) / 4, abs=0.02)


def test_negatives_follow_the_noise():
    model, _, _ = make(sg=1)
    text = [[str(w) for w in range(10) for _ in range(100 * 2**w)]]  # counts of 100 to 51,200
    model.fit(text)
    ids, sentence = model._encode(text)
    *_, blocks = next(iter(model._steps(ids, sentence, 1, model.window)))
    drawn = np.bincount(blocks.negatives.flatten().numpy(), minlength=10)
    expected = noise_distribution(model.vocabulary.counts) * drawn.sum()
    assert (abs(drawn - expected) < 5 * np.sqrt(expected)).all()
    assert blocks.negatives.shape[1] == 3 * 5  # as many as a word draws for an average window


def test_frequent_words_are_thinned_out():
    text = [["the"] * 9 + [str(i % 50)] for i in range(2000)]
    model = Word2Vec(vector_size=2, min_count=1, sample=1e-3, batch=10**6, epochs=1).fit(text)
    ids, sentence = model._encode(text)
    *_, blocks = next(iter(model._steps(ids, sentence, 1, model.window)))
    block = _block(model.window)
    words = blocks.context[:, model.window : model.window + block].flatten()
    kept = (words == 0).sum().item() - len(words) % block  # 0 is "the", and padding
    share = np.sqrt(1e-3 / 0.9) + 1e-3 / 0.9  # the formula by hand
    assert kept == pytest.approx(18_000 * share, abs=5 * np.sqrt(18_000 * share) + block)


def cosines(words, vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(words)
    return (unit @ unit.T)[np.ix_(order, order)]


@pytest.mark.parametrize("sg", [0, 1])
def test_the_vectors_are_like_gensims(sg):
    world = World(10_000, seed=5)
    ours = Word2Vec(vector_size=40, sg=sg).fit(world.sentences)
    theirs = gensim.models.Word2Vec(world.sentences, vector_size=40, sg=sg, workers=1)
    other = gensim.models.Word2Vec(world.sentences, vector_size=40, sg=sg, workers=1, seed=2)
    found = cosines(ours.wv.words, ours.vectors)
    first, second = (cosines(m.wv.index_to_key, m.wv.vectors) for m in (theirs, other))
    upper = np.triu_indices(len(found), 1)

    def agreement(a, b):
        return np.corrcoef(a[upper], b[upper])[0, 1]

    # nearly as alike as two seeds of gensim are
    assert agreement(found, first) > agreement(first, second) - 0.05
    norms = [np.linalg.norm(v, axis=1).mean() for v in (ours.vectors, theirs.wv.vectors)]
    assert norms[0] == pytest.approx(norms[1], rel=0.25)


def test_same_seed_same_vectors():
    text = World(2000).sentences
    first, again, other = (Word2Vec(sg=1, seed=s).fit(text) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert first.loss == again.loss
    assert not np.allclose(first.vectors, other.vectors, atol=1e-2)
    np.testing.assert_array_equal(first.fit(text).vectors, again.vectors)  # starts anew
    lazy = Word2Vec(sg=1, seed=3).fit(iter(tuple(sentence) for sentence in text))
    np.testing.assert_array_equal(lazy.vectors, again.vectors)


@pytest.mark.parametrize("sg", [0, 1])
def test_the_loss_is_a_mean_and_falls(sg):
    text = World(4000).sentences
    still = Word2Vec(sg=sg, alpha=0, min_alpha=0, epochs=2, device="cpu").fit(text)
    # all scores are 0: one positive and five negatives at log 2 each
    assert still.loss == pytest.approx([6 * np.log(2)] * 2, rel=0.01 if sg == 0 else 1e-5)
    losses = Word2Vec(sg=sg, epochs=8).fit(text).loss
    assert len(losses) == 8 and losses[0] > losses[2] + 0.1 > losses[7] + 0.3
    coarse = Word2Vec(sg=sg, epochs=3, batch=10**6).fit(text).loss  # one step an epoch
    assert len(coarse) == 3 and min(coarse) > 1


def test_training_on_moves_only_the_words_of_the_new_text():
    model = Word2Vec(vector_size=20, sg=1).fit(World(2000).sentences)
    before = model.vectors.copy()
    assert model.train([["cat", "fur", "unheard-of"], ["tiger", "fur"]], epochs=3) is model
    moved = (model.vectors != before).any(1)
    assert {word for word, m in zip(model.wv.words, moved, strict=True) if m} == {
        "cat",
        "fur",
        "tiger",
    }
    assert len(model.loss) == 5 + 3
    with pytest.raises(ValueError, match="a word of the vocabulary, got none"):
        model.train([["unheard-of"], []])
    with pytest.raises(ValueError, match=r"must be fitted first: call fit\(sentences\)"):
        Word2Vec().train([["a"]])
    with pytest.raises(ValueError, match="must be fitted first"):
        Word2Vec().most_similar("a")


@pytest.mark.parametrize("sg", [0, 1])
def test_odd_corpora_give_finite_vectors(sg):
    corpora = {
        "one word": [["a"] * 200] * 10,
        "two words": [["a", "b"] * 100] * 10,
        "window wider than the text": [["a", "b", "c"]],
        "nothing but single words": [["a"], ["b"], ["c"]],
        "empty sentences": [[], ["a", "b"], []],
    }
    for name, text in corpora.items():
        for window in (1, 5, 100):
            model = Word2Vec(
                vector_size=8, window=window, min_count=1, sg=sg, sample=0, epochs=10
            ).fit(text)
            assert len(model.wv) == len({w for s in text for w in s}), name
            assert np.isfinite(model.loss).all() == (name != "nothing but single words"), name
            assert abs(model.vectors).max() < 30, name
    single = Word2Vec(vector_size=8, min_count=1, sg=sg).fit([["a"], ["b"]])
    start = Word2Vec(vector_size=8, min_count=1, sg=sg, alpha=0, min_alpha=0).fit([["a"], ["b"]])
    np.testing.assert_array_equal(single.vectors, start.vectors)  # no context, nothing to learn


def test_a_long_sentence_is_no_longer_than_it_is():
    rng = np.random.default_rng(0)
    text = [[str(w) for w in rng.integers(500, size=150_000)]]  # several pieces
    model = Word2Vec(vector_size=4, epochs=1, sg=1).fit(text)
    assert np.isfinite(model.vectors).all() and len(model.wv) == 500


def test_a_busy_word_moves_a_quarter_at_most_in_a_step():
    # window 5, 6 pairs a word; both words are half of all: 6 * (1/2 + 5/2) = 18 updates a word
    text = [["a", "b"] * 300] * 10
    model = Word2Vec(vector_size=5, min_count=1, epochs=1, sample=0, alpha=9, batch=1000)
    assert busy(model.fit([["a", "b"] * 3]), text) == 2
    before = model.vectors.copy()
    model.train(text[:1])  # a single step
    moved = np.linalg.norm(model.vectors - before, axis=1)
    assert moved == pytest.approx([0.25, 0.25], rel=1e-3)
    rng = np.random.default_rng(0)
    wide = [[str(w) for w in rng.integers(5000, size=20)] for _ in range(5000)]
    # 1000 words, 6 * 6 / 5000 updates a word: seven a step
    assert busy(Word2Vec(batch=1000, epochs=1, sample=0).fit(wide), wide) == 0
    assert busy(Word2Vec(batch=10_000, epochs=1, sample=0).fit(wide), wide) > 4500


@pytest.mark.parametrize("sg", [0, 1])
def test_a_word_rare_in_the_whole_and_frequent_here_stays_in_bounds(sg):
    rng = np.random.default_rng(0)
    text = [[f"x{i}" for i in rng.integers(2000, size=20)] for _ in range(3000)]
    model = Word2Vec(min_count=1, vector_size=20, sg=sg).fit([*text, ["rare", "odd"]])
    model.train(
        [[word if rng.random() > 0.5 else "rare" for word in sentence] for sentence in text]
    )
    # gensim's "rare" has a length of about 2 then; without a bound it was hundreds
    assert max(model.loss) < 6 * np.log(2) + 0.1 and np.linalg.norm(model.wv["rare"]) < 10


def test_an_interrupted_training_leaves_no_vectors_of_another_vocabulary(monkeypatch):
    model = Word2Vec(vector_size=4, min_count=1)

    def interrupted(*_):
        raise KeyboardInterrupt

    for words in (["a", "b"], ["c", "d"]):
        monkeypatch.undo()
        if words == ["c", "d"]:
            model.fit([["a", "b"]] * 9)
            assert model.wv.words == ("a", "b")
        monkeypatch.setattr(model, "_steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit([words] * 9)
        assert model.wv.words == tuple(words)  # as far as they had come


def test_another_default_dtype_changes_nothing():
    text = World(200).sentences
    expected = [Word2Vec(vector_size=4, min_count=1, sg=sg).fit(text).vectors for sg in (0, 1)]
    torch.set_default_dtype(torch.float64)
    try:
        for sg in (0, 1):
            found = Word2Vec(vector_size=4, min_count=1, sg=sg).fit(text).vectors
            np.testing.assert_array_equal(found, expected[sg])
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_window_wider_than_all_sentences_costs_no_more_than_they_do():
    text = [["a", "b", "c"]] * 30
    tracemalloc.start()
    model = Word2Vec(vector_size=4, min_count=1, window=10**6, sg=1, sample=0).fit(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6 and model.loss[-1] < model.loss[0]
    with pytest.raises(ValueError, match="window must be at most 5000 in sentences so long"):
        Word2Vec(min_count=1, window=9000).fit([["a", "b"] * 6000])


def test_large_steps_cost_little_where_words_are_few():
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 51)
    text = [[str(w) for w in rng.choice(50, size=50, p=share / share.sum())] for _ in range(300)]
    for sg in (0, 1):
        fine, coarse = (
            Word2Vec(vector_size=20, min_count=1, sg=sg, epochs=10, sample=0, batch=size).fit(text)
            for size in (16, 1024)
        )
        assert coarse.loss[-1] == pytest.approx(fine.loss[-1], abs=0.06)
        assert abs(coarse.vectors).max() < 3


def test_training_beyond_all_bounds_is_an_error():
    text = World(500).sentences
    with pytest.raises(FloatingPointError, match="lower alpha, got 1e[+]38, or batch, got 16"):
        model = Word2Vec(sg=1, alpha=1e38, min_count=1, batch=16)
        model.fit(text)
    with pytest.raises(ValueError, match="must be fitted first"):
        model.wv  # noqa: B018


def test_strings_would_become_letters():
    for text, message in (
        ("a blue bird", "got a string, which would become letters"),
        (["a blue bird", "on the tree"], "would be letters; use tokenise first, got 'a blue bird'"),
        ((s for s in ["a blue bird"]), "would be letters"),
        ([["a"], 5], "sentences must be an iterable of lists of words, got 5"),
        (None, "sentences must be an iterable of lists of words, got None"),
        ([["a", 5]], "a word must be a string, got 5"),
    ):
        with pytest.raises(TypeError, match=message):
            Word2Vec(min_count=1).fit(text)
    model = Word2Vec(min_count=1, epochs=1).fit([["a", "b"]])
    with pytest.raises(TypeError, match="would be letters"):
        model.train("ab")


def test_corpora_without_words_are_refused():
    with pytest.raises(ValueError, match="at least one word, got none"):
        Word2Vec().fit([])
    with pytest.raises(ValueError, match="at least one word, got none"):
        Word2Vec().fit([[], []])
    with pytest.raises(ValueError, match="at least min_count = 5 times, got 4 words"):
        Word2Vec().fit([["a", "a", "a", "b"]])
    with pytest.raises(KeyError, match="'b' is not in the vocabulary of 1"):
        Word2Vec(min_count=3).fit([["a", "a", "a", "b"]]).most_similar("b")


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"vector_size": 0}, ValueError, "vector_size must be at least 1, got 0"),
        ({"window": 1.5}, TypeError, "window must be a whole number, got 1.5"),
        ({"min_count": 0}, ValueError, "min_count must be at least 1, got 0"),
        ({"negative": 0}, ValueError, "negative must be at least 1, got 0"),
        ({"ns_exponent": -1}, ValueError, "ns_exponent must be finite and at least 0, got -1"),
        ({"sg": 2}, ValueError, "sg must be one of 0, 1, got 2"),
        ({"sample": 2}, ValueError, "sample must be finite and between 0 and 1, got 2"),
        ({"alpha": -0.1}, ValueError, "alpha must be finite and at least 0, got -0.1"),
        ({"alpha": float("nan")}, ValueError, "alpha must be finite"),
        ({"alpha": float("inf")}, ValueError, "alpha must be finite"),
        ({"alpha": "high"}, TypeError, "alpha must be a number, got 'high'"),
        ({"min_alpha": 0.1}, ValueError, "min_alpha must be at most alpha = 0.025, got 0.1"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"cbow_mean": "yes"}, ValueError, "cbow_mean must be one of 0, 1, got 'yes'"),
        ({"batch": 0}, ValueError, "batch must be at least 1, got 0"),
    ],
)
def test_wrong_parameters(arguments, error, message):
    with pytest.raises(error, match=message):
        Word2Vec(**arguments)
