"""Markov chains and n-grams: counts, probabilities that add up to one, samples, bad input.

The witness of the n-grams is ``Slow``: the textbook's formulas over dictionaries of tuples, one
word at a time.
"""

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.sequences import (
    Additive,
    Interpolated,
    KneserNey,
    MarkovChain,
    MaximumLikelihood,
    NGram,
    Vocabulary,
    WittenBell,
)

SMOOTHED = [Additive(), Additive(0.01), Interpolated(0.6), WittenBell(), KneserNey(0.4)]
PARTS = [MaximumLikelihood(), *SMOOTHED]
TINY = [["a", "a", "b"], ["a", "b"]]


class Slow:
    """n-grams by dictionaries: a context is a tuple, and every formula is written out."""

    def __init__(self, order, part, sentences, vocabulary):
        self.order, self.part, self.vocabulary = order, part, vocabulary
        self.following = [w for w in vocabulary.words if w not in ("<s>", "<pad>")]
        self.grams = Counter()  # of all orders
        for sentence in sentences:
            line = self.framed(sentence)
            for i in range(order - 1, len(line)):
                for m in range(1, order + 1):
                    self.grams[tuple(line[i - m + 1 : i + 1])] += 1
        self.lefts = Counter(gram[1:] for gram in self.grams)  # different words before a gram
        self.memory = {}

    def framed(self, sentence):
        known = [w if w in self.vocabulary else "<unk>" for w in sentence]
        return ["<s>"] * (self.order - 1) + known + ["</s>"]

    def count(self, gram):
        """What Kneser and Ney count below the highest order; else the plain count."""
        if isinstance(self.part, KneserNey) and len(gram) < self.order and gram[0] != "<s>":
            return self.lefts[gram]
        return self.grams[gram]

    def p(self, word, context):
        key = (word, context)
        if key not in self.memory:
            self.memory[key] = self.formula(word, context)
        return self.memory[key]

    def formula(self, word, context):
        part, size = self.part, len(self.following)
        counts = [self.count((*context, w)) for w in self.following]
        n, total, types = self.count((*context, word)), sum(counts), sum(c > 0 for c in counts)
        if isinstance(part, MaximumLikelihood):
            return n / total if total else 0
        if isinstance(part, Additive):
            return (n + part.k) / (total + part.k * size)
        lower = self.p(word, context[1:]) if context else 1 / size
        if not total:
            return lower
        if isinstance(part, Interpolated):
            return part.weight * n / total + (1 - part.weight) * lower
        if isinstance(part, WittenBell):
            return (n + types * lower) / (total + types)
        return (max(n - part.discount, 0) + part.discount * types * lower) / total

    def each(self, sentence):
        line = self.framed(sentence)
        start = self.order - 1
        return [self.p(line[i], tuple(line[i - start : i])) for i in range(start, len(line))]


words = st.sampled_from("abcd")
corpora = st.lists(st.lists(words, max_size=6), min_size=1, max_size=6).filter(any)


@settings(deadline=None, max_examples=60)
@given(corpora, st.lists(st.sampled_from("abcde"), max_size=6), st.integers(1, 5))
def test_every_smoothing_is_its_formula(corpus, sentence, order):
    vocabulary = Vocabulary(corpus)  # with a padding, which must take no probability
    model = NGram(order).fit(corpus, vocabulary)
    for part in PARTS:
        model.smoothing = part
        slow = Slow(order, part, corpus, vocabulary)
        p = np.exp(model.log_probabilities(sentence))
        np.testing.assert_allclose(p, slow.each(sentence), rtol=1e-12, atol=0)
        assert model.sizes == tuple(
            sum(len(gram) == m for gram in slow.grams) for m in range(1, order + 1)
        )


@settings(deadline=None, max_examples=60)
@given(corpora, st.lists(st.sampled_from("abcde"), max_size=6), st.integers(1, 5))
def test_probabilities_add_up_to_one_after_any_context(corpus, context, order):
    vocabulary = Vocabulary(corpus)
    model = NGram(order).fit(corpus, vocabulary)
    for part in SMOOTHED:
        model.smoothing = part
        p = model.probabilities(context)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert p[vocabulary.encode(["<s>", "<pad>"])].tolist() == [0, 0]
        assert (np.delete(p, vocabulary.encode(["<s>", "<pad>"])) > 0).all()
        # the fast road over whole texts and the one over all words agree
        along = np.exp(model.log_probabilities([*context, "a"]))[len(context)]
        assert p[vocabulary.index("a")] == pytest.approx(along, rel=1e-12)


def test_a_corpus_may_be_read_once_in_all_its_parts():
    for vocabulary in (None, Vocabulary(TINY)):
        once = NGram(2, WittenBell()).fit((iter(s) for s in TINY), vocabulary)
        lists = NGram(2, WittenBell()).fit(TINY, vocabulary)
        assert once.sizes == lists.sizes == (3, 4)
        assert once.perplexity(iter(s) for s in TINY) == lists.perplexity(TINY)
    assert once.sample(0, context=iter(["a"])) == once.sample(0, context=["a"])


def test_numbers_by_hand():
    """TINY holds, after a: a once and b twice. Four words can follow: a, b, unknown, end.

    One word alone (3 a, 2 b, 2 ends of 7, three types): Interpolated and WittenBell below.
    Kneser and Ney count what came before: a after <s>, a; b after a; end after b: 2, 1, 1.
    """
    alone = {
        "weight": 0.7 * 2 / 7 + 0.3 / 4,
        "types": (2 + 3 * 1 / 4) / (7 + 3),
        "before": (1 - 0.75 + 0.75 * 3 / 4) / 4,
    }
    expected = [
        (MaximumLikelihood(), 2 / 3),
        (Additive(), (2 + 1) / (3 + 4)),
        (Interpolated(0.7), 0.7 * 2 / 3 + 0.3 * alone["weight"]),
        (WittenBell(), (2 + 2 * alone["types"]) / (3 + 2)),
        (KneserNey(0.75), (2 - 0.75 + 0.75 * 2 * alone["before"]) / 3),
    ]
    model = NGram(2).fit(TINY)
    assert model.smoothing == KneserNey(0.75)
    for part, p in expected:
        model.smoothing = part
        assert model.probabilities(["a"])[model.vocabulary.index("b")] == pytest.approx(p)
    model.smoothing = MaximumLikelihood()  # <s> a 1, a a 1/3, a b 2/3, b </s> 1
    assert model.log_probability(["a", "a", "b"]) == pytest.approx(math.log(2 / 9))
    assert model.sizes == (3, 4)


def test_perplexity_is_of_the_total_loss_and_no_mean_of_perplexities():
    model = NGram(2, MaximumLikelihood()).fit(TINY)
    # losses: ln 9/2 over 4 tokens and ln 3/2 over 3
    total = math.log(9 / 2) + math.log(3 / 2)
    assert model.perplexity(TINY) == pytest.approx(math.exp(total / 7))
    mean = (math.exp(math.log(9 / 2) / 4) + math.exp(math.log(3 / 2) / 3)) / 2
    assert abs(model.perplexity(TINY) - mean) > 0.01
    assert model.perplexity(iter(TINY)) == model.perplexity(TINY)


def test_a_word_never_seen_costs_everything_only_without_smoothing():
    model = NGram(3, MaximumLikelihood()).fit(TINY)
    assert model.perplexity([["b", "a"]]) == math.inf
    assert model.log_probability(["b"]) == -math.inf
    for part in SMOOTHED:
        model.smoothing = part
        assert 1 < model.perplexity([["b", "a", "new"]]) < math.inf


@pytest.mark.parametrize("part", SMOOTHED[2:], ids=repr)
def test_a_context_never_seen_leaves_the_word_to_the_order_below(part):
    corpus = [list("abcabd"), list("bca")]
    long, short = (NGram(order, part).fit(corpus) for order in (3, 2))
    if not isinstance(part, KneserNey):  # whose lower orders count otherwise
        np.testing.assert_allclose(long.probabilities(["d", "c"]), short.probabilities(["c"]))
    unseen_too = long.probabilities(["b", "a", "c", "c"]), long.probabilities(["d", "c", "c"])
    np.testing.assert_array_equal(*unseen_too)


def test_an_order_beyond_the_text_reads_it_by_heart():
    model = NGram(50).fit(TINY)
    for part in PARTS:
        model.smoothing = part
        p = np.exp(model.log_probabilities(["a", "b"]))
        np.testing.assert_allclose(p, Slow(50, part, TINY, model.vocabulary).each("ab"))
    model.smoothing = MaximumLikelihood()
    # both lines begin with a; then each goes its own way, and nothing else is possible
    assert model.log_probability(["a", "a", "b"]) == pytest.approx(math.log(1 / 2))
    assert {tuple(model.sample(seed)) for seed in range(40)} == {("a", "b"), ("a", "a", "b")}


def test_samples_follow_the_model():
    corpus = [list("aab"), list("ab"), list("b"), []]
    model = NGram(2, WittenBell()).fit(corpus, Vocabulary(corpus, unknown=None))
    rng = np.random.default_rng(0)
    drawn = Counter(tuple(model.sample(rng, length=2)) for _ in range(4000))
    p_a, p_b, p_end = model.probabilities()[model.vocabulary.encode(["a", "b", "</s>"])]
    for first, p in (("a", p_a), ("b", p_b)):
        share = sum(n for words, n in drawn.items() if words[:1] == (first,)) / 4000
        assert share == pytest.approx(p, abs=0.035)  # over four standard deviations
    assert drawn[()] / 4000 == pytest.approx(p_end, abs=0.035)
    assert max(map(len, drawn)) == 2


def test_the_same_seed_draws_the_same_and_a_context_is_continued():
    text = [list("the cat sat on the mat and the dog sat on the log")]
    model = NGram(5, WittenBell()).fit(text)
    assert model.sample(7, length=60) == model.sample(7, length=60) != model.sample(8, length=60)
    model.smoothing = MaximumLikelihood()
    drawn = model.sample(0, length=5, context=list("the mat "))
    assert "".join(drawn) == "and t"
    with pytest.raises(ValueError, match="context must have occurred, got .*'x'"):
        model.sample(0, context=list("xxx"))


def test_words_left_out_are_counted_as_unknown():
    corpus = [["the", "cat"], ["the", "dog"], ["the", "cow"], ["a", "cow"]]
    vocabulary = Vocabulary(corpus, min_count=2)  # the, cow
    model = NGram(2, MaximumLikelihood()).fit(corpus, vocabulary)
    assert model.probabilities(["the"])[vocabulary.index("bird")] == pytest.approx(2 / 3)
    # after an unknown word (cat, dog, a) comes the end twice, cow once
    assert model.log_probability(["the", "bird"]) == pytest.approx(math.log(3 / 4 * 2 / 3 * 2 / 3))
    closed = NGram(2).fit(corpus, Vocabulary(corpus, unknown=None))
    with pytest.raises(ValueError, match="no unknown symbol, got 'bird'"):
        closed.log_probability(["the", "bird"])


def test_memory_grows_with_the_tokens_only():
    rng = np.random.default_rng(0)
    text = np.array([f"w{i}" for i in range(5000)])[rng.integers(5000, size=100_000)].tolist()
    corpus = [text[i : i + 20] for i in range(0, len(text), 20)]
    vocabulary, order = Vocabulary(corpus), 4
    tracemalloc.start()
    model = NGram(order).fit(corpus, vocabulary)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < peak < 100 * order * len(text)  # bytes; a table of V squared would take 200 MB
    assert model.sizes[3] > 95_000


def test_ngrams_refuse_what_they_cannot_count():
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        NGram(0)
    with pytest.raises(TypeError, match="order must be a whole number"):
        NGram(2.5)
    with pytest.raises(ValueError, match="must be fitted first"):
        NGram(2).perplexity(TINY)
    with pytest.raises(ValueError, match="at least one word, got none"):
        NGram(2).fit([])
    for vocabulary in (None, Vocabulary(TINY)):
        with pytest.raises(TypeError, match="would become letters"):
            NGram(2).fit("the cat", vocabulary)
        with pytest.raises(TypeError, match="got the string 'the cat'"):
            NGram(2).fit(["the cat", "a dog"], vocabulary)
    with pytest.raises(ValueError, match="start and an end"):
        NGram(2).fit(TINY, Vocabulary(TINY, end=None))
    with pytest.raises(TypeError, match=r"vocabulary must be a Vocabulary, got \['a'\]"):
        NGram(2).fit(TINY, ["a"])
    with pytest.raises(TypeError, match="a sentence must be a list of words, got 5"):
        NGram(2).fit([["a"], 5])
    for smoothing in ("kn", KneserNey, 0.5):
        with pytest.raises(TypeError, match=r"smoothing must be an object such as KneserNey\(\)"):
            NGram(2, smoothing)
        with pytest.raises(TypeError, match="smoothing must be an object .* got"):
            NGram(2).smoothing = smoothing
    assert NGram(2).sizes is NGram(2).vocabulary is None
    long = NGram(3).fit(TINY)
    for ask in (long.probabilities, lambda words: long.sample(0, context=words)):
        with pytest.raises(TypeError, match="a word must be a string, got 5"):
            ask([5, "a", "b"])  # out of sight for three-grams
    model = NGram(2).fit(TINY)
    with pytest.raises(ValueError, match="without start and padding symbol, got '<s>'"):
        model.log_probability(["<s>", "a"])
    with pytest.raises(ValueError, match="at least one sentence"):
        model.perplexity([])
    with pytest.raises(TypeError, match="would become letters"):
        model.perplexity("ab")
    with pytest.raises(TypeError, match="list of words, got the string 'ab'"):
        model.log_probability("ab")
    with pytest.raises(ValueError, match="length must be at least 1"):
        model.sample(0, length=0)
    with pytest.raises(TypeError, match="seed must be a whole number, got None"):
        model.sample(None)


def test_a_fit_that_fails_leaves_no_half_model():
    model = NGram(2).fit(TINY)
    with pytest.raises(ValueError, match="no unknown symbol"):
        model.fit([["c"]], Vocabulary(TINY, unknown=None))
    with pytest.raises(ValueError, match="must be fitted first"):
        model.perplexity(TINY)


@pytest.mark.parametrize(
    ("part", "values", "name"),
    [
        (Additive, (0, -1, math.nan, "1"), "k"),
        (Interpolated, (0, 1), "weight"),
        (KneserNey, (0, 1), "discount"),
    ],
)
def test_smoothing_refuses_what_gives_no_distribution(part, values, name):
    for value in values:
        with pytest.raises(ValueError, match=f"{name} must be a number between"):
            part(value)


# ---- chains ----


def weather(stay_dry=0.9, stay_wet=0.5):
    rows = [[stay_dry, 1 - stay_dry], [1 - stay_wet, stay_wet]]
    return MarkovChain(rows, states=("dry", "wet"))


chances = st.floats(0.01, 0.99)


@given(chances, chances)
def test_two_states_have_closed_forms(a, b):
    """Left with chances a and b: pi = (b, a) / (a + b), and (1 - a - b)^k fades with the steps."""
    chain = MarkovChain([[1 - a, a], [b, 1 - b]])
    pi = np.array([b, a]) / (a + b)
    np.testing.assert_allclose(chain.stationary(), pi, atol=1e-12)
    np.testing.assert_allclose(chain.initial, pi, atol=1e-12)
    for k in (0, 1, 7):
        first = pi[0] + (1 - a - b) ** k * pi[1]
        np.testing.assert_allclose(chain.predict(0, k), [first, 1 - first], atol=1e-12)
    entropy = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (a, b)]
    assert chain.entropy_rate() == pytest.approx(pi @ entropy)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_stationary_means_that_a_step_changes_nothing(size, seed):
    rng = np.random.default_rng(seed)
    rows = rng.random((size, size)) ** 4 + 1e-6
    chain = MarkovChain(rows / rows.sum(1, keepdims=True))
    pi = chain.stationary()
    assert pi.sum() == pytest.approx(1) and (pi > 0).all()
    np.testing.assert_allclose(pi @ chain.transitions, pi, atol=1e-12)
    long_run = np.linalg.matrix_power(chain.transitions, 10**6)
    np.testing.assert_allclose(pi, long_run[0] / long_run[0].sum(), atol=1e-7)


def test_stationary_of_chains_that_return_in_beats_or_not_at_all():
    assert MarkovChain([[0, 1], [1, 0]]).stationary() == pytest.approx([0.5, 0.5])
    leaves = MarkovChain([[0.5, 0.5, 0], [0, 0, 1], [0, 1, 0]])  # the first state is left for good
    assert leaves.stationary() == pytest.approx([0, 0.5, 0.5], abs=1e-15)
    assert leaves.entropy_rate() == pytest.approx(0, abs=1e-12)  # 0 ln 0 counts as 0
    with pytest.raises(ValueError, match="one stationary distribution, got 2 groups"):
        MarkovChain(np.eye(2))
    held = MarkovChain(np.eye(2), initial=[0.25, 0.75])
    assert held.log_probability([1, 1, 1]) == pytest.approx(math.log(0.75))
    assert held.log_probability([1, 0]) == -math.inf


def test_rare_states_are_as_exact_as_frequent_ones():
    """Two states in closed form; three in a ring, each left with a chance of its own, stay in
    proportion to 1 / chance; a state that is left for good has exactly 0."""
    e = 1e-15
    pi = MarkovChain([[1 - e, e], [3 * e, 1 - 3 * e]]).stationary()
    np.testing.assert_allclose(pi, [0.75, 0.25], rtol=1e-14)
    leaving = np.array([0.5, 1e-9, 1e-14])
    ring = np.diag(1 - leaving) + np.roll(np.diag(leaving), 1, axis=1)
    expected = 1 / leaving / (1 / leaving).sum()
    np.testing.assert_allclose(MarkovChain(ring).stationary(), expected, rtol=1e-13)
    left = MarkovChain([[0, 1, 0], [0, 0, 1], [0, 1, 0]])
    assert left.initial[0] == 0 and left.log_probability([0, 1]) == -math.inf
    assert left.stationary().tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_for_good_has_no_share(seed):
    """States 0 to 4 lead into a class of five, by any numbers: only the five keep a share."""
    rng, order = np.random.default_rng(seed), np.random.default_rng(seed).permutation(10)
    rows = rng.random((10, 10)) ** 6
    rows[5:, :5] = 0
    rows = (rows / rows.sum(1, keepdims=True))[np.ix_(order, order)]
    pi = MarkovChain(rows).stationary()
    np.testing.assert_array_equal(pi > 0, order >= 5)
    np.testing.assert_allclose(pi @ rows, pi, rtol=1e-13)
    assert pi.sum() == pytest.approx(1, abs=1e-14)


def test_fitting_counts_what_follows_what():
    chain = MarkovChain.fit(["aab", "ba"])  # a: a once, b once; b: a once; not b to b between them
    np.testing.assert_allclose(chain.transitions, [[0.5, 0.5], [1, 0]])
    assert chain.states == ("a", "b") and chain.initial.tolist() == [0.5, 0.5]
    added = MarkovChain.fit(["aab", "ba"], states="abc", pseudocount=1)
    np.testing.assert_allclose(added.transitions[0], [2 / 5, 2 / 5, 1 / 5])
    np.testing.assert_allclose(added.transitions[2], [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(added.initial, [2 / 5, 2 / 5, 1 / 5])
    arrays = MarkovChain.fit([np.array([0, 0, 1]), np.array([1, 0])])
    assert arrays.states == (0, 1) and type(arrays.states[0]) is int
    np.testing.assert_array_equal(arrays.transitions, chain.transitions)


@given(st.lists(st.lists(words, min_size=1, max_size=8), min_size=1, max_size=5))
def test_a_chain_with_an_end_is_a_bigram_model(corpus):
    chain = MarkovChain.fit([["<s>", *s, "</s>", "<s>"] for s in corpus])
    model = NGram(2, MaximumLikelihood()).fit(corpus)
    for i, state in enumerate(chain.states):
        if state == "</s>":
            continue
        p = model.probabilities([] if state == "<s>" else [state])
        for j, name in enumerate(chain.states):
            if name != "<s>":
                expected = p[model.vocabulary.index(name)]
                assert chain.transitions[i, j] == pytest.approx(expected)


def test_fitted_chains_come_close_to_the_truth():
    truth = weather()
    for seed in range(5):
        chain = MarkovChain.fit([truth.sample(seed, length=20_000)])
        # four standard errors: sqrt(p q / (days in the rarer state))
        assert np.abs(chain.transitions - truth.transitions).max() < 4 * 0.5 / math.sqrt(3300)
        assert np.abs(chain.stationary() - truth.stationary()).max() < 0.03
        assert chain.entropy_rate() == pytest.approx(truth.entropy_rate(), abs=0.02)


def test_entropy_rate_is_the_mean_loss_of_the_true_chain():
    truth = weather()
    path = truth.sample(0, length=50_000)
    assert -truth.log_probability(path) / len(path) == pytest.approx(truth.entropy_rate(), abs=0.01)


def test_samples_of_a_chain_start_where_told_and_repeat():
    chain = weather()
    assert chain.sample(3, length=50) == chain.sample(3, length=50) != chain.sample(4, length=50)
    assert chain.sample(3, length=1, start="wet") == ["wet"]
    always = MarkovChain([[0, 1, 0], [0, 0, 1], [1, 0, 0]], states="abc")
    assert "".join(always.sample(0, length=7, start="b")) == "bcabcab"
    starts = [always.sample(seed, length=1)[0] for seed in range(60)]
    assert set(starts) == set("abc")


def test_chains_take_tensors():
    rows = torch.tensor([[0.75, 0.25], [0.5, 0.5]], requires_grad=True)
    chain = MarkovChain(rows, states=torch.tensor([0, 1]))
    assert chain.transitions.tolist() == rows.tolist() and chain.states == (0, 1)
    assert chain.log_probability(torch.tensor([0, 1])) == chain.log_probability([0, 1])
    fitted = MarkovChain.fit(torch.tensor([[0, 1, 0], [1, 0, 1]]), states=torch.tensor([0, 1]))
    assert fitted.transitions.tolist() == [[0, 1], [1, 0]]
    with pytest.raises(TypeError, match="transitions must be real numbers, got 'ab'"):
        MarkovChain("ab")
    with pytest.raises(ValueError, match="initial must have no masked values"):
        MarkovChain(np.eye(2), initial=np.ma.masked_array([0.5, 0.5], [False, True]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(transitions=[[1, 0]]), r"shape \(K, K\), got \(1, 2\)"),
        (dict(transitions=[[0.5, 0.4], [0, 1]]), "add up to 1"),
        (dict(transitions=[[1.5, -0.5], [0, 1]]), "add up to 1"),
        (dict(transitions=[[math.nan, 1], [0, 1]]), "add up to 1"),
        (dict(transitions=[]), "must hold probabilities"),
        (dict(transitions=[[0.5, 0.5], [0.5, 0.5]], states="aa"), "2 distinct names"),
        (dict(transitions=[[1.0]], states="ab"), "1 distinct names"),
        (dict(transitions=np.eye(2), initial=[1.0]), r"initial must have shape \(2,\)"),
        (dict(transitions=np.eye(2), initial=[1.0, 1.0]), "initial must be probabilities"),
    ],
)
def test_chains_refuse_what_is_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        MarkovChain(**arguments)


def test_chains_refuse_states_they_do_not_know_and_texts_that_say_too_little():
    chain = weather()
    for ask in (
        lambda: chain.log_probability(["dry", "snow"]),
        lambda: chain.predict("snow"),
        lambda: chain.sample(0, start="snow"),
        lambda: MarkovChain.fit([["dry", "snow"]], states=("dry", "wet")),
    ):
        with pytest.raises(ValueError, match="states must be among 'dry', 'wet', got 'snow'"):
            ask()
    with pytest.raises(ValueError, match="at least one state"):
        chain.log_probability([])
    with pytest.raises(ValueError, match="got none that leaves 'b'"):
        MarkovChain.fit(["aab"])
    for none in ([], [[]], [["a"], []]):
        with pytest.raises(ValueError, match="none empty, got"):
            MarkovChain.fit(none)
    with pytest.raises(TypeError, match="got one string"):
        MarkovChain.fit("aab")
    for pseudocount in (-1, math.inf, math.nan, True, "1"):
        message = f"pseudocount must be a finite number of at least 0, got {pseudocount!r}"
        with pytest.raises(ValueError, match=message):
            MarkovChain.fit(["aba"], pseudocount=pseudocount)
    for one in ([0, 1, 0, 1], np.array([0, 1, 0, 1]), torch.tensor([0, 1, 0, 1])):
        with pytest.raises(TypeError, match=r"sequences\[0\] must be a sequence, got 0"):
            MarkovChain.fit(one)
    with pytest.raises(TypeError, match="sequences must be a sequence, got None"):
        MarkovChain.fit(None)
    for mixed in (["a", 1, "a"], [["a"], ["b"], ["a"]]):
        with pytest.raises(TypeError, match="sequences must hold states that can be sorted, or"):
            MarkovChain.fit([mixed])
    mixed = MarkovChain.fit([["a", 1, "a"]], states=["a", 1])
    assert mixed.transitions.tolist() == [[0, 1], [1, 0]]
    for states in (None, [0, math.nan]):
        with pytest.raises(ValueError, match="states must be equal to themselves, got nan"):
            MarkovChain.fit([np.array([0, math.nan, 0])], states)
    for ask in (lambda: chain.predict(["dry"]), lambda: chain.log_probability([["dry"]])):
        with pytest.raises(TypeError, match="among 'dry', 'wet', got an unhash.*list"):
            ask()
    with pytest.raises(TypeError, match="sequence must be a sequence, got 5"):
        chain.log_probability(5)
    with pytest.raises(TypeError, match="states must be names .*: unhashable type: 'list'"):
        MarkovChain(np.eye(2), states=[[1], [2]], initial=[0.5, 0.5])
    with pytest.raises(TypeError, match="states must be a sequence, got 5"):
        MarkovChain(np.eye(2), states=5)
    with pytest.raises(ValueError, match="steps must be at least 0"):
        chain.predict("dry", -1)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        chain.sample(-1)
