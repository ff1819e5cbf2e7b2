"""Models whose state is chosen, not learned: Markov chains, and n-grams with smoothing."""

import numbers
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from companion._arrays import as_generator, as_numbers
from companion._checks import at_least
from companion.sequences.vocabulary import Vocabulary, _sentences, _string, _words

__all__ = [
    "Additive",
    "Interpolated",
    "KneserNey",
    "MarkovChain",
    "MaximumLikelihood",
    "NGram",
    "WittenBell",
]


@dataclass(frozen=True, eq=False)
class MarkovChain:
    r"""A chain of states in which the present state is all that counts for the next.

    .. math:: p(s_{t+1} = j \mid s_1, \dots, s_{t-1}, s_t = i) = P_{ij}

    Attributes
    ----------
    transitions : ndarray of shape (K, K)
        The matrix P: row i holds the probabilities of what follows state i.
    states : tuple
        The K states' names, 0 to K - 1 if not given.
    initial : ndarray of shape (K,)
        Probabilities of the first state, the stationary ones if not given.

    Raises
    ------
    TypeError
        If the transitions or ``initial`` hold anything but numbers, or the states are no sequence
        of hashable names.
    ValueError
        If the transitions are no square matrix, or its rows or ``initial`` no probabilities; if
        the states are not K distinct names, none of them NaN; if ``initial`` is not given and
        there is not exactly one stationary distribution.

    Examples
    --------
    >>> weather = MarkovChain([[0.9, 0.1], [0.5, 0.5]], states=("dry", "wet"))
    >>> weather.stationary().round(4)  # 0.5 / (0.1 + 0.5) of all days are dry
    array([0.8333, 0.1667])
    """

    transitions: np.ndarray
    states: tuple = None
    initial: np.ndarray = None

    def __post_init__(self):
        transitions = _probabilities("transitions", self.transitions)
        count = len(transitions)
        if transitions.shape != (count, count):
            raise ValueError(f"transitions must have shape (K, K), got {transitions.shape}")
        states = _names(range(count) if self.states is None else self.states)
        if not len(states) == len(set(states)) == count:
            raise ValueError(f"states must be {count} distinct names, got {states}")
        object.__setattr__(self, "transitions", transitions)
        object.__setattr__(self, "states", states)
        initial = self.stationary() if self.initial is None else self.initial
        initial = _probabilities("initial", initial)
        if initial.shape != (count,):
            raise ValueError(f"initial must have shape ({count},), got {initial.shape}")
        object.__setattr__(self, "initial", initial)

    @classmethod
    def fit(cls, sequences, states=None, pseudocount=0.0):
        r"""Estimate the chain by counting what follows what.

        .. math:: P_{ij} = \frac{n_{ij} + a}{\sum_k (n_{ik} + a)}

        Parameters
        ----------
        sequences : iterable of sequences of states
            Each a list, an array or a string (of letters); no transition leads from one to the
            next.
        states : sequence, optional
            All states, in order; else those that occur, sorted.
        pseudocount : float
            The number a added to each count, of first states too.

        Returns
        -------
        MarkovChain
            With ``initial`` counted from the sequences' first states.

        Raises
        ------
        TypeError
            If ``sequences`` is one string or one sequence, or holds states that cannot be sorted
            while ``states`` is not given.
        ValueError
            If there is no sequence, or an empty one, a state that is NaN or not among ``states``,
            or one that is never left while ``pseudocount`` is 0; if ``pseudocount`` is no number
            or not from 0 to below infinity.
        """
        if isinstance(sequences, str):
            raise TypeError("sequences must be a list of sequences, got one string")
        real = isinstance(pseudocount, numbers.Real) and not isinstance(pseudocount, bool)
        if not (real and 0 <= pseudocount < np.inf):
            raise ValueError(
                f"pseudocount must be a finite number of at least 0, got {pseudocount!r}"
            )
        sequences = [
            _listed(f"sequences[{i}]", s) for i, s in enumerate(_listed("sequences", sequences))
        ]
        if not sequences or not all(sequences):
            raise ValueError(
                f"sequences must be one at least, and none empty, got {len(sequences)} "
                f"of at least {min(map(len, sequences), default=0)} states"
            )
        states = _names(_sorted(sequences) if states is None else states)
        size, numbered = len(states), {state: i for i, state in enumerate(states)}
        flat = _numbered([state for s in sequences for state in s], numbered)
        ends = np.cumsum([len(s) for s in sequences])
        first = np.concatenate([[0], ends[:-1]])
        pairs = np.delete(flat[:-1] * size + flat[1:], first[1:] - 1)
        counts = np.bincount(pairs, minlength=size**2).reshape(size, size) + pseudocount
        stuck = np.flatnonzero(counts.sum(1) == 0)
        if len(stuck):
            raise ValueError(
                f"every state must be left at least once, or pseudocount be above 0, got none "
                f"that leaves {states[stuck[0]]!r}"
            )
        initial = np.bincount(flat[first], minlength=size) + pseudocount
        return cls(counts / counts.sum(1, keepdims=True), states, initial / initial.sum())

    def stationary(self):
        r"""Give the distribution that a step leaves as it is.

        .. math:: \pi P = \pi, \qquad \sum_i \pi_i = 1

        Returns
        -------
        ndarray of shape (K,)
            The share of time spent in each state in the long run; exactly 0 for a state that is
            left for good.

        Raises
        ------
        ValueError
            If there are several, since parts of the chain cannot be left.

        References
        ----------
        Grassmann, Taksar and Heyman (1985), Regenerative analysis and steady state distributions
        for Markov chains. Operations Research 33(5). They take out one state after another, and
        nothing is ever subtracted, so that rare states are as exact as frequent ones.
        """
        from scipy.sparse import csgraph

        count, part = csgraph.connected_components(self.transitions > 0, connection="strong")
        left, entered = np.nonzero(self.transitions)
        leaving = np.unique(part[left][part[left] != part[entered]])
        if count - len(leaving) > 1:
            raise ValueError(
                f"transitions must have one stationary distribution, got {count - len(leaving)} "
                "groups of states that are never left; give `initial` yourself"
            )
        stay = np.flatnonzero(~np.isin(part, leaving))
        flow = self.transitions[np.ix_(stay, stay)]
        for k in range(len(stay) - 1, 0, -1):  # leave out state k: paths through it become direct
            flow[:k, k] /= flow[k, :k].sum()
            flow[:k, :k] += np.outer(flow[:k, k], flow[k, :k])
        share = np.ones(len(stay))
        for k in range(1, len(stay)):
            share[k] = share[:k] @ flow[:k, k]
        solution = np.zeros(len(part))
        solution[stay] = share / share.sum()
        return solution

    def entropy_rate(self):
        r"""Give the mean uncertainty about the next state, in nats a step.

        .. math:: -\sum_i \pi_i \sum_j P_{ij} \ln P_{ij}

        Returns
        -------
        float
            Its exponential is the lowest perplexity that any model of this chain can reach.

        Raises
        ------
        ValueError
            As from ``stationary``.

        References
        ----------
        Cover and Thomas (2006), Elements of Information Theory, theorem 4.2.4.
        """
        logs = np.log(np.where(self.transitions > 0, self.transitions, 1))
        return float(-self.stationary() @ (self.transitions * logs).sum(1))

    def predict(self, state, steps=1):
        r"""Look several steps ahead: row ``state`` of :math:`P^k`.

        Parameters
        ----------
        state : one of ``states``
            The present state.
        steps : int
            Steps ahead, k.

        Returns
        -------
        ndarray of shape (K,)
            Probability of each state.

        Raises
        ------
        TypeError
            If ``steps`` is no whole number, or ``state`` is a list.
        ValueError
            If ``state`` is not one of ``states``, or ``steps`` is below 0.
        """
        steps = at_least("steps", steps, 0)
        return np.linalg.matrix_power(self.transitions, steps)[self._index([state])[0]]

    def log_probability(self, sequence):
        r"""Give the logarithm of a sequence's probability, in nats.

        .. math:: \ln p(s_1) + \sum_{t=2}^{T} \ln P_{s_{t-1} s_t}

        Parameters
        ----------
        sequence : sequence of states
            At least one.

        Returns
        -------
        float
            Minus infinity for a sequence that cannot happen.

        Raises
        ------
        TypeError
            If it is no sequence.
        ValueError
            If it is empty or holds something that is not one of ``states``.
        """
        path = self._index(_listed("sequence", sequence))
        if not len(path):
            raise ValueError("sequence must hold at least one state, got none")
        chances = np.append(self.transitions[path[:-1], path[1:]], self.initial[path[0]])
        with np.errstate(divide="ignore"):
            return float(np.log(chances).sum())

    def sample(self, seed, length=100, start=None):
        """Draw a sequence of states.

        Parameters
        ----------
        seed : int or numpy.random.Generator
            Same seed, same sequence.
        length : int
            Number of states.
        start : one of ``states``, optional
            The first state; else it is drawn from ``initial``.

        Returns
        -------
        list
            The states.

        Raises
        ------
        TypeError
            If ``seed`` or ``length`` is no whole number.
        ValueError
            If ``length`` is below 1, ``seed`` below 0, or ``start`` not one of ``states``.
        """
        rng, length = as_generator(seed), at_least("length", length, 1)
        count = len(self.states)
        now = rng.choice(count, p=self.initial) if start is None else self._index([start])[0]
        path = np.empty(length, dtype=np.int64)
        path[0] = now
        upto = self.transitions.cumsum(1)
        upto /= upto[:, -1:]  # the last is 1, and a chance is below 1
        for step, chance in enumerate(rng.random(length - 1), 1):
            now = upto[now].searchsorted(chance, side="right")
            path[step] = now
        return [self.states[i] for i in path.tolist()]

    def _index(self, sequence):
        return _numbered(sequence, {state: i for i, state in enumerate(self.states)})


def _listed(name, sequence):
    """A sequence as a list; of an array or tensor, of Python's numbers."""
    listed = sequence.tolist() if hasattr(sequence, "tolist") else sequence
    if not isinstance(listed, Iterable):
        raise TypeError(f"{name} must be a sequence, got {reprlib.repr(sequence)}")
    return list(listed)


def _sorted(sequences):
    try:
        return sorted(set().union(*sequences))
    except TypeError as error:
        raise TypeError(
            f"sequences must hold states that can be sorted, or states be given, got: {error}"
        ) from error


def _names(states):
    """The states as a tuple of what can be told apart."""
    states = tuple(_listed("states", states))
    try:
        strange = [state for state in set(states) if state != state]
    except TypeError as error:
        raise TypeError(f"states must be names such as strings or numbers: {error}") from error
    if strange:
        raise ValueError(f"states must be equal to themselves, got {strange[0]!r}")
    return states


def _numbered(sequence, numbered):
    try:
        return np.fromiter(map(numbered.__getitem__, sequence), np.int64, count=len(sequence))
    except (KeyError, TypeError) as error:
        shown = ", ".join(map(repr, list(numbered)[:8]))
        if isinstance(error, TypeError):  # it cannot be hashed
            raise TypeError(f"states must be among {shown}, got an {error}") from error
        raise ValueError(f"states must be among {shown}, got {error.args[0]!r}") from None


def _probabilities(name, values):
    values = as_numbers(name, values).astype(np.float64)
    if not values.size or not values.ndim:
        raise ValueError(f"{name} must hold probabilities, got shape {values.shape}")
    if not ((values >= 0).all() and np.allclose(values.sum(-1), 1, rtol=0, atol=1e-8)):
        raise ValueError(f"{name} must be probabilities that add up to 1, got {values}")
    values.setflags(write=False)
    return values


class _Smoothing:
    """How counts become probabilities: one order's, given those of the order below.

    ``probability`` gets, as arrays that broadcast, how often the word followed its context
    (``count``), how often any word did (``total``), how many different ones did (``types``) and
    the probability in the context one word shorter (``lower``; below the first order it is
    1 / ``size``, the number of words that can follow at all).
    """

    def counts(self, occurrences, continuations):
        """Choose what the orders below the highest one count."""
        return occurrences


@dataclass(frozen=True)
class MaximumLikelihood(_Smoothing):
    r"""No smoothing: relative frequencies, with 0 for what never occurred.

    .. math:: p(w \mid c) = \frac{n_{cw}}{n_c}

    After a context that never occurred, every word gets 0: the counts say nothing.
    """

    def probability(self, count, total, types, lower, size):
        return count / np.maximum(total, 1)


@dataclass(frozen=True)
class Additive(_Smoothing):
    r"""Add k to every count; with k = 1 this is Laplace's rule.

    .. math:: p(w \mid c) = \frac{n_{cw} + k}{n_c + k V}

    Parameters
    ----------
    k : float
        Above 0.
    """

    k: float = 1.0

    def __post_init__(self):
        _between("k", self.k, 0, np.inf)

    def probability(self, count, total, types, lower, size):
        return (count + self.k) / (total + self.k * size)


@dataclass(frozen=True)
class Interpolated(_Smoothing):
    r"""Mix every order with the one below, by one fixed weight.

    .. math:: p(w \mid c) = \lambda \frac{n_{cw}}{n_c} + (1 - \lambda)\, p(w \mid c')

    where the context c' is c without its oldest word, and after a context that never occurred the
    order below has the word.

    Parameters
    ----------
    weight : float
        :math:`\lambda`, above 0 and below 1.

    References
    ----------
    Jelinek and Mercer (1980), Interpolated estimation of Markov source parameters from sparse data.
    """

    weight: float = 0.7

    def __post_init__(self):
        _between("weight", self.weight, 0, 1)

    def probability(self, count, total, types, lower, size):
        weight = self.weight * np.greater(total, 0)
        return weight * count / np.maximum(total, 1) + (1 - weight) * lower


@dataclass(frozen=True)
class WittenBell(_Smoothing):
    r"""Mix with the order below, the more the more different words followed the context.

    .. math:: p(w \mid c) = \frac{n_{cw} + t_c\, p(w \mid c')}{n_c + t_c}

    with :math:`t_c` different words after c, and c' the context without its oldest word.

    References
    ----------
    Witten and Bell (1991), The zero-frequency problem. IEEE Transactions on Information Theory
    37(4), their method C, mixed as by Chen and Goodman (1999).
    """

    def probability(self, count, total, types, lower, size):
        unseen = np.equal(total, 0)
        return (count + (types + unseen) * lower) / (total + types + unseen)


@dataclass(frozen=True)
class KneserNey(_Smoothing):
    r"""Take a part off every count, give it to the order below, and count *contexts* there.

    .. math:: p(w \mid c) = \frac{\max(n_{cw} - d, 0) + d\, t_c\, p(w \mid c')}{n_c}

    with :math:`t_c` different words after c, and c' the context without its oldest word. Below the
    highest order :math:`n_{cw}` is the number of *different words* that came before the words cw.
    So a word frequent in one phrase alone ("Francisco") is not expected elsewhere. What begins a
    sentence has no word before it and keeps its plain count.

    Parameters
    ----------
    discount : float
        d, above 0 and below 1.

    References
    ----------
    Kneser and Ney (1995), Improved backing-off for m-gram language modeling; interpolated as by
    Chen and Goodman (1999), An empirical study of smoothing techniques for language modeling,
    Computer Speech and Language 13(4).
    """

    discount: float = 0.75

    def __post_init__(self):
        _between("discount", self.discount, 0, 1)

    def counts(self, occurrences, continuations):
        return continuations

    def probability(self, count, total, types, lower, size):
        unseen = np.equal(total, 0)
        kept = np.maximum(count - self.discount, 0)
        return (kept + (self.discount * types + unseen) * lower) / (total + unseen)


def _between(name, value, low, high):
    if not (isinstance(value, numbers.Real) and low < value < high):
        raise ValueError(f"{name} must be a number between {low} and {high}, got {value!r}")


class NGram:
    r"""A language model whose state is the last n - 1 words.

    .. math:: p(w_1, \dots, w_T) = \prod_{t=1}^{T+1} p(w_t \mid w_{t-n+1}, \dots, w_{t-1})

    Every sentence gets n - 1 start symbols before it and one end symbol, :math:`w_{T+1}`, after
    it. The start symbols are read and never predicted; the end is predicted like a word, so
    probabilities add up to 1 over all sentences of all lengths.

    Parameters
    ----------
    order : int
        n. Order 1 knows no context, order 2 one word (bigrams).
    smoothing : Additive, Interpolated, KneserNey, MaximumLikelihood or WittenBell, optional
        How counts become probabilities, Kneser and Ney's if not given; any object with their two
        methods will do. It may be exchanged after fitting (``model.smoothing = Additive()``): the
        counts are the same.

    Attributes
    ----------
    vocabulary : Vocabulary
        Of the fitted model; before, None.
    sizes : tuple of int
        Number of different 1-grams, 2-grams, ..., n-grams that were counted; before, None.

    Raises
    ------
    TypeError
        If ``order`` is no whole number, or ``smoothing`` has no such methods.
    ValueError
        If it is below 1.

    Examples
    --------
    >>> model = NGram(2, MaximumLikelihood()).fit([["a", "a", "b"], ["a", "b"]])
    >>> float(np.exp(model.log_probability(["a", "b"])))  # 1 * 2/3 * 1
    0.6666666666666666
    """

    def __init__(self, order, smoothing=None):
        self.order = at_least("order", order, 1)
        self.smoothing = KneserNey() if smoothing is None else smoothing
        self.vocabulary = self.sizes = self._levels = None

    @property
    def smoothing(self):
        """How counts become probabilities."""
        return self._smoothing

    @smoothing.setter
    def smoothing(self, smoothing):
        methods = [getattr(smoothing, name, None) for name in ("counts", "probability")]
        if isinstance(smoothing, type) or not all(map(callable, methods)):
            raise TypeError(f"smoothing must be an object such as KneserNey(), got {smoothing!r}")
        self._smoothing = smoothing

    def fit(self, sentences, vocabulary=None):
        """Count the n-grams of a corpus, of this order and all below.

        Time grows with tokens times order, where the start and end symbols of each sentence count
        as tokens. So does memory, by 60 bytes at most while counting; what is kept grows with the
        number of *different* n-grams.

        Parameters
        ----------
        sentences : iterable of lists of str
            The corpus; a long text without sentences is one list.
        vocabulary : Vocabulary, optional
            With start and end symbol. Words not in it count as unknown. If not given, all words
            of the corpus and an unknown symbol, which then occurs nowhere in training.

        Returns
        -------
        NGram
            Itself.

        Raises
        ------
        TypeError, ValueError
            As from ``Vocabulary``, and if the vocabulary is none, or has no start or no end symbol.
        """
        self._levels = self.sizes = None
        sentences = [_words("a sentence", sentence) for sentence in _sentences(sentences)]
        if vocabulary is None:
            vocabulary = Vocabulary(sentences, padding=None)
        if not isinstance(vocabulary, Vocabulary):
            raise TypeError(f"vocabulary must be a Vocabulary, got {reprlib.repr(vocabulary)}")
        if vocabulary.start is None or vocabulary.end is None:
            raise ValueError("vocabulary must have a start and an end symbol, got None for one")
        self.vocabulary = vocabulary
        self._start = vocabulary.index(vocabulary.start)
        silent = [s for s in (vocabulary.padding, vocabulary.start) if s is not None]
        self._can_follow = np.ones(len(vocabulary), dtype=bool)
        self._can_follow[vocabulary.encode(silent)] = False
        self._size = int(self._can_follow.sum())
        self._count(self._stream(sentences))
        self.sizes = tuple(int((level.plain.grams > 0).sum()) for level in self._levels)
        return self

    def _count(self, ids):
        """Number the m-grams of each order: (number of all but the last word) * V + last word."""
        size, event = len(self.vocabulary), self._can_follow[ids]
        keys, grams, parents = np.arange(size), ids, 1  # one context of no words, number 0
        occurrences = np.bincount(ids, weights=event, minlength=size)
        begins = keys == self._start
        levels = []
        for m in range(2, self.order + 1):
            codes = grams[:-1] * size + ids[m - 1 :]
            longer, first, number = np.unique(codes, return_index=True, return_inverse=True)
            occurred = np.bincount(number, weights=event[m - 1 :], minlength=len(longer))
            # each different longer gram brings its last m - 1 words one more word before them
            before = np.bincount(grams[1:][first], weights=occurred > 0, minlength=len(keys))
            continued = np.where(begins, occurrences, before)
            levels.append(_Level.of(keys, keys // size, parents, occurrences, continued))
            parents, begins = len(keys), begins[longer // size]
            keys, grams, occurrences = longer, number, occurred
        levels.append(_Level.of(keys, keys // size, parents, occurrences, occurrences))
        self._levels = levels

    def log_probabilities(self, words):
        """Give each word's log probability after those before it, in nats.

        Parameters
        ----------
        words : list of str
            One sentence, without start and end symbol.

        Returns
        -------
        ndarray of shape (T + 1,)
            Of the T words and the end symbol; minus infinity where the probability is 0.

        Raises
        ------
        TypeError
            If ``words`` is a string or holds anything but strings.
        ValueError
            If nothing was fitted yet, or the words hold the start or padding symbol, or one that is
            not in the vocabulary if that has no unknown symbol.
        """
        self._fitted()
        return self._log_probabilities([words])

    def log_probability(self, words):
        """Give the log probability of a whole sentence, end included, in nats.

        Parameters
        ----------
        words : list of str
            As for ``log_probabilities``.

        Returns
        -------
        float
            The sum of ``log_probabilities(words)``.

        Raises
        ------
        TypeError, ValueError
            As from ``log_probabilities``.
        """
        return float(self.log_probabilities(words).sum())

    def perplexity(self, sentences):
        r"""Tell between how many equally likely words the model hesitates, in the geometric mean.

        .. math:: \exp\left(-\frac{1}{N} \sum_{t=1}^{N} \ln p(w_t \mid \dots)\right)

        over all N words and end symbols of all sentences: the exponential of the total loss
        divided by the number of tokens, and no mean of sentences' perplexities.

        Parameters
        ----------
        sentences : iterable of lists of str
            At least one; each starts afresh.

        Returns
        -------
        float
            At least 1; infinity if a word has probability 0.

        Raises
        ------
        TypeError, ValueError
            As from ``log_probabilities``, and if there is no sentence.
        """
        self._fitted()
        return float(np.exp(-self._log_probabilities(sentences).mean()))

    def probabilities(self, context=()):
        """Give the distribution of the next word.

        Parameters
        ----------
        context : list of str
            The sentence up to here, all of it or its last n - 1 words; nothing for its first word.

        Returns
        -------
        ndarray of shape (V,)
            By id; the start and padding symbols have 0.

        Raises
        ------
        TypeError, ValueError
            As from ``log_probabilities``.
        """
        self._fitted()
        words = list(map(_string, _words("context", context)))
        ids = self._stream([self._recent(words)])
        grams = self._find(ids[-self.order : -1])  # the n - 1 before the end
        p = self._can_follow / self._size
        for m, level in enumerate(self._levels, 1):
            parent = grams[m - 2][-1] if m > 1 else 0
            counts = self.smoothing.counts(level.plain, level.continued)
            count = np.zeros(len(p))
            children = slice(*level.keys.searchsorted([parent * len(p), (parent + 1) * len(p)]))
            count[level.keys[children] % len(p)] = counts.grams[:-1][children]
            total, types = counts.totals[parent], counts.types[parent]
            p = self.smoothing.probability(count, total, types, p, self._size)
        return p * self._can_follow

    def sample(self, seed, length=100, context=()):
        """Draw words one by one until the end symbol comes.

        Parameters
        ----------
        seed : int or numpy.random.Generator
            Same seed, same words.
        length : int
            Stop after so many words, end or not.
        context : list of str
            The beginning of the sentence, to be continued.

        Returns
        -------
        list of str
            The drawn words, without the context and the end symbol.

        Raises
        ------
        TypeError
            If ``seed`` or ``length`` is no whole number; as from ``log_probabilities``.
        ValueError
            If ``length`` is below 1, ``seed`` below 0, or if no word can follow the context since
            its counts are 0 (without smoothing only); as from ``log_probabilities``.
        """
        rng, length = as_generator(seed), at_least("length", length, 1)
        words = list(map(_string, _words("context", context)))
        given = len(words)
        while len(words) < given + length:
            p = self.probabilities(self._recent(words))
            if not p.any():
                raise ValueError(f"context must have occurred, got {words[-self.order :]}")
            word = self.vocabulary.words[rng.choice(len(p), p=p / p.sum())]
            if word == self.vocabulary.end:
                break
            words.append(word)
        return words[given:]

    def _fitted(self):
        if self._levels is None:
            raise ValueError("the model must be fitted first, got no counts yet")

    def _recent(self, words):
        """What the next word depends on: the last n - 1 words."""
        return words[max(0, len(words) - self.order + 1) :]

    def _stream(self, sentences):
        """All sentences as one array of ids, with n - 1 start symbols and an end symbol each."""
        before = np.full(self.order - 1, self._start)
        end = self.vocabulary.encode([self.vocabulary.end])
        parts = []
        for sentence in _sentences(sentences):
            ids = self.vocabulary.encode(sentence)
            if not self._can_follow[ids].all():
                raise ValueError(
                    "a sentence must come without start and padding symbol, "
                    f"got {self.vocabulary.words[ids[~self._can_follow[ids]][0]]!r}"
                )
            parts += [before, ids, end]
        if not parts:
            raise ValueError("sentences must hold at least one sentence, got none")
        return np.concatenate(parts)

    def _find(self, ids):
        """Number the m-gram that begins at each place, m = 1 to n; -1 for one never seen."""
        grams, size = [ids], len(self.vocabulary)
        for m, level in enumerate(self._levels[1:], 2):
            codes = grams[-1][:-1] * size + ids[m - 1 :]  # below 0 after a -1: not found either
            at = np.minimum(level.keys.searchsorted(codes), len(level.keys) - 1)
            grams.append(np.where(level.keys[at] == codes, at, -1))
        return grams

    def _log_probabilities(self, sentences):
        ids = self._stream(sentences)
        grams = self._find(ids)
        place = np.flatnonzero(self._can_follow[ids])
        p = np.full(len(place), 1 / self._size)
        for m, level in enumerate(self._levels, 1):
            begin = place - (m - 1)
            parent = grams[m - 2][begin] if m > 1 else np.zeros_like(place)
            counts = self.smoothing.counts(level.plain, level.continued)
            count = counts.grams[grams[m - 1][begin]]
            total, types = counts.totals[parent], counts.types[parent]
            p = self.smoothing.probability(count, total, types, p, self._size)
        with np.errstate(divide="ignore"):
            return np.log(p)


class _Counts(NamedTuple):
    """Of one order; each array ends in a 0, which the number -1 of what was never seen finds."""

    grams: np.ndarray  # of each m-gram
    totals: np.ndarray  # of each context: their sum
    types: np.ndarray  # of each context: how many are above 0

    @classmethod
    def of(cls, counts, parent, parents):
        totals, types = (
            np.bincount(parent, weights=w, minlength=parents + 1) for w in (counts, counts > 0)
        )
        return cls(np.append(counts, 0.0), totals, types)


class _Level(NamedTuple):
    """The m-grams of one order, sorted, and both ways to count them."""

    keys: np.ndarray
    plain: _Counts
    continued: _Counts

    @classmethod
    def of(cls, keys, parent, parents, occurrences, continued):
        both = (_Counts.of(counts, parent, parents) for counts in (occurrences, continued))
        return cls(keys, *both)
