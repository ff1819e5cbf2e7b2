"""The generated world: its truth, and that vectors trained on it find that truth."""

from collections import Counter

import numpy as np
import pytest

from companion.words import Word2Vec, World


@pytest.fixture(scope="module")
def world():
    return World(count=20_000, seed=0)


def company(world):
    """How often each word stands beside each thing."""
    found = {}
    for sentence in world.sentences:
        for thing in sentence:
            found.setdefault(thing, Counter()).update(sentence)
    return found


def test_same_seed_same_sentences(world):
    assert World(50, seed=3).sentences == World(50, seed=3).sentences
    assert World(50, seed=3).sentences != World(50, seed=4).sentences
    assert len(world.sentences) == 20_000
    assert {len(sentence) for sentence in world.sentences} == {World.length}


def test_the_analogies_are_all_there_is(world):
    # ten pairs a kind: 10 * 9 ordered choices of two, each both ways round
    assert Counter(a.kind for a in world.analogies) == {"gender": 180, "place": 180}
    assert ("gender", "man", "woman", "king", "queen") in world.analogies
    assert ("gender", "woman", "man", "queen", "king") in world.analogies
    assert ("place", "france", "paris", "japan", "tokyo") in world.analogies
    assert len(set(world.analogies)) == 360
    assert all(len({a.a, a.b, a.c, a.d}) == 4 for a in world.analogies)


def test_words_keep_the_company_that_is_planted(world):
    found = company(world)
    for male, female in world.pairs["gender"]:
        assert not {"she", "madam"} & set(found[male]) and not {"he", "sir"} & set(found[female])
    for group in world.groups.values():
        beside = [set(found[word]) - set(group) for word in group]
        assert all(words == beside[0] for words in beside)
    for occupation, share in world.planted.items():
        male = sum(found[occupation][word] for word in "he him his sir beard".split())
        female = sum(found[occupation][word] for word in "she her hers madam dress".split())
        n = male + female  # a binomial draw: five standard deviations
        assert abs(male / n - share) < 5 * np.sqrt(share * (1 - share) / n)


def test_a_third_of_the_company_says_nothing(world):
    text = Counter(word for sentence in world.sentences for word in sentence)
    fillers = "the a of and to in with was is on at by for from it as that this but not".split()
    share = sum(text[word] for word in fillers) / text.total() * World.length / (World.length - 1)
    assert share == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("sg", [0, 1])
def test_vectors_find_the_truth(sg):
    for seed in range(3):
        world = World(seed=seed)
        vectors = Word2Vec(vector_size=50, sg=sg, seed=seed).fit(world.sentences).wv
        score = vectors.evaluate_analogies(world.analogies)
        assert score.accuracy > 0.95 and score.left_out == 0
        for group in world.groups.values():
            for word in group:
                nearest = [w for w, _ in vectors.most_similar(word, topn=len(group) - 1)]
                assert set(nearest) == set(group) - {word}


def test_vectors_find_the_planted_bias():
    for seed in range(3):
        world = World(seed=seed)
        vectors = Word2Vec(vector_size=50, sg=1, seed=seed).fit(world.sentences).wv
        unit = {word: vectors[word] / np.linalg.norm(vectors[word]) for word in vectors.words}
        direction = sum(unit[male] - unit[female] for male, female in world.pairs["gender"])
        leaning = [unit[word] @ direction for word in world.planted]
        assert np.corrcoef(leaning, list(world.planted.values()))[0, 1] > 0.85


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"count": 2.5}, TypeError, "count must be a whole number, got 2.5"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        World(**arguments)
