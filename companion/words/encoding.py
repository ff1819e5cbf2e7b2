"""Words and texts as vectors without any learning: one-hot, bag of words, tf-idf."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from companion._arrays import as_whole_numbers
from companion._checks import at_least

__all__ = ["TfIdf", "bag_of_words", "one_hot"]


def one_hot(ids, size, dtype=np.float64):
    r"""Turn each id into a vector that is 1 at the id's place and 0 elsewhere.

    .. math:: (e_i)_v = 1 \text{ if } v = i, \text{ else } 0

    Parameters
    ----------
    ids : int, array or tensor of int, any shape (...)
        From 0 to V - 1.
    size : int
        V, the number of words.
    dtype
        NumPy dtype of the result.

    Returns
    -------
    ndarray of shape (..., V)
        As many ones as there are ids. It takes V numbers an id; an embedding table needs none.

    Raises
    ------
    TypeError
        If the ids are no whole numbers.
    ValueError
        If an id is outside 0 to V - 1, or V is below 1.

    Examples
    --------
    >>> one_hot([2, 0], size=3)
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    size = at_least("size", size, 1)
    ids = as_whole_numbers("ids", ids)
    outside = (ids < 0) | (ids >= size)
    if outside.any():
        raise ValueError(f"ids must be from 0 to size - 1 = {size - 1}, got {ids[outside][0]}")
    vectors = np.zeros((ids.size, size), dtype)
    vectors[np.arange(ids.size), ids.reshape(-1)] = 1
    return vectors.reshape(*ids.shape, size)


def bag_of_words(sentences, vocabulary):
    r"""Count the words of each sentence; their order is lost.

    .. math:: b = \sum_{t=1}^{T} e_{i_t}

    The bag of a sentence is the sum of its words' one-hot vectors.

    Parameters
    ----------
    sentences : iterable of lists of str
        The words of each sentence or text, as ``companion.sequences.tokenise`` gives them.
    vocabulary : Vocabulary
        Of V words. It says what becomes of an unknown word: it counts as the unknown symbol, or
        is an error.

    Returns
    -------
    scipy.sparse.csr_array of shape (N, V), int64
        A row for each sentence, stored without the zeros, since almost all entries are zero.
        ``toarray()`` writes them out.

    Raises
    ------
    TypeError
        If a sentence is one string and not a list of words.
    ValueError
        If there is no sentence, or a word is unknown and the vocabulary has no symbol for it.

    References
    ----------
    Manning, Raghavan and Schütze (2008), Introduction to Information Retrieval, section 6.2.

    Examples
    --------
    >>> from companion.sequences import Vocabulary
    >>> sentences = [["we", "like", "it", "do", "we"], ["do", "it"]]
    >>> vocabulary = Vocabulary(sentences, unknown=None, padding=None, start=None, end=None)
    >>> vocabulary.words, bag_of_words(sentences, vocabulary).toarray().tolist()
    (('do', 'it', 'we', 'like'), [[1, 1, 2, 1], [1, 1, 0, 0]])
    """
    rows = [vocabulary.encode(sentence) for sentence in sentences]
    if not rows:
        raise ValueError("sentences must hold at least one sentence, got none")
    ends = np.cumsum([0] + [len(row) for row in rows])
    ids = np.concatenate(rows)
    ones = np.ones(len(ids), dtype=np.int64)
    narrow = sparse.get_index_dtype(maxval=max(len(ids), len(vocabulary)))  # others ask for it
    ids, ends = ids.astype(narrow), ends.astype(narrow)
    counts = sparse.csr_array((ones, ids, ends), shape=(len(rows), len(vocabulary)))
    counts.sum_duplicates()
    return counts


@dataclass(frozen=True, eq=False)
class TfIdf:
    r"""Weigh counts by how rare a word is among the documents, then make rows of length 1.

    .. math:: \mathrm{idf}_v = \ln\frac{1 + N}{1 + n_v} + 1, \qquad
        x_{d v} = \frac{c_{d v}\, \mathrm{idf}_v}{\lVert c_d \odot \mathrm{idf} \rVert_2}

    with :math:`c_{dv}` the count of word :math:`v` in document :math:`d`, and :math:`n_v` of the
    :math:`N` documents holding the word. The ones beside :math:`N` and :math:`n_v` act as one more
    document that holds every word, so nothing is divided by zero. These are the defaults of
    scikit-learn's ``TfidfTransformer``.

    Attributes
    ----------
    idf : ndarray of shape (V,)
        The weight of each word: 1 for a word in every document, more for rarer ones.
    sublinear : bool
        Whether a count c acts as 1 + ln c.

    References
    ----------
    Spärck Jones (1972), Journal of Documentation 28, pages 11 to 21.

    Examples
    --------
    >>> weights = TfIdf.fit([[1, 1], [1, 0], [2, 0]])
    >>> weights.idf.round(3).tolist()
    [1.0, 1.693]
    >>> weights.transform([[1, 1]]).toarray().round(3).tolist()
    [[0.509, 0.861]]
    """

    idf: np.ndarray
    sublinear: bool = False

    @classmethod
    def fit(cls, counts, sublinear=False):
        """Measure in how many documents each word occurs.

        Parameters
        ----------
        counts : array or sparse array of shape (N, V)
            A bag of words for each document.
        sublinear : bool
            Whether ``transform`` takes 1 + ln c for a count c above 0.

        Returns
        -------
        TfIdf
            With the weights of these documents.

        Raises
        ------
        TypeError
            If the counts are no real numbers.
        ValueError
            If they are not (N, V) with N and V at least 1, or one is negative or not finite.
        """
        counts = _counts(counts)
        documents = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.log((1 + counts.shape[0]) / (1 + documents)) + 1
        return cls(idf, bool(sublinear))

    def transform(self, counts):
        """Weigh and scale counts.

        Parameters
        ----------
        counts : array or sparse array of shape (N, V)
            Bags of words, which need not be those of ``fit``.

        Returns
        -------
        scipy.sparse.csr_array of shape (N, V), float64
            Each row of length 1, or zero where the document holds no word.

        Raises
        ------
        TypeError, ValueError
            As ``fit`` does, and if there are not V columns.
        """
        counts = _counts(counts)
        if counts.shape[1] != len(self.idf):
            raise ValueError(f"counts must be (N, {len(self.idf)}), got shape {counts.shape}")
        if self.sublinear:
            counts.data = 1 + np.log(counts.data)
        counts.data *= self.idf[counts.indices]
        lengths = np.sqrt((counts * counts).sum(axis=1))
        lengths[lengths == 0] = 1  # as 1 + ln c may be, or the square of a tiny number
        counts.data /= np.repeat(lengths, np.diff(counts.indptr))
        return counts


def _counts(counts):
    """Return a copy as CSR in float64 with each stored entry above zero, once."""
    counts = sparse.csr_array(counts)
    if counts.dtype.kind not in "biuf":
        raise TypeError(f"counts must be real numbers, got dtype {counts.dtype}")
    if counts.ndim != 2 or 0 in counts.shape:
        raise ValueError(f"counts must be (N, V), N and V at least 1, got shape {counts.shape}")
    counts = counts.astype(np.float64, copy=True)
    counts.sum_duplicates()
    wrong = counts.data[~(np.isfinite(counts.data) & (counts.data >= 0))]
    if len(wrong):
        raise ValueError(f"counts must be finite and at least 0, got {wrong[0]}")
    counts.eliminate_zeros()
    return counts
