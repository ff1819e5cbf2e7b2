"""Words, their numbers, and the files that keep both."""

import json
import os
import re
import stat
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from companion.sequences import Characters, Vocabulary, news, tokenise

CORPUS = [["the", "dog", "sat", "down"], ["the", "cat", "sat"], ["the", "end"]]
NO_SPECIALS = dict(unknown=None, padding=None, start=None, end=None)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The cat sat.", ["the", "cat", "sat", "."]),
        ("Don’t, don't!", ["don’t", ",", "don't", "!"]),
        ("'Tis the dogs' day", ["'", "tis", "the", "dogs", "'", "day"]),
        ("3.14, 1,000; at 12:30.", ["3.14", ",", "1,000", ";", "at", "12:30", "."]),
        ("well-known ... x_1", ["well", "-", "known", ".", ".", ".", "x_1"]),
        ("Čeština straße ΣΊΣΥΦΟΣ", ["čeština", "straße", "σίσυφος"]),
        ("cafe\u0301 caf\u00e9", ["caf\u00e9", "caf\u00e9"]),
        ("two\n\n\tlines\u00a0here", ["two", "lines", "here"]),
        ("", []),
        ("日本 🙂", ["日本", "🙂"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा", "।"]),  # vowel signs are no letters
        ("X̄ ẹ́ x̄ys", ["x̄", "ẹ\u0301", "x̄ys"]),  # accents with no composed form
        ("שָׁלוֹם d'x̄'s İZ", ["שָׁלוֹם", "d'x̄'s", "i\u0307z"]),
        ("می\u200cخواهم, ක්\u200dරිස්", ["می\u200cخواهم", ",", "ක්\u200dරිස්"]),
        ("wonder\u00adful", ["wonderful"]),
        ("❤\ufe0f! \u0301a", ["❤\ufe0f", "!", "\u0301", "a"]),
    ],
)
def test_tokens(text, tokens):
    assert tokenise(text) == tokens


def test_tokens_of_plain_words_are_those_of_scikit_learn():
    text = "A rose is a rose is a rose; and so, on the 2nd day, is a ROSE."
    theirs = CountVectorizer(token_pattern=r"\w+").build_analyzer()(text)
    assert [token for token in tokenise(text) if token.isalnum()] == theirs


def test_marks_change_nothing_for_plain_text():
    plain = re.compile(r"\d+(?:[.,:]\d+)+|\w+(?:['’]\w+)*|[^\w\s]")
    for sentence in news():
        text = " ".join(sentence)
        assert tokenise(text) == plain.findall(text)


@given(st.text(st.characters(categories=["L", "M", "N", "P", "Zs"])))
def test_a_mark_stays_with_what_it_stands_on(text):
    """As Unicode's word boundaries have it (UAX 29, WB4): none before a mark, but after a space."""
    composed = unicodedata.normalize("NFC", text.replace("\u00ad", "").lower())
    for token in tokenise(text):
        if unicodedata.category(token[0]).startswith("M") and len(token) < len(composed):
            before = {" " + composed[i - 1] for i in range(1, len(composed))
                      if composed.startswith(token, i)}  # fmt: skip
            number = any(c[1].isdigit() for c in before)  # 3.14 with a mark on its end
            assert number or composed.startswith(token) or any(c.isspace() for c in before)


def test_tokens_need_a_string():
    with pytest.raises(TypeError, match="text must be a string, got list"):
        tokenise(["the cat"])


@given(st.text())
def test_tokens_keep_every_sign_but_spaces(text):
    tokens = tokenise(text)
    assert all(token and not any(map(str.isspace, token)) for token in tokens)
    assert tokenise(" ".join(tokens)) == tokens


def test_ids_begin_with_the_specials_and_fall_with_the_count():
    found = Vocabulary(CORPUS)
    # the 3, sat 2, then one each, by the alphabet
    expected = ("<pad>", "<unk>", "<s>", "</s>", "the", "sat", "cat", "dog", "down", "end")
    assert found.words == expected and len(found) == 10
    assert found.counts.tolist() == [0, 0, 0, 0, 3, 2, 1, 1, 1, 1]
    assert not found.counts.flags.writeable
    assert [found.index(word) for word in expected] == list(range(10))
    assert found.index("<pad>") == 0 and found.padding == "<pad>"
    bare = Vocabulary(CORPUS, **NO_SPECIALS)
    assert bare.words == expected[4:] and bare.padding is None
    assert "cat" in found and "bird" not in found and "<s>" in found and "<s>" not in bare
    assert repr(bare) == "Vocabulary of 6: 'the', 'sat', 'cat', 'dog', 'down', 'end'"


def test_rare_words_are_cut_and_counted_as_unknown():
    twice = Vocabulary(CORPUS, min_count=2)
    assert twice.words[4:] == ("the", "sat")
    assert twice.counts[twice.index("<unk>")] == 4  # cat, dog, down, end
    assert twice.counts.sum() == sum(map(len, CORPUS))
    three = Vocabulary(CORPUS, max_size=3)
    assert three.words[4:] == ("the", "sat", "cat") and three.counts[1] == 3
    assert Vocabulary(CORPUS, min_count=2, max_size=1).words[4:] == ("the",)


@given(st.lists(st.lists(st.sampled_from(["a", "b", "<unk>", "</s>", "ü"]))).filter(any))
def test_counts_are_those_of_a_counter(sentences):
    counted = Counter(word for sentence in sentences for word in sentence)
    try:
        found = Vocabulary(sentences)
    except ValueError:
        assert not set(counted) - {"<unk>", "</s>"}
        return
    assert Counter(dict(zip(found.words, found.counts.tolist(), strict=True))) == counted
    for sentence in sentences:
        assert found.decode(found.encode(sentence)) == sentence


def test_a_generator_is_read_once_and_any_iterable_will_do():
    found = Vocabulary(tuple(sentence) for sentence in CORPUS)
    assert found.words == Vocabulary(CORPUS).words
    letters = Vocabulary([list("banana")], **NO_SPECIALS)
    assert letters.words == ("a", "n", "b")
    assert letters.encode(iter("nab")).tolist() == [1, 0, 2]


def test_words_and_ids_and_back():
    found = Vocabulary(CORPUS)
    ids = found.encode(["the", "bird", "sat", "</s>"])
    assert ids.dtype == np.int64 and ids.tolist() == [4, 1, 5, 3]
    for form in (ids, ids.tolist(), torch.tensor(ids), ids.astype(np.uint8)):
        assert found.decode(form) == ["the", "<unk>", "sat", "</s>"]
    assert found.word(np.int64(4)) == "the"
    assert found.encode([]).shape == (0,) and found.decode([]) == []


def test_an_unknown_word_is_named_where_there_is_no_symbol_for_it():
    closed = Vocabulary(CORPUS, unknown=None)
    for ask in (lambda: closed.index("bird"), lambda: closed.encode(["the", "bird", "cow"])):
        with pytest.raises(ValueError, match="has no unknown symbol, got 'bird'"):
            ask()
    assert Vocabulary(CORPUS).index("bird") == 1


def test_a_special_symbol_in_the_corpus_is_that_symbol():
    marked = [["<s>", "the", "<unk>", "</s>"], ["<s>", "the", "</s>"]]
    found = Vocabulary(marked)
    assert found.words == ("<pad>", "<unk>", "<s>", "</s>", "the")
    assert found.counts.tolist() == [0, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="must not hold the padding '<pad>', got it 2 times"):
        Vocabulary([["the", "<pad>", "<pad>"]])
    assert "<pad>" in Vocabulary([["the", "<pad>"]], padding=None)


@pytest.mark.parametrize(
    ("sentences", "error", "message"),
    [
        ("the cat sat", TypeError, "string, which would become letters"),
        (["the cat", "sat"], TypeError, "must be a list of words, got the string 'the cat'"),
        (b"the cat", TypeError, "would become letters"),
        ([["the", 3]], TypeError, "a word must be a string, got 3"),
        ([[["the"]]], TypeError, "lists of words"),
        ([3], TypeError, "lists of words"),
        (None, TypeError, "sentences must be lists of words, got None"),
        (5, TypeError, "sentences must be lists of words, got 5"),
        ([], ValueError, "at least one word, got none"),
        ([[], []], ValueError, "at least one word, got none"),
        ([["<unk>"]], ValueError, "a word that occurs at least min_count = 1 times, got 1 words"),
    ],
)
def test_what_is_no_corpus_is_refused(sentences, error, message):
    with pytest.raises(error, match=message):
        Vocabulary(sentences)


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="min_count = 4 times, got 9 words"):
        Vocabulary(CORPUS, min_count=4)
    with pytest.raises(ValueError, match="max_size must be at least 1, got 0"):
        Vocabulary(CORPUS, max_size=0)
    with pytest.raises(ValueError, match="special symbols must differ, got '<x>', '<x>'"):
        Vocabulary(CORPUS, unknown="<x>", padding="<x>", start=None, end=None)
    with pytest.raises(ValueError, match="end must be a string of at least one letter"):
        Vocabulary(CORPUS, end="")
    with pytest.raises(TypeError, match="start must be a string or None, got 2"):
        Vocabulary(CORPUS, start=2)
    found = Vocabulary(CORPUS)
    with pytest.raises(TypeError, match="got the string 'the'"):
        found.encode("the")
    for none in (None, 5):
        with pytest.raises(TypeError, match=f"words must be a list of words, got {none}"):
            found.encode(none)
    for nested in (CORPUS, [3, 4], [None]):  # sentences, ids, nothing: never silently unknown
        with pytest.raises(TypeError, match="string"):
            found.encode(nested)
    for ids in ([10], [-1], [0, 99]):
        with pytest.raises(ValueError, match="ids must lie from 0 to 9, got"):
            found.decode(ids)
    with pytest.raises(ValueError, match=r"shape \(N,\), got shape \(1, 1\)"):
        found.decode([[1]])
    with pytest.raises(TypeError, match=r"ids must be real numbers, got \[\[1\], \[1, 2\]\]"):
        found.decode([[1], [1, 2]])
    with pytest.raises(ValueError, match="ids must have no masked values, got masked_array"):
        found.decode(np.ma.masked_array([1, 2], [False, True]))
    for ids in ([1.0], [True]):
        with pytest.raises(TypeError, match="ids must be whole numbers, got dtype"):
            found.decode(ids)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_what_is_saved_is_loaded(tmp_path_factory, sentence):
    path = tmp_path_factory.mktemp("words") / "vocabulary.json"
    for symbols in ({}, NO_SPECIALS, dict(padding=None, end="ENDE")):
        found = Vocabulary([sentence], **symbols)
        found.save(path)
        again = Vocabulary.load(str(path))
        assert again.words == found.words
        assert again.counts.tolist() == found.counts.tolist() and not again.counts.flags.writeable
        assert (again.padding, again.end) == (found.padding, found.end)
        assert again.encode(sentence).tolist() == found.encode(sentence).tolist()


def test_the_file_is_json_in_utf_8_that_others_can_read(tmp_path):
    Vocabulary([["straße", "日本"]], min_count=1).save(tmp_path / "v.json")
    raw = (tmp_path / "v.json").read_bytes()
    assert "日本".encode() in raw
    assert json.loads(raw)["words"][-2:] == ["straße", "日本"]
    if os.name == "posix":  # as readable as any new file
        (tmp_path / "other").write_text("")
        modes = [(tmp_path / name).stat().st_mode for name in ("v.json", "other")]
        assert modes[0] == modes[1]


def damaged():
    good = {
        "format": "companion vocabulary 1",
        "words": ["<unk>", "a"],
        "counts": [0, 1],
        "specials": {"padding": None, "unknown": "<unk>", "start": None, "end": None},
    }
    yield "empty", b""
    yield "cut off", json.dumps(good).encode()[:-20]
    yield "not UTF-8", b"\xff\xfe{}"
    yield "other JSON", b"[1, 2]"
    yield "a number", b"3"
    yield "deep", b"[" * 100_000
    changes = {
        "a foreign format": {"format": "word2vec"},
        "no counts": {"counts": None},
        "too few counts": {"counts": [1]},
        "a count below 0": {"counts": [0, -1]},
        "a count beyond all": {"counts": [0, 2**70]},
        "a word twice": {"words": ["<unk>", "<unk>"]},
        "a word that is none": {"words": ["<unk>", 3]},
        "specials elsewhere": {"words": ["a", "<unk>"]},
        "specials missing": {"specials": {}},
        "words in one string": {"words": "ab"},
    }
    for name, change in changes.items():
        yield name, json.dumps(good | change).encode()


@pytest.mark.parametrize("content", [pytest.param(c, id=n) for n, c in damaged()])
def test_a_damaged_or_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "v.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"written by Vocabulary.save, got '.*v\.json': "):
        Vocabulary.load(path)


def test_a_file_that_is_not_there_is_another_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Vocabulary.load(tmp_path / "none.json")
    with pytest.raises(OSError):
        Vocabulary(CORPUS).save(tmp_path / "no folder" / "v.json")
    assert os.listdir(tmp_path) == []


def test_a_word_that_utf_8_cannot_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "v.json"
    Vocabulary(CORPUS).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="surrogates not allowed"):
        Vocabulary([["\ud800"]]).save(path)
    assert os.listdir(tmp_path) == ["v.json"] and path.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="links and permissions are POSIX's")
def test_a_file_saved_again_stays_where_and_what_it_was(tmp_path):
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far" / "v.json", tmp_path / "v.json"
    link.symlink_to(real)
    Vocabulary(CORPUS).save(link)  # a link to nothing yet
    assert link.is_symlink() and not real.is_symlink()
    assert os.listdir(tmp_path / "far") == [real.name]
    for mode in (0o600, 0o664):
        real.chmod(mode)
        Vocabulary([["other"]]).save(link)
        assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == mode
    assert Vocabulary.load(real).words[-1] == "other"
    long = tmp_path / ("ü" * 120 + ".json")  # 245 bytes of the 255 that a name may have
    Vocabulary(CORPUS).save(long)
    assert Vocabulary.load(long).words == Vocabulary(CORPUS).words


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "v.json"
    Vocabulary(CORPUS).save(path)
    before = path.read_bytes()

    def interrupted(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Vocabulary([["other"]]).save(path)
    assert os.listdir(tmp_path) == ["v.json"] and path.read_bytes() == before


# ---- characters ----

SURROGATES = st.characters(categories=["Cs", "L", "M", "N", "P", "Z", "Cc"])


@given(st.text(SURROGATES, min_size=1))
def test_characters_and_ids_and_back(text):
    found = Characters(text)
    assert found.symbols == tuple(sorted(set(text))) and len(found) == len(set(text))
    ids = found.encode(text)
    assert ids.dtype == np.int64 and ids.tolist() == [found.symbols.index(c) for c in text]
    assert found.decode(ids) == found.decode(torch.tensor(ids)) == text
    again = Characters("".join(found.symbols))
    assert again.symbols == found.symbols and again.encode(text).tolist() == ids.tolist()


def test_characters_change_nothing():
    text = "Cafe\u0301 Café\r\n\tİ ❤\ufe0f \ud83d"  # two spellings stay two, half a pair stays
    found = Characters(text)
    assert found.decode(found.encode(text)) == text
    assert "\n" in found and "x" not in found
    assert found.encode("").shape == (0,) and found.decode([]) == ""
    assert repr(Characters("cab")) == "Characters, 3: 'abc'"


def test_a_character_that_does_not_occur_is_unknown_or_named():
    closed, opened = Characters("banana"), Characters("banana", unknown="c")
    with pytest.raises(ValueError, match="than the 3 known ones, got 'x' at index 2"):
        closed.encode("nax")
    with pytest.raises(ValueError, match="got '\U0001f642' at index 0"):
        closed.encode("\U0001f642")
    assert opened.symbols == ("a", "b", "c", "n")
    assert opened.decode(opened.encode("bax!")) == "bacc"
    assert Characters("a?", unknown="?").symbols == ("?", "a")


@pytest.mark.parametrize(
    ("error", "make", "match"),
    [
        (TypeError, lambda: Characters(["a", "b"]), "text must be a string, got list"),
        (ValueError, lambda: Characters(""), "text must hold at least one character"),
        (TypeError, lambda: Characters("a", unknown=0), "unknown must be a string or None, got 0"),
        (ValueError, lambda: Characters("a", unknown="??"), "a single character, got '??'"),
        (ValueError, lambda: Characters("a", unknown=""), "a single character, got ''"),
        (TypeError, lambda: Characters("ab").encode(["a"]), "text must be a string, got list"),
        (ValueError, lambda: Characters("ab").decode([2]), "must lie from 0 to 1, got 2 to 2"),
        (ValueError, lambda: Characters("ab").decode([-1]), "must lie from 0 to 1, got -1 to -1"),
        (ValueError, lambda: Characters("ab").decode([[1]]), "shape .N,., got shape .1, 1."),
        (TypeError, lambda: Characters("ab").decode([0.5]), "ids must be whole numbers"),
    ],
)
def test_what_is_no_character_is_named(error, make, match):
    with pytest.raises(error, match=match.replace("?", r"\?")):
        make()
