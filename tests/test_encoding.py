"""One-hot vectors, bags of words and tf-idf."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression

from companion.sequences import Vocabulary, news
from companion.words import TfIdf, bag_of_words, one_hot

PLAIN = {"unknown": None, "padding": None, "start": None, "end": None}


@pytest.fixture(scope="module")
def articles():
    return news(by="article")


@pytest.mark.parametrize("ids", [3, [3, 0, 2], [[1, 2], [3, 4]], [], np.int32([4])])
def test_one_hot_is_a_row_of_the_identity(ids):
    expected = np.eye(5)[np.array(ids, dtype=int)]
    found = one_hot(ids, 5)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_one_hot_of_a_tensor_is_torchs():
    ids = torch.tensor([[3, 0], [1, 1]])
    found = one_hot(ids, 4, dtype=np.int64)
    np.testing.assert_array_equal(found, torch.nn.functional.one_hot(ids, 4).numpy())


@pytest.mark.parametrize(
    ("ids", "size", "error", "message"),
    [
        ([0, 5], 5, ValueError, "ids must be from 0 to size - 1 = 4, got 5"),
        ([0, -1], 5, ValueError, "ids must be from 0 to size - 1 = 4, got -1"),
        ([0.0], 5, TypeError, "ids must be whole numbers, got dtype float64"),
        ([True], 5, TypeError, "ids must be whole numbers, got dtype bool"),
        (["we"], 5, TypeError, "ids must be whole numbers"),
        ([0], 0, ValueError, "size must be at least 1, got 0"),
        ([0], 2.0, TypeError, "size must be a whole number, got 2.0"),
    ],
)
def test_one_hot_refuses(ids, size, error, message):
    with pytest.raises(error, match=message):
        one_hot(ids, size)


def test_the_bag_of_the_slides():
    words = ["we", "like", "tensorlayer", "do", "we"]  # without the comma and the question mark
    vocabulary = Vocabulary([words], **PLAIN)
    assert bag_of_words([words], vocabulary).toarray().tolist() == [[2, 1, 1, 1]]


def test_a_bag_is_the_sum_of_one_hots(articles):
    vocabulary = Vocabulary(articles, min_count=20)
    bags = bag_of_words(articles[:20], vocabulary)
    assert sparse.issparse(bags) and bags.shape == (20, len(vocabulary))
    for bag, article in zip(bags.toarray(), articles, strict=False):
        sums = one_hot(vocabulary.encode(article), len(vocabulary)).sum(0)
        np.testing.assert_array_equal(bag, sums)
    assert bags[:, [vocabulary.index("<unk>")]].sum() > 0  # rare words are counted there


def test_bags_are_scikit_learns(articles):
    vocabulary = Vocabulary(articles, **PLAIN)
    theirs = CountVectorizer(analyzer=lambda words: words, vocabulary=vocabulary.words)
    assert (bag_of_words(articles, vocabulary) != theirs.transform(articles)).nnz == 0


def test_order_is_lost_and_an_empty_sentence_is_zero():
    one, other = ["good", "not", "bad"], ["bad", "not", "good"]
    vocabulary = Vocabulary([one], **PLAIN)
    bags = bag_of_words([one, other, []], vocabulary).toarray()
    assert (bags[0] == bags[1]).all() and not bags[2].any()


def test_bags_refuse():
    vocabulary = Vocabulary([["a", "b"]], **PLAIN)
    with pytest.raises(ValueError, match="at least one sentence, got none"):
        bag_of_words([], vocabulary)
    with pytest.raises(TypeError, match="list of words, got the string 'a'"):
        bag_of_words("ab", vocabulary)  # would be counted letter by letter
    with pytest.raises(ValueError, match="must be in the vocabulary.*got 'c'"):
        bag_of_words([["a", "c"]], vocabulary)


def test_a_million_words_take_no_dense_matrix():
    rng = np.random.default_rng(0)
    names = [f"w{i}" for i in range(50_000)]
    vocabulary = Vocabulary([names], **PLAIN)
    drawn = (50_000 * rng.random((5000, 200)) ** 3).astype(int)
    texts = [[names[i] for i in row] for row in drawn.tolist()]
    tracemalloc.start()
    weighted = TfIdf.fit(bag_of_words(texts, vocabulary)).transform(bag_of_words(texts, vocabulary))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert weighted.shape == (5000, 50_000)
    assert peak < 300e6  # dense: 5,000 * 50,000 * 8 bytes = 2e9


@pytest.mark.parametrize("sublinear", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_tfidf_is_scikit_learns(articles, sublinear, dense):
    counts = bag_of_words(articles, Vocabulary(articles, min_count=2))
    train, new = counts[:200], counts[200:]  # some words occur in the new part only
    assert (train.sum(0) == 0).any()
    theirs = TfidfTransformer(sublinear_tf=sublinear).fit(train)
    given = (train.toarray(), new.toarray()) if dense else (train, new)
    ours = TfIdf.fit(given[0], sublinear=sublinear)
    np.testing.assert_allclose(ours.idf, theirs.idf_, rtol=1e-14)
    difference = ours.transform(given[1]) - theirs.transform(new)
    assert abs(difference).max() < 1e-12


def test_counts_are_left_as_they_were():
    counts = sparse.csr_array(np.array([[3.0, 0.0], [1.0, 2.0]]))
    TfIdf.fit(counts).transform(counts)
    assert counts.toarray().tolist() == [[3, 0], [1, 2]]


def test_tfidf_by_hand():
    # word 0 in 1 of 1 documents: ln(2 / 2) + 1 = 1; word 1 in none: ln(2 / 1) + 1
    weights = TfIdf.fit([[3, 0]])
    np.testing.assert_allclose(weights.idf, [1, np.log(2) + 1], rtol=1e-15)
    both = np.array([1, np.log(2) + 1])
    np.testing.assert_allclose(
        weights.transform([[1, 1], [0, 0]]).toarray(), [both / np.linalg.norm(both), [0, 0]]
    )


def test_tfidf_counts_a_document_once_and_stored_zeros_never():
    # the first row stores word 0 twice, and a zero for word 1
    twice = sparse.csr_array(([1, 1, 0], ([0, 0, 0], [0, 0, 1])), shape=(1, 2))
    np.testing.assert_array_equal(TfIdf.fit(twice).idf, TfIdf.fit([[2, 0]]).idf)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        (np.zeros((0, 3)), ValueError, r"\(N, V\), N and V at least 1, got shape \(0, 3\)"),
        (np.zeros((3, 0)), ValueError, r"got shape \(3, 0\)"),
        ([1, 2], ValueError, r"got shape \(2,\)"),
        ([[1, -2]], ValueError, "finite and at least 0, got -2"),
        ([[1, np.nan]], ValueError, "finite and at least 0, got nan"),
        ([[1j]], TypeError, "real numbers, got dtype complex128"),
    ],
)
def test_tfidf_refuses(counts, error, message):
    with pytest.raises(error, match=message):
        TfIdf.fit(counts)
    with pytest.raises(ValueError, match=r"counts must be \(N, 2\), got shape \(1, 3\)"):
        TfIdf.fit([[1, 2]]).transform([[1, 2, 3]])


def test_scikit_learns_models_take_a_bag_of_words():
    sentences = [["good", "film"], ["bad", "film"], ["good"], ["bad"]]
    bags = bag_of_words(sentences, Vocabulary(sentences, **PLAIN))
    for rows in (bags, TfIdf.fit(bags).transform(bags)):
        model = LogisticRegression(solver="liblinear").fit(rows, [1, 0, 1, 0])
        assert model.predict(rows).tolist() == [1, 0, 1, 0]


def test_a_row_too_small_to_be_scaled_stays_finite():
    found = TfIdf(np.ones(2)).transform([[1e-200, 0], [3, 4]]).toarray()  # its square is zero
    np.testing.assert_allclose(found, [[1e-200, 0], [0.6, 0.8]])
