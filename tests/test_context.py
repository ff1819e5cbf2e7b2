"""Contexts of words against plain loops and gensim: pairs, windows, noise, thinning out."""

import numpy as np
import pytest
from gensim.models import Word2Vec as Gensim

from companion.words import contexts, keep_probability, noise_distribution, pairs, subsample


def text(seed=0, sentences=40, longest=12, words=30):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, sentences)
    return [rng.integers(0, words, n) for n in lengths]


def pairs_by_loops(sentences, window):
    return [
        (int(sentence[i]), int(sentence[j]))
        for sentence in sentences
        for i in range(len(sentence))
        for j in range(max(0, i - window), min(len(sentence), i + window + 1))
        if j != i
    ]


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_pairs_equal_the_loops(window):
    sentences = text()
    words, near = pairs(sentences, window)
    got = list(zip(words.tolist(), near.tolist(), strict=True))
    assert got == pairs_by_loops(sentences, window) != []


def test_pairs_of_the_sentence_with_the_bird():
    a, blue, bird, on, the, tree = range(6)
    words, near = pairs([a, blue, bird, on, the, tree], window=2)  # one sentence alone
    assert near[words == bird].tolist() == [a, blue, on, the]
    assert near[words == a].tolist() == [blue, bird]
    words, near = pairs([[a, blue, bird, on, the, tree]], window=3)
    assert near[words == bird].tolist() == [a, blue, on, the, tree]


def test_pairs_in_small_blocks_are_the_same(monkeypatch):
    sentences = text(1)
    whole, wide = pairs(sentences, 4), contexts(sentences, 4)
    monkeypatch.setattr("companion.words.context._BLOCK", 50)
    for ours, theirs in ((pairs(sentences, 4), whole), (contexts(sentences, 4), wide)):
        np.testing.assert_array_equal(ours.words, theirs.words)
        np.testing.assert_array_equal(ours.contexts, theirs.contexts)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("window", [1, 3, 50])
def test_contexts_hold_the_pairs(window, dynamic):
    sentences = text(2)
    words, near = pairs(sentences, window, dynamic=dynamic, seed=5)
    middle, around = contexts(sentences, window, dynamic=dynamic, seed=5)
    width = 2 * min(window, max(map(len, sentences)) - 1)
    assert around.shape == (len(middle), width) and (around >= 0).any(1).all()
    count = (around >= 0).sum(1)
    np.testing.assert_array_equal(np.repeat(middle, count), words)
    np.testing.assert_array_equal(around[around >= 0], near)


def test_contexts_stand_at_their_distance():
    _, around = contexts([[10, 11, 12, 13]], window=2)
    assert around.tolist() == [
        [-1, -1, 11, 12], [-1, 10, 12, 13], [10, 11, 13, -1], [11, 12, -1, -1],
    ]  # fmt: skip


@pytest.mark.parametrize("window", [2, 5])
def test_drawn_windows_keep_near_words_more_often(window):
    # a window drawn evenly from 1 to m reaches distance d with probability (m - d + 1) / m
    ids = np.arange(60_000)
    shares = []
    for seed in range(3):
        words, near = pairs(ids, window, dynamic=True, seed=seed)
        distance = np.bincount(np.abs(words - near), minlength=window + 1)[1:]
        shares.append(distance / (2 * len(ids)))
    expected = (window - np.arange(window)) / window
    assert np.abs(np.array(shares) - expected).max() < 0.01
    again = pairs(ids, window, dynamic=True, seed=0)
    np.testing.assert_array_equal(again.contexts, pairs(ids, window, dynamic=True, seed=0).contexts)
    assert len(again.words) != len(pairs(ids, window, dynamic=True, seed=1).words)
    assert len(pairs(ids, window, dynamic=True, seed=np.random.default_rng(0)).words) == len(
        again.words
    )


@pytest.mark.parametrize("nothing", [[], [[]], [[3]], [[3], [], [4]], [7], np.array([], int)])
def test_texts_without_neighbours_give_nothing(nothing):
    words, near = pairs(nothing, 2)
    assert words.shape == near.shape == (0,) and words.dtype == near.dtype == np.int64
    middle, around = contexts(nothing, 2)
    assert middle.shape == (0,) and around.shape == (0, 0)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_ids_keep_a_signed_type(dtype):
    expected = np.int64 if dtype is np.uint16 else dtype
    assert pairs([np.array([1, 2], dtype)]).words.dtype == expected
    around = contexts([np.array([1, 2], dtype), np.array([1, 2, 3], dtype)], 2).contexts
    assert around.dtype == expected and around.min() == -1


@pytest.mark.parametrize(
    ("sentences", "error", "words"),
    [
        ("a blue bird", TypeError, "whole numbers, got dtype <U11"),
        ([["a", "bird"]], TypeError, "got dtype <U4 in sentence 0"),
        ([[1, 2], [0.5]], TypeError, "got dtype float64 in sentence 1"),
        ([[1, -2]], ValueError, "at least 0, got -2"),
        (np.zeros((2, 2, 2), int), ValueError, r"one-dimensional, got \(2, 2\)"),
    ],
)
def test_what_is_no_text_of_ids_is_refused(sentences, error, words):
    for make in (pairs, contexts):
        with pytest.raises(error, match=words):
            make(sentences, 2)


@pytest.mark.parametrize(("window", "error"), [(0, ValueError), (1.5, TypeError)])
def test_window_must_be_a_whole_number(window, error):
    for make in (pairs, contexts):
        for sentences in ([[1, 2]], []):
            with pytest.raises(error, match="window must be"):
                make(sentences, window)


def test_a_million_words_are_all_paired():
    lengths = np.random.default_rng(0).integers(5, 35, 50_000)
    assert lengths.sum() > 900_000
    sentences = np.split(np.arange(lengths.sum()) % 40_000, np.cumsum(lengths)[:-1])
    words, _ = pairs(sentences, window=5)
    # of length n: n neighbours at each of 5 distances to each side, less those cut off at its ends
    assert len(words) == sum(2 * sum(max(0, n - d) for d in range(1, 6)) for n in lengths.tolist())


# ---- noise and thinning out ----


COUNTS = {"the": 900, "bird": 90, "blue": 9, "tree": 1}


def gensim(**arguments):
    model = Gensim(min_count=1, **arguments)
    model.build_vocab_from_freq(COUNTS)
    assert model.wv.index_to_key == list(COUNTS)
    return model


@pytest.mark.parametrize("power", [0.75, 0.0, 1.0, 0.5])
def test_noise_is_gensims(power):
    table = gensim(ns_exponent=power).cum_table.astype(float)
    expected = np.diff(table, prepend=0) / table[-1]
    got = noise_distribution(list(COUNTS.values()), power)
    np.testing.assert_allclose(got, expected, atol=2e-9)
    assert got.sum() == pytest.approx(1, abs=1e-15)


def test_noise_never_draws_what_never_occurs():
    assert noise_distribution([0, 4, 0, 4], power=0).tolist() == [0, 0.5, 0, 0.5]
    assert noise_distribution([0, 1e200, 1e200]).tolist() == [0, 0.5, 0.5]  # no overflow


@pytest.mark.parametrize("sample", [1e-3, 1e-2, 0.3])
def test_keep_probability_is_gensims(sample):
    model = gensim(sample=sample)
    share = [model.wv.get_vecattr(word, "sample_int") / (2**32 - 1) for word in COUNTS]
    got = keep_probability(list(COUNTS.values()), sample)
    np.testing.assert_allclose(got, share, atol=1e-9)
    assert got[0] < 1


def test_thinning_sets_in_where_the_docstring_says():
    # sqrt(r) + r = 1 at r = (3 - sqrt 5) / 2, which is 1 / 2.618
    counts = np.array([2610, 2620, 1_000_000 - 5230])
    assert (keep_probability(counts, sample=1e-3) < 1).tolist() == [False, True, True]
    assert keep_probability(counts, sample=0).tolist() == [1, 1, 1]


def test_subsample_keeps_each_word_as_often_as_it_should():
    counts = np.array([60_000, 30_000, 10_000])
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts))
    keep = np.array([0.1, 0.5, 1.0])
    for seed in range(3):
        (kept,) = subsample(ids, keep, seed=seed)
        assert np.abs(np.bincount(kept) / counts - keep).max() < 0.01
    again = subsample(ids, keep, seed=2)[0]
    np.testing.assert_array_equal(again, kept)
    assert not np.array_equal(subsample(ids, keep, seed=1)[0], kept)


def test_subsample_keeps_sentences_apart():
    sentences = [[0, 1, 0, 2], [], [0, 0], [2, 1]]
    left = subsample(sentences, keep=[0.0, 1.0, 1.0], seed=0)
    assert [part.tolist() for part in left] == [[1, 2], [], [], [2, 1]]
    assert [part.tolist() for part in subsample([[0]], [0.0])] == [[]]
    assert subsample([], [1.0]) == []
    whole = subsample(sentences, keep=[1.0, 1.0, 1.0])
    assert [part.tolist() for part in whole] == sentences
    # what remains moves together: 1 and 2 are now neighbours
    assert pairs(left, 1).words.tolist() == [1, 2, 2, 1]


@pytest.mark.parametrize("make", [noise_distribution, keep_probability])
@pytest.mark.parametrize(
    ("counts", "error", "words"),
    [
        ([], ValueError, "at least one above 0, got 0"),
        ([0, 0], ValueError, "at least one above 0, got 2 without"),
        ([1, -1], ValueError, "at least 0"),
        ([1, np.nan], ValueError, "finite"),
        ([[1, 2]], ValueError, r"\(V,\)"),
        (["a"], TypeError, "numbers"),
    ],
)
def test_counts_that_are_none_are_refused(make, counts, error, words):
    if counts == []:
        counts = np.array([], int)
    with pytest.raises(error, match=words):
        make(counts)


def test_other_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="power must be"):
        noise_distribution([1, 2], power=-1)
    for sample in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match="sample must be"):
            keep_probability([1, 2], sample)
    with pytest.raises(ValueError, match="keep must be"):
        subsample([[0]], [1.5])
    with pytest.raises(ValueError, match="keep must have an entry for every id, got 2 for 2"):
        subsample([[0, 2]], [1.0, 1.0])
    for seed, error in ((-1, ValueError), (None, TypeError)):
        with pytest.raises(error, match="seed must be"):
            subsample([[0]], [0.5], seed=seed)
        with pytest.raises(error, match="seed must be"):
            pairs([0, 1], dynamic=True, seed=seed)


def test_ids_of_several_types_stay_whole_numbers():
    for mixed in ([np.uint64([0, 1]), np.int64([2, 3])], [np.uint8([0, 1]), np.int16([2, 3])]):
        words, near = pairs(mixed, window=1)
        assert words.dtype.kind == near.dtype.kind == "i"
        assert words.tolist() == [0, 1, 2, 3] and near.tolist() == [1, 0, 3, 2]
