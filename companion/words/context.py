"""What stands around a word: pairs, contexts, and which words are drawn or left out how often."""

from typing import NamedTuple

import numpy as np

from companion._arrays import as_array, as_generator
from companion._checks import at_least

__all__ = [
    "Contexts",
    "Pairs",
    "contexts",
    "keep_probability",
    "noise_distribution",
    "pairs",
    "subsample",
]

NONE = -1  # stands in a context where there is no word
_BLOCK = 2**20  # neighbours looked at in one go: bounds the memory beside the result


class Pairs(NamedTuple):
    """Examples for skip-gram: a word, and one word near it.

    Attributes
    ----------
    words : ndarray of shape (N,)
        The word one looks from, as an id.
    contexts : ndarray of shape (N,)
        One word of its context.
    """

    words: np.ndarray
    contexts: np.ndarray


class Contexts(NamedTuple):
    """Examples for CBOW: a word, and all words near it.

    Attributes
    ----------
    words : ndarray of shape (N,)
        The word in the middle, as an id.
    contexts : ndarray of shape (N, C)
        The words around it from left to right; -1 where there is none.
    """

    words: np.ndarray
    contexts: np.ndarray


def pairs(sentences, window=5, *, dynamic=False, seed=0):
    r"""Pair each word with every word of its context, for skip-gram.

    .. math:: \{(w_t, w_{t+j}) : 1 \le |j| \le m_t\}

    inside one sentence, with :math:`m_t` the window, or drawn evenly from 1 to the window. A
    window never crosses the end of a sentence. The pairs come in the order of the text.

    Parameters
    ----------
    sentences : list of id sequences, or one of them
        Ids, at least 0, as ``Vocabulary.encode`` gives them. Sentences may be empty.
    window : int
        How many words to each side count as context, at least 1; may exceed the text.
    dynamic : bool
        Whether each word draws its own window, evenly from 1 to ``window``: near words then
        count more than far ones. It is what word2vec does.
    seed : int or numpy.random.Generator
        For these draws.

    Returns
    -------
    Pairs
        ``(words, contexts)``, of the ids' own integer type, int64 for unsigned ones. A text without
        neighbours gives N = 0. A pair takes twice the size of an id, so a large corpus goes in
        piece by piece.

    Raises
    ------
    TypeError
        If the ids or ``window`` are no whole numbers.
    ValueError
        If an id is negative, ``window`` is below 1 or a sentence is not one-dimensional.

    References
    ----------
    Mikolov, Chen, Corrado and Dean (2013), "Efficient estimation of word representations in
    vector space", section 3.2, which has the drawn window.

    Examples
    --------
    >>> words, near = pairs([[7, 8, 9], [4, 5]], window=1)
    >>> list(zip(words.tolist(), near.tolist()))
    [(7, 8), (8, 7), (8, 9), (9, 8), (4, 5), (5, 4)]
    """
    ids, lengths = _flat(sentences)
    words, near = [ids[:0]], [ids[:0]]
    for block, around, inside in _windows(ids, lengths, window, dynamic, seed):
        words.append(np.repeat(block, inside.sum(1)))
        near.append(around[inside])
    return Pairs(np.concatenate(words), np.concatenate(near))


def contexts(sentences, window=5, *, dynamic=False, seed=0):
    """Give each word with its whole context, for CBOW.

    A window never crosses the end of a sentence; a word that stands alone has no context and is
    left out.

    Parameters
    ----------
    sentences, window, dynamic, seed
        As for ``pairs``.

    Returns
    -------
    Contexts
        ``(words, contexts)``, with two columns for each step of the window: at most C = 2 window,
        and no more than the longest sentence can fill. Where there is no word stands -1.

    Raises
    ------
    TypeError, ValueError
        As ``pairs`` does.

    References
    ----------
    Mikolov, Chen, Corrado and Dean (2013), "Efficient estimation of word representations in
    vector space", section 3.1.

    Examples
    --------
    >>> contexts([[7, 8, 9]], window=1)
    Contexts(words=array([7, 8, 9]), contexts=array([[-1,  8],
           [ 7,  9],
           [ 8, -1]]))
    """
    ids, lengths = _flat(sentences)
    words, near = [], []
    for block, around, inside in _windows(ids, lengths, window, dynamic, seed):
        some = inside.any(1)
        words.append(block[some])
        near.append(np.where(inside, around, ids.dtype.type(NONE))[some])
    if not words:
        return Contexts(ids[:0], np.empty((0, 0), ids.dtype))
    return Contexts(np.concatenate(words), np.concatenate(near))


def noise_distribution(counts, power=0.75):
    r"""Give the distribution from which negative examples are drawn.

    .. math:: q_w = \frac{n_w^{\alpha}}{\sum_v n_v^{\alpha}}

    with the count :math:`n_w` of word :math:`w`. Power 1 is the words' own frequency, power 0
    draws every word that occurs equally often; 3/4 lies between.

    Parameters
    ----------
    counts : array of shape (V,)
        How often each word occurs, at least 0. A word that never occurs is never drawn.
    power : float
        The exponent :math:`\alpha`, at least 0.

    Returns
    -------
    ndarray of shape (V,)
        Probabilities in float64.

    Raises
    ------
    TypeError
        If ``counts`` are no numbers.
    ValueError
        If a count is negative or not finite, if all are 0, or if ``power`` is negative.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean (2013), "Distributed representations of words and
    phrases and their compositionality", section 2.2.

    Examples
    --------
    >>> noise_distribution([16, 1, 0]).round(3).tolist()  # 16 to the 3/4 is 8
    [0.889, 0.111, 0.0]
    """
    counts = _counts(counts)
    if not 0 <= power < np.inf:
        raise ValueError(f"power must be at least 0 and finite, got {power}")
    powers = np.where(counts > 0, (counts / counts.max()) ** power, 0.0)
    return powers / powers.sum()


def keep_probability(counts, sample=1e-3):
    r"""Give each word's probability to be kept when frequent words are thinned out.

    .. math:: \min\Bigl(1, \sqrt{t/f_w} + t/f_w\Bigr)

    with the word's share :math:`f_w` of the text and the threshold :math:`t`. This is what the
    word2vec program and gensim compute. The paper prints another formula, :math:`\sqrt{t/f_w}`
    (a word is left out with probability :math:`1 - \sqrt{t/f_w}`): there words thin out from
    :math:`f_w = t` on, here from :math:`2.6\,t` on.

    Parameters
    ----------
    counts : array of shape (V,)
        How often each word occurs, at least 0.
    sample : float
        The threshold :math:`t`, from 0 to 1; 0 keeps all words.

    Returns
    -------
    ndarray of shape (V,)
        Probabilities in float64.

    Raises
    ------
    TypeError
        If ``counts`` are no numbers.
    ValueError
        If a count is negative or not finite, if all are 0, or if ``sample`` is not in 0 to 1.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean (2013), "Distributed representations of words and
    phrases and their compositionality", equation 5, for the paper's formula.

    Examples
    --------
    >>> keep_probability([16, 1, 0], sample=1 / 17).tolist()  # 1/4 + 1/16
    [0.3125, 1.0, 1.0]
    """
    counts = _counts(counts)
    if not 0 <= sample <= 1:
        raise ValueError(f"sample must be between 0 and 1, got {sample}")
    keep = np.ones(len(counts))
    if sample:
        some = counts > 0
        ratio = sample * counts.sum() / counts[some]
        keep[some] = np.minimum(1.0, np.sqrt(ratio) + ratio)
    return keep


def subsample(sentences, keep, *, seed=0):
    """Leave words out at random, each with its own probability.

    It is done before windows are laid: what remains moves together, so that a window of the same
    size reaches further in the text.

    Parameters
    ----------
    sentences : list of id sequences, or one of them
        As for ``pairs``.
    keep : array of shape (V,)
        Each word's probability to be kept, as from ``keep_probability``.
    seed : int or numpy.random.Generator
        For the draws.

    Returns
    -------
    list of ndarray
        As many sentences as came in; some may be empty.

    Raises
    ------
    TypeError
        If the ids are no whole numbers.
    ValueError
        If an id is negative or has no entry in ``keep``, or one of these is not in 0 to 1.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean (2013), "Distributed representations of words and
    phrases and their compositionality", section 2.3.

    Examples
    --------
    >>> subsample([[0, 1, 0], [0, 2]], keep=[0.0, 1.0, 1.0], seed=0)
    [array([1]), array([2])]
    """
    ids, lengths = _flat(sentences)
    keep = as_array(keep).astype(np.float64)
    if keep.ndim != 1 or not ((keep >= 0) & (keep <= 1)).all():
        raise ValueError(f"keep must be (V,) with values between 0 and 1, got {keep!r:.80}")
    if len(ids) and ids.max() >= len(keep):
        raise ValueError(f"keep must have an entry for every id, got {len(keep)} for {ids.max()}")
    kept = as_generator(seed).random(len(ids)) < keep[ids]
    ends = np.concatenate([[0], np.cumsum(kept)])[np.cumsum(lengths)]
    return np.split(ids[kept], ends[:-1]) if len(lengths) else []


def _flat(sentences):
    """Return all ids in one array and the sentences' lengths."""
    if len(sentences) and np.ndim(sentences[0]) == 0:
        sentences = [sentences]  # one sentence alone; a word would be of no dimension too
    parts = [as_array(sentence) for sentence in sentences]
    for i, part in enumerate(parts):
        if part.size and part.dtype.kind not in "iu":
            raise TypeError(
                f"sentences must hold ids, whole numbers, got dtype {part.dtype} in sentence {i}; "
                "Vocabulary.encode turns words into ids"
            )
        if part.ndim != 1:
            raise ValueError(f"sentences must be one-dimensional, got {part.shape} as sentence {i}")
    full = [  # empty lists count as float, and -1 needs a sign
        part.astype(np.int64) if part.dtype.kind == "u" else part for part in parts if part.size
    ]
    ids = np.concatenate(full) if full else np.empty(0, np.int64)
    if len(ids) and ids.min() < 0:
        raise ValueError(f"ids must be at least 0, got {ids.min()}")
    return ids, np.array([part.size for part in parts], dtype=np.int64)


def _windows(ids, lengths, window, dynamic, seed):
    """Yield blocks of words, what stands around them, and where that is inside the window."""
    window = at_least("window", window, 1)
    reach = np.full(len(ids), window)
    if dynamic:
        reach = as_generator(seed).integers(1, window, len(ids), endpoint=True)
    width = min(window, max(lengths, default=1) - 1)
    offsets = np.concatenate([np.arange(-width, 0), np.arange(1, width + 1)])
    ends = np.repeat(np.cumsum(lengths), lengths)
    starts = ends - np.repeat(lengths, lengths)
    step = max(1, _BLOCK // max(1, 2 * width))
    for first in range(0, len(ids) if width > 0 else 0, step):
        block = slice(first, first + step)
        at = np.arange(len(ids))[block, None] + offsets
        inside = (at >= starts[block, None]) & (at < ends[block, None])
        inside &= np.abs(offsets) <= reach[block, None]
        yield ids[block], ids[np.where(inside, at, 0)], inside


def weights(name, values):
    """Return one number of at least 0 for each word, as float64."""
    values = as_array(values)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be numbers, got dtype {values.dtype}")
    values = values.astype(np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"{name} must be (V,), finite and at least 0, got {values!r:.80}")
    return values


def _counts(counts):
    """Return counts as float64, one at least above 0."""
    counts = weights("counts", counts)
    if not counts.any():
        raise ValueError(f"counts must hold at least one above 0, got {len(counts)} without")
    return counts
