"""Real data that dependencies ship, and that which is fetched, where it is at hand."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from gensim.test.utils import datapath
from sklearn.datasets import load_digits

from companion.sequences import (
    FILES,
    cache_folder,
    chorales,
    digits,
    news,
    nottingham,
    shakespeare,
)


def test_news_is_gensims_file():
    sentences, articles = news(), news(by="article")
    with open(datapath("lee_background.cor"), encoding="utf-8") as file:
        text = file.read()
    assert len(text.split()) == 59_890 and len(articles) == 300
    assert [w for s in sentences for w in s] == [w for a in articles for w in a]
    # the same letters and figures, in the same order: nothing lost, nothing added
    kept = "".join(w for s in sentences for w in s)
    assert [c for c in kept if c.isalnum()] == [c for c in text.lower() if c.isalnum()]
    assert Counter(kept)["."] == text.count(".")


def test_news_is_cut_into_sentences():
    sentences = news()
    assert 2000 < len(sentences) < 3000 and min(map(len, sentences)) > 2
    ends = Counter(s[-1] for s in sentences)
    assert sum(ends[mark] for mark in '.?!"') > 0.99 * len(sentences)
    # a title ends no sentence, and inside a sentence there is hardly a stop before another word
    assert not any(s[-2:] == ["mr", "."] or s[-1] == "mr." for s in sentences)
    assert sentences[0][0] == "hundreds" and sentences[1][:3] == ["a", "new", "blaze"]
    with pytest.raises(ValueError, match="by must be one of 'sentence', 'article', got 'word'"):
        news(by="word")


def test_digits_are_read_row_by_row():
    images, labels = digits()
    expected = load_digits()
    assert images.shape == (8, 1797, 8) and (images.min(), images.max()) == (0, 1)
    for i in (0, 7, 1796):
        np.testing.assert_array_equal(images[:, i] * 16, expected.images[i])
    assert labels.tolist() == expected.target.tolist() and labels.dtype == np.int64


def here(name):
    """Run only where the file is at hand: in the folder of copies or the cache."""
    folders = [Path(os.environ.get("COMPANION_DATA") or cache_folder()), cache_folder()]
    assert name in FILES
    return pytest.mark.skipif(
        not any((folder / name).exists() for folder in folders),
        reason=f"{name} is not at hand: COMPANION_DATA may name a folder that holds it",
    )


@here("tinyshakespeare.txt")
def test_shakespeare():
    text = shakespeare()
    assert len(text) == 1_115_394 and len(set(text)) == 65  # as nanoGPT counts them
    assert text.startswith("First Citizen:\nBefore we proceed") and text.count("\n") == 40_000


@here("JSB_Chorales.mat")
def test_chorales():
    parts = chorales()
    assert [len(part) for part in parts] == [229, 76, 77]  # Boulanger-Lewandowski et al., table 1
    for roll in (roll for part in parts for roll in part):
        assert roll.ndim == 2 and roll.shape[1] == 88 and roll.dtype == np.float32
        assert set(np.unique(roll)) <= {0, 1}
    keys = np.flatnonzero(np.concatenate(parts.train).any(0))
    assert (keys.min() + 21, keys.max() + 21) == (43, 96)  # MIDI; the first key is 21


@here("Nottingham.mat")
def test_nottingham():
    parts = nottingham()
    assert [len(part) for part in parts] == [694, 173, 170]
    assert sum(map(len, parts.train)) == 176_561
    assert all(roll.shape[1] == 88 for part in parts for roll in part)
