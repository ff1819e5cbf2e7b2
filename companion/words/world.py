"""A small generated world whose truth is known: who is what, and which words stand beside it."""

from typing import NamedTuple

import numpy as np

from companion._checks import at_least

__all__ = ["Analogy", "World"]

_PEOPLE = {  # the male and the female word of a role, and the words that go with the role
    ("king", "queen"): "crown throne palace reign",
    ("prince", "princess"): "heir castle ball tutor",
    ("man", "woman"): "adult coat street hat",
    ("boy", "girl"): "school toy play child",
    ("father", "mother"): "parent raise family home",
    ("uncle", "aunt"): "visit cousin birthday gift",
    ("waiter", "waitress"): "menu table tray tip",
    ("actor", "actress"): "stage film role theatre",
    ("monk", "nun"): "pray abbey vow silence",
    ("host", "hostess"): "party guest invite welcome",
}
_GENDERS = ("he him his sir beard", "she her hers madam dress")
_PLACES = {  # a country, its capital, and the words that go with both
    ("france", "paris"): "french baguette seine euro",
    ("japan", "tokyo"): "japanese sushi fuji yen",
    ("egypt", "cairo"): "egyptian pyramid nile pound",
    ("norway", "oslo"): "norwegian fjord skiing krone",
    ("italy", "rome"): "italian pasta tiber opera",
    ("peru", "lima"): "peruvian llama andes sol",
    ("kenya", "nairobi"): "kenyan safari maasai shilling",
    ("poland", "warsaw"): "polish pierogi vistula zloty",
    ("india", "delhi"): "hindi curry ganges rupee",
    ("greece", "athens"): "greek olive acropolis drachma",
}
_KINDS = (
    "nation border army parliament president",
    "city mayor tram district suburb",
)
_TOPICS = {  # members that share the words on the right
    "cat tiger lion dog wolf fox": "fur tail paw hunt prey wild growl sleep",
    "water liquid milk juice oil wine": "pour drink flow bottle drop wet cup spill",
    "red blue green yellow purple orange": "paint bright dark colour shade dye wall brush",
    "hot cold warm cool mild freezing": "weather day wind summer winter room outside feel",
}
_OCCUPATIONS = {  # the share of the male words in the company of an occupation: planted
    "engineer": 0.9,
    "soldier": 0.8,
    "carpenter": 0.7,
    "lawyer": 0.6,
    "doctor": 0.5,
    "writer": 0.5,
    "teacher": 0.4,
    "librarian": 0.3,
    "nurse": 0.2,
    "dancer": 0.1,
}
_WORK = "work job wage office career hire retire train".split()
_FILLERS = "the a of and to in with was is on at by for from it as that this but not".split()


class Analogy(NamedTuple):
    """One analogy that is true by construction, "a is to b as c is to d".

    Attributes
    ----------
    kind : str
        ``"gender"`` or ``"place"``.
    a, b, c, d : str
        The four words, as in *man*, *woman*, *king*, *queen*.
    """

    kind: str
    a: str
    b: str
    c: str
    d: str


class World:
    r"""Write sentences about a world in which each word's company is known.

    A sentence is about one thing. Each of its other words is drawn from the company of one of the
    thing's attributes, or is a filler word that says nothing:

    .. math:: P(\text{word} \mid \text{thing})
              = \tfrac{1}{3} F(\text{word})
              + \tfrac{1}{3} A_1(\text{word}) + \tfrac{1}{3} A_2(\text{word}),

    with :math:`A_1` the words of a role, a place, a topic or of work and :math:`A_2` those of a
    gender or of "country" or "capital" (for a topic :math:`A_2 = A_1`). *King* and *queen* share
    :math:`A_1`, *king* and *man* share :math:`A_2`: that is what makes the analogies true. The
    words are English for the reader's sake only; nothing is known about them but this table.

    Parameters
    ----------
    count : int
        Number of sentences, each of 9 words.
    seed : int
        Seed of the generator: same count and seed, same sentences.

    Attributes
    ----------
    sentences : list of list of str
        The text, one list of words a sentence.
    analogies : list of Analogy
        All true ones of two pairs, both ways round.
    groups : dict of str to tuple of str
        Words of one kind by the group's name; words in a group share their whole company.
    planted : dict of str to float
        The share of male words that was planted beside each occupation; one half is no bias.
    pairs : dict of str to list of tuple of str
        The pairs ``(man, woman)`` and so on under ``"gender"``, ``(country, capital)`` under
        ``"place"``.

    Raises
    ------
    TypeError, ValueError
        If ``count`` or ``seed`` is no whole number, ``count`` is below 1 or ``seed`` negative.

    References
    ----------
    Mikolov, Yih and Zweig (2013), *Linguistic Regularities in Continuous Space Word
    Representations*, section 4, for analogies as a test of vectors.

    Examples
    --------
    >>> world = World(count=2, seed=0)
    >>> [len(sentence) for sentence in world.sentences]
    [9, 9]
    >>> world.analogies[0]
    Analogy(kind='gender', a='king', b='queen', c='prince', d='princess')
    """

    length = 9

    def __init__(self, count=20_000, seed=0):
        count, seed = at_least("count", count, 1), at_least("seed", seed, 0)
        self.pairs = {"gender": list(_PEOPLE), "place": list(_PLACES)}
        names = ("animals", "liquids", "colours", "temperatures")
        self.groups = dict(zip(names, map(tuple, map(str.split, _TOPICS)), strict=True))
        self.planted = dict(_OCCUPATIONS)
        self.analogies = [
            Analogy(kind, *first, *second)
            for kind, pairs in self.pairs.items()
            for one in pairs
            for other in pairs
            if one != other
            for first, second in ((one, other), (one[::-1], other[::-1]))
        ]
        self.sentences = _write(count, np.random.default_rng(seed))


def _companies():
    """Yield each thing with its two companies; each is a list of words, drawn from uniformly."""
    for table, shared in ((_PEOPLE, _GENDERS), (_PLACES, _KINDS)):
        for pair, own in table.items():
            for word, kind in zip(pair, shared, strict=True):
                yield word, own.split(), kind.split()
    for members, words in _TOPICS.items():
        for word in members.split():
            yield word, words.split(), words.split()
    male, female = (words.split() for words in _GENDERS)
    for word, share in _OCCUPATIONS.items():
        tenths = round(10 * share)
        yield word, _WORK, male * tenths + female * (10 - tenths)


def _write(count, rng):
    things = list(_companies())
    size = World.length - 1
    about = rng.integers(len(things), size=count)
    source = rng.integers(3, size=(count, size))  # filler, first or second attribute
    draw = rng.random((count, size))
    place = rng.integers(size + 1, size=count)  # where the thing itself stands
    written = []
    for thing, sources, draws, at in zip(about, source, draw, place, strict=True):
        word, *companies = things[thing]
        lists = (_FILLERS, *companies)
        sentence = [
            lists[k][int(u * len(lists[k]))]
            for k, u in zip(sources.tolist(), draws.tolist(), strict=True)
        ]
        sentence.insert(at, word)
        written.append(sentence)
    return written
