"""Word vectors: nearness and analogies by hand, gensim as witness, files whole or not at all."""

import copy
import pickle

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from gensim.test.utils import datapath

from companion.words import Word2Vec, WordVectors

WORDS = ["man", "king", "woman", "queen", "pawn", "été", "水", "naïve-ish", "'s", "nothing"]


@pytest.fixture
def vectors():
    table = np.random.default_rng(0).normal(size=(len(WORDS), 7)).astype(np.float32)
    table[-1] = 0
    return WordVectors(WORDS, table)


@pytest.fixture
def witness(vectors):
    keyed = KeyedVectors(7)
    keyed.add_vectors(WORDS[:-1], vectors.vectors[:-1])
    return keyed


def assert_same(found, expected):
    assert [word for word, _ in found] == [word for word, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=1e-6)


def test_nearness_is_gensims(vectors, witness):
    assert vectors.similarity("king", "水") == pytest.approx(
        witness.similarity("king", "水"), abs=1e-6
    )
    assert_same(vectors.most_similar("king", topn=4), witness.most_similar("king", topn=4))
    assert_same(vectors.most_similar(["king", "été"], "pawn", topn=20),
                witness.most_similar(["king", "été"], ["pawn"], topn=20))  # fmt: skip
    assert_same(vectors.analogy("man", "king", "woman", topn=3),
                witness.most_similar(["king", "woman"], ["man"], topn=3))  # fmt: skip


def test_analogy_drops_the_words_asked_for():
    # b - a + c = (1, 0.2): nearest of all is b itself, (1, 0)
    table = {"a": [1, 0], "b": [1, 0], "c": [1, 0.2], "d": [1, 1], "e": [-1, 0]}
    small = WordVectors(list(table), list(table.values()))
    assert small.analogy("a", "b", "c")[0][0] == "d"
    assert small.analogy("a", "b", "c", include=True)[0][0] == "c"
    assert [word for word, _ in small.analogy("a", "b", "c", topn=9)] == ["d", "e"]
    questions = [("a", "b", "c", "d"), ("a", "b", "d", "e"), ("a", "b", "c", "x")]
    assert small.evaluate_analogies(questions) == (0.5, 2, 1)
    assert small.evaluate_analogies(questions, include=True).accuracy == 0
    assert np.isnan(small.evaluate_analogies([]).accuracy)


def test_analogies_in_bulk_are_those_one_by_one(vectors):
    rng = np.random.default_rng(1)
    questions = [tuple(rng.permutation(WORDS[:-1])[:4]) for _ in range(600)]  # more than a block
    right = [vectors.analogy(a, b, c)[0][0] == d for a, b, c, d in questions]
    assert vectors.evaluate_analogies(questions).accuracy == pytest.approx(np.mean(right))
    assert 0 < sum(right) < len(right)


def test_similarity_score_is_gensims():
    rng = np.random.default_rng(2)
    path = datapath("wordsim353.tsv")
    with open(path, encoding="utf-8") as file:
        pairs = [line.lower().split() for line in file if not line.startswith("#")]
    words = sorted({word for pair in pairs for word in pair[:2]})[::2]
    table = rng.normal(size=(len(words), 5))
    keyed = KeyedVectors(5)
    keyed.add_vectors(words, table.astype(np.float32))
    _, spearman, unknown = keyed.evaluate_word_pairs(path)
    score = WordVectors(words, table).evaluate_similarity(pairs)
    assert score.correlation == pytest.approx(spearman.statistic, abs=1e-6)
    assert score.left_out / len(pairs) * 100 == pytest.approx(unknown)
    assert score.scored + score.left_out == len(pairs)
    assert np.isnan(WordVectors(["a", "b"], np.eye(2)).evaluate_similarity([("a", "b", 1)])[0])


def test_a_zero_vector_has_no_direction(vectors):
    with pytest.raises(ValueError, match="vector of 'nothing' must have a direction"):
        vectors.similarity("king", "nothing")
    with pytest.raises(ValueError, match="must have a direction"):
        vectors.most_similar("nothing")
    assert "nothing" not in [word for word, _ in vectors.most_similar("king", topn=99)]
    score = vectors.evaluate_similarity([("king", "nothing", 1), ("king", "man", 2)])
    assert (score.scored, score.left_out) == (1, 1)
    with pytest.raises(ValueError, match=r"\['king'\] less \['king'\] must have a direction"):
        vectors.most_similar("king", "king")


def test_unknown_words_are_named(vectors):
    for call in (
        lambda: vectors.most_similar("kind"),
        lambda: vectors.similarity("king", "kind"),
        lambda: vectors.analogy("man", "kind", "woman"),
        lambda: vectors["kind"],
    ):
        with pytest.raises(
            KeyError, match="'kind' is not in the vocabulary of 10; did you mean 'king'"
        ):
            call()
    assert "king" in vectors and "kind" not in vectors and len(vectors) == 10
    with pytest.raises(ValueError, match="at least one word"):
        vectors.most_similar([])
    with pytest.raises(ValueError, match="topn must be at least 1, got 0"):
        vectors.most_similar("king", topn=0)


def test_gensim_reads_ours_and_we_read_gensims(vectors, witness, tmp_path):
    ours, theirs = tmp_path / "ours.txt", tmp_path / "theirs.txt"
    vectors.save(ours)
    read = KeyedVectors.load_word2vec_format(str(ours), binary=False)
    assert read.index_to_key == WORDS
    np.testing.assert_array_equal(read.vectors, vectors.vectors)  # to the last bit
    again = WordVectors.load(ours)
    assert again.words == vectors.words
    np.testing.assert_array_equal(again.vectors, vectors.vectors)
    witness.save_word2vec_format(str(theirs), binary=False)
    back = WordVectors.load(theirs)
    assert list(back.words) == witness.index_to_key
    np.testing.assert_array_equal(back.vectors, witness.vectors)


def test_extreme_numbers_survive_the_file(tmp_path):
    limits = np.finfo(np.float32)
    table = np.array(
        [[limits.max, limits.smallest_subnormal, -limits.tiny, 0.1, 1 / 3]], np.float32
    )
    WordVectors(["a"], table).save(tmp_path / "a.txt")
    np.testing.assert_array_equal(WordVectors.load(tmp_path / "a.txt").vectors, table)


def test_words_with_spaces_of_other_scripts_go_there_and_back(tmp_path):
    words = ["a\u00a0b", "x\u2028y", "\u3000", "n\x85l", "e\u0301", "\U0001f426"]
    table = np.arange(12.0).reshape(6, 2) + 1
    path = tmp_path / "a.txt"
    WordVectors(words, table).save(path)
    back, theirs = WordVectors.load(path), KeyedVectors.load_word2vec_format(path)
    assert list(back.words) == theirs.index_to_key == words
    np.testing.assert_array_equal(theirs.vectors, back.vectors)


def test_copies_are_read_only_too(vectors):
    for copied in (copy.deepcopy(vectors), pickle.loads(pickle.dumps(vectors))):
        assert list(copied) == list(vectors.words)
        np.testing.assert_array_equal(copied.vectors, vectors.vectors)
        with pytest.raises(ValueError, match="read-only"):
            copied.vectors[0] = 0


def test_a_cosine_is_never_above_one():
    table = np.random.default_rng(0).normal(size=(500, 30))
    vectors = WordVectors([str(i) for i in range(500)], table)
    assert max(vectors.similarity(word, word) for word in vectors) <= 1


@pytest.mark.parametrize("analogy", ["abcd", ("a", "b", "c"), ("a",) * 6])
def test_what_is_no_analogy_is_refused(analogy):
    with pytest.raises(ValueError, match="analogies must be four words each"):
        WordVectors(list("abcd"), np.eye(4)).evaluate_analogies([analogy])


def test_reads_what_the_first_program_writes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("2 2\n</s> 0.5 -1.25 \nder 1 2 \n", encoding="utf-8")  # spaces at the ends
    assert WordVectors.load(path).vectors.tolist() == [[0.5, -1.25], [1, 2]]


@pytest.mark.parametrize("word", ["New York", "a\nb", "", "tab\t"])
def test_words_the_format_cannot_hold_are_refused_and_nothing_is_written(word, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("precious")
    with pytest.raises(ValueError, match="no space or line end"):
        WordVectors(["fine", word], np.eye(2)).save(path)
    assert path.read_text() == "precious" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "first line must hold two whole numbers, got ''"),
        ("2 3 4\n", "first line must hold two whole numbers"),
        ("two 2\na 1 2\n", "first line must hold two whole numbers"),
        ("2 2\na 1 2\n", "must hold 2 words, got 1: cut off"),
        ("2 2\na 1 2\nb 1", "line 3 must hold a word, 2 numbers"),
        ("2 2\na 1 2\nb 1 2", "line 3 must hold a word, 2 numbers and a line end"),
        ("1 2\na 1 2\nb 1 2\n", "must end after 1 words"),
        ("2 2\na 1 2\na 1 2\n", "all different"),
        ("1 2\na 1 x\n", "could not convert string to float"),
        ("1 2\na 1 nan\n", "NaN or infinity in row 0"),
        ("1 2\na 1 1e99\n", "NaN or infinity in row 0"),
        ("0 2\n", "at least one"),
        ("1 0\na\n", "D at least 1"),
    ],
)  # fmt: skip
def test_broken_files_are_refused(content, reason, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode())
    with pytest.raises(ValueError, match=reason) as raised:
        WordVectors.load(path)
    assert "path must be a file in word2vec's text format" in str(raised.value)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"1 2\na\xff\xfe 1 2\n")
    with pytest.raises(ValueError, match="word2vec's text format"):
        WordVectors.load(path)
    with pytest.raises(FileNotFoundError):
        WordVectors.load(tmp_path / "none.txt")
    with pytest.raises(OSError):
        WordVectors(["a"], [[1.0]]).save(tmp_path / "no" / "folder.txt")


@pytest.mark.parametrize(
    "words, matrix, error, message",
    [
        ("ab", np.eye(2), TypeError, "words must be a list of strings, got the string 'ab'"),
        (["a", 1], np.eye(2), TypeError, "words must be strings, got 1"),
        ([], np.empty((0, 2)), ValueError, "words must hold at least one, got none"),
        (["a", "a"], np.eye(2), ValueError, "all different, got 'a' twice"),
        (["a"], np.eye(2), ValueError, r"with V = 1 words and D at least 1, got shape \(2, 2\)"),
        (["a"], [1.0], ValueError, r"got shape \(1,\)"),
        (["a"], [[np.nan]], ValueError, "NaN or infinity in row 0"),
        (["a"], [["x"]], TypeError, "matrix must hold real numbers"),
    ],
)
def test_wrong_tables_are_refused(words, matrix, error, message):
    with pytest.raises(error, match=message):
        WordVectors(words, matrix)


def test_tensors_are_taken_and_rows_cannot_be_changed():
    table = torch.eye(2, requires_grad=True)
    vectors = WordVectors(["a", "b"], table)
    assert vectors.vectors.dtype == np.float32 and vectors["b"].tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        vectors["b"][0] = 1


def test_model_saves_what_vectors_load(tmp_path):
    model = Word2Vec(vector_size=4, min_count=1, epochs=1).fit([["a", "b"], ["b", "c"]])
    model.save(tmp_path / "a.txt")
    back = Word2Vec.load(tmp_path / "a.txt")
    np.testing.assert_array_equal(back.vectors, model.vectors)
    assert back.words == model.wv.words
