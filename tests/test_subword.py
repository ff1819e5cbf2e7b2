"""Byte-pair encoding: the paper's algorithm as witness, exact round trips, costs."""

import json
import os
import random
import re
from collections import Counter

import numpy as np
import pytest
import torch
from gensim.test.utils import datapath
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.words import BytePairEncoding

# The example of Sennrich, Haddow and Birch (2016), algorithm 1.
PAPER = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)


def kind(character):
    """Letters (with other numerals), digits, white space, or anything else."""
    if character.isspace():
        return "space"
    if character.isdecimal():
        return "digit"
    return "letter" if character.isalnum() else "other"


def cut(text):
    """The rule of the docstring, written as a loop over characters."""
    runs = []
    for character in text:
        if runs and kind(runs[-1][-1]) == kind(character):
            runs[-1] += character
        else:
            runs.append(character)
    for i in range(len(runs) - 1):  # a word, number or sign takes the one space before it
        if runs[i].endswith(" ") and not runs[i + 1][0].isspace():
            runs[i], runs[i + 1] = runs[i][:-1], " " + runs[i + 1]
    return [run for run in runs if run]


def apply(pair, token, symbols):
    """Replace a pair from left to right."""
    out, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            out.append(token)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def brute_force(pieces, merges):
    """The paper's algorithm 1: recount every pair for each merge."""
    words = [(list(piece.encode()), count) for piece, count in pieces.items()]
    found = []
    while len(found) < merges:
        pairs = Counter()
        for symbols, count in words:
            for pair in zip(symbols, symbols[1:], strict=False):
                pairs[pair] += count
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = [(apply(best, 256 + len(found), symbols), count) for symbols, count in words]
        found.append(best)
    return tuple(found)


def pieces(encoding, text):
    return [encoding.tokens[i] for i in encoding.encode(text)]


@pytest.fixture(scope="module")
def news():
    with open(datapath("lee_background.cor"), encoding="utf-8") as file:
        return file.read()


@pytest.fixture(scope="module")
def english(news):
    return BytePairEncoding.learn(news.splitlines(), vocab_size=1000)


def test_the_papers_example():
    encoding = BytePairEncoding.learn([PAPER], vocab_size=256 + 4)
    # es 9 (as often as st), est 9, lo 7 (as often as ow), low 7: the paper's merges but for est</w>
    assert encoding.tokens[256:] == (b"es", b"est", b"lo", b"low")
    assert pieces(encoding, "lowest") == [b"low", b"est"]  # a word it never saw


@pytest.mark.parametrize("seed", range(4))
def test_merges_are_those_of_the_brute_force(seed):
    rng = random.Random(seed)
    letters = "ab" if seed < 2 else "abcé "
    words = ["".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(60)]
    text = " ".join(rng.choices(words, k=300)) + " aaaaa aaaaaaaa bbbb"
    found = BytePairEncoding.learn([text], vocab_size=256 + 80).merges
    assert found == brute_force(Counter(cut(text)), 80)
    assert len(found) > 50


def test_merges_of_real_text_are_those_of_the_brute_force(news):
    text = news[:20000]
    found = BytePairEncoding.learn([text], vocab_size=256 + 150).merges
    assert found == brute_force(Counter(cut(text)), 150)


@pytest.mark.parametrize("text", ["aaaaaaa", "low lowest newer", "xyxyxyyx", PAPER])
def test_encoding_repeats_the_merges_in_their_order(text):
    merges = BytePairEncoding.learn([text, PAPER, "aaaa aaa xyx yx"], vocab_size=300).merges
    expected = []
    for piece in cut(text):
        symbols = list(piece.encode())
        for k, pair in enumerate(merges):
            symbols = apply(pair, 256 + k, symbols)
        expected += symbols
    assert BytePairEncoding(merges).encode(text).tolist() == expected


def test_encoding_news_repeats_the_merges_in_their_order(news, english):
    for piece in set(cut(news[50000:60000])):
        symbols = list(piece.encode())
        for k, pair in enumerate(english.merges):
            symbols = apply(pair, 256 + k, symbols)
        assert english.encode(piece).tolist() == symbols


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We do, don't we?", ["We", " do", ",", " don", "'", "t", " we", "?"]),
        ("in 2001 x_1 ½", ["in", " 2001", " x", "_", "1", " ½"]),
        ("a  b\n\n c\t", ["a", " ", " b", "\n\n", " c", "\t"]),
        ("a\nb", ["a", "\n", "b"]),
        (" \U0001f600\U0001f600é", [" \U0001f600\U0001f600", "é"]),
    ],
)
def test_no_merge_leaves_its_piece(text, expected):
    assert cut(text) == expected
    # learned from it often enough, each piece becomes one token, and no token is more
    encoding = BytePairEncoding.learn([text] * 2, vocab_size=400)
    assert [piece.decode() for piece in pieces(encoding, text)] == expected


TEXTS = (
    *("", " ", "\r\n\t \x00\x1f\x85\u2028", "naïve café 日本語 हिन्दी ﷽", "e\u0301 é", "x" * 5000),
    *("\U0001f469\U0001f3fd\u200d\U0001f680\ufeff", "\ud7ff\ue000\U0010ffff"),
)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_round_trip_is_exact(text, english):
    for encoding in (english, BytePairEncoding([]), BytePairEncoding.learn([text + "aa"], 300)):
        ids = encoding.encode(text)
        assert encoding.decode(ids) == text
        assert ids.dtype == np.int64 and len(ids) <= len(text.encode())


@given(st.text())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_round_trip_of_any_text(text):
    encoding = BytePairEncoding.learn([PAPER, text], vocab_size=300)
    assert encoding.decode(encoding.encode(text)) == text
    assert "".join(cut(text)) == text


@pytest.mark.parametrize("seed", range(5))
def test_round_trip_of_random_code_points(seed, english):
    rng = random.Random(seed)
    ranges = [range(0x80), range(0x3000), range(0xD800), range(0xE000, 0x110000)]
    text = "".join(chr(rng.choice(rng.choice(ranges))) for _ in range(20000))
    assert english.decode(english.encode(text)) == text
    assert "".join(cut(text)) == text


def test_learning_shortens_what_is_encoded(news, english):
    lengths = [len(BytePairEncoding(english.merges[:k]).encode(news)) for k in (0, 50, 200, 744)]
    assert lengths[0] == len(news.encode())
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < lengths[0] / 2


def test_no_text_is_the_same_as_no_merge():
    assert len(BytePairEncoding.learn(["abcdefg"], vocab_size=1000)) == 256  # no pair occurs twice
    assert len(BytePairEncoding.learn(["ab ab"], vocab_size=256)) == 256


def test_texts_are_read_one_by_one_and_stay_apart():
    whole = BytePairEncoding.learn(iter(["ab", "ab", "ab"]), vocab_size=300)
    assert whole.tokens[256:] == (b"ab",)  # "abab" would give another


def test_save_and_load(tmp_path, english):
    path = tmp_path / "english.json"
    english.save(path)
    again = BytePairEncoding.load(str(path))
    assert again.merges == english.merges and again.tokens == english.tokens
    text = "Saved, and loaded again."
    assert (again.encode(text) == english.encode(text)).all()
    BytePairEncoding([]).save(path)
    assert BytePairEncoding.load(path).merges == ()
    assert os.listdir(tmp_path) == ["english.json"]  # nothing left beside it


def test_a_write_that_fails_leaves_the_old_file(tmp_path, english, monkeypatch):
    path = tmp_path / "english.json"
    english.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        BytePairEncoding([]).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["english.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"format": "another", "merges": []}',
        b'{"format": "companion byte-pair encoding 1"}',
        b'{"format": "companion byte-pair encoding 1", "merges": [[97, 300]]}',
        b'{"format": "companion byte-pair encoding 1", "merges": [[97, 98],',
    ],
)
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="written by BytePairEncoding.save, got .*broken.json"):
        BytePairEncoding.load(path)


def test_the_file_is_plain(tmp_path):
    BytePairEncoding([(97, 98), (256, 98)]).save(tmp_path / "two.json")
    stored = json.loads((tmp_path / "two.json").read_text())
    assert stored["merges"] == [[97, 98], [256, 98]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: e.encode("a\ud800"), ValueError, r"lone surrogate '\ud800' at index 1"),
        (lambda e: e.encode(b"a"), TypeError, "text must be text, got bytes"),
        (lambda e: e.decode([0, 257]), ValueError, "from 0 to 256, the last token, got 257"),
        (lambda e: e.decode([-1]), ValueError, "got -1"),
        (lambda e: e.decode([0.5]), TypeError, "whole numbers, got dtype float64"),
        (lambda e: e.decode([[1]]), ValueError, r"ids must be \(T,\), got shape \(1, 1\)"),
        (lambda e: e.learn("abc", 300), TypeError, "iterable of strings, got str"),
        (lambda e: e.learn(["a", 1], 300), TypeError, "texts must be text, got int"),
        (lambda e: e.learn(["a", "\udfff"], 300), ValueError, "lone surrogate"),
        (lambda e: e.learn([], 300), ValueError, "at least one character, got none"),
        (lambda e: e.learn(["", ""], 300), ValueError, "at least one character, got none"),
        (lambda e: e.learn(["a"], 255), ValueError, "vocab_size must be at least 256, got 255"),
        (lambda e: e.learn(["a"], 300.0), TypeError, "vocab_size must be a whole number"),
        (lambda e: BytePairEncoding([(1, 256)]), ValueError, r"below 256, got \(1, 256\)"),
        (lambda e: BytePairEncoding([(1, 2), (1, 2)]), ValueError, r"once, got \(1, 2\) again"),
        (lambda e: BytePairEncoding([(1, 2, 3)]), TypeError, r"pairs of ids, got \(1, 2, 3\)"),
        (lambda e: BytePairEncoding([7]), TypeError, "pairs of ids, got 7"),
        (lambda e: BytePairEncoding([("a", "b")]), TypeError, "whole number, got 'a'"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=re.compile(message.replace("\\ud", r"\\ud"))):
        call(BytePairEncoding([(97, 98)]))


def test_decoding_takes_tensors_and_replaces_half_characters():
    encoding = BytePairEncoding([])
    assert encoding.decode(torch.tensor([97, 98])) == "ab"
    assert encoding.decode([]) == ""
    assert encoding.decode([97, 0xC3, 98]) == "a\ufffdb"  # half an é


@pytest.mark.parametrize("letters", ["words", "one piece"])
def test_a_million_characters_round_trip(letters, news):
    rng = random.Random(0)
    stems = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(1, 9))) for _ in range(30000)]
    text = {
        "words": lambda: news + " ".join(rng.choices(stems, k=110_000)),
        "one piece": lambda: "".join(rng.choices("ACGT", k=200_000)),  # a genome has no spaces
    }[letters]()
    encoding = BytePairEncoding.learn([text], vocab_size=256 + 3000)
    ids = encoding.encode(text)
    assert len(encoding) == 3256 and encoding.decode(ids) == text
