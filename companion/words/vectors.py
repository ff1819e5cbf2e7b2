"""Vectors with their words: who is near whom, analogies, scores, and word2vec's text format."""

import difflib
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from companion._arrays import as_array
from companion._checks import at_least
from companion._files import replacing

__all__ = ["AnalogyScore", "SimilarityScore", "WordVectors"]

_SPACES = frozenset(" \t\n\v\f\r")  # what separates words for the first program
_ROWS = 512  # questions scored in one go: bounds the memory beside the vectors


class SimilarityScore(NamedTuple):
    """How well cosines agree with people's judgements.

    Attributes
    ----------
    correlation : float
        Spearman's rank correlation over the pairs that could be scored; NaN where there is none:
        for fewer than two, or if all cosines or all judgements are equal.
    scored : int
        Pairs both of whose words have a direction.
    left_out : int
        Pairs with an unknown word or one whose vector is zero.
    """

    correlation: float
    scored: int
    left_out: int


class AnalogyScore(NamedTuple):
    """How many analogies were answered rightly.

    Attributes
    ----------
    accuracy : float
        Right answers out of those asked; NaN if none could be asked.
    asked : int
        Questions all of whose four words have a direction.
    left_out : int
        Questions with an unknown word or one whose vector is zero.
    """

    accuracy: float
    asked: int
    left_out: int


class WordVectors:
    r"""Ask a table of word vectors.

    Nearness is the cosine, the product of two vectors divided by their lengths:

    .. math:: \cos(v, w) = \frac{v \cdot w}{\lVert v \rVert \, \lVert w \rVert}

    A vector of zeros has no direction: its word is never found, and asking for its cosine is an
    error.

    Parameters
    ----------
    words : sequence of str
        The words, all different.
    matrix : array or tensor of shape (V, D)
        Their vectors, finite numbers; kept as float32.

    Attributes
    ----------
    words : tuple of str
        The words, in the order of the rows.
    vectors : ndarray of shape (V, D), float32
        The vectors, read-only.

    Raises
    ------
    TypeError
        If a word is no string or the vectors are no numbers.
    ValueError
        If there is no word, two are equal, the shapes do not fit, or a number is not finite.

    Examples
    --------
    >>> compass = WordVectors(["north", "east", "south"], [[0, 1], [1, 0], [0, -2]])
    >>> compass.most_similar("north", topn=2)
    [('east', 0.0), ('south', -1.0)]
    """

    def __init__(self, words, matrix):
        if isinstance(words, str):
            raise TypeError(f"words must be a list of strings, got the string {words[:40]!r}")
        self.words = tuple(words)
        wrong = [word for word in self.words if not isinstance(word, str)]
        if wrong:
            raise TypeError(f"words must be strings, got {wrong[0]!r:.80}")
        self._index = {word: i for i, word in enumerate(self.words)}
        if not self.words:
            raise ValueError("words must hold at least one, got none")
        if len(self._index) < len(self.words):
            twice = next(w for i, w in enumerate(self.words) if self._index[w] != i)
            raise ValueError(f"words must be all different, got {twice!r} twice")
        self.vectors = _matrix(matrix, len(self.words))
        norms = np.linalg.norm(self.vectors.astype(np.float64), axis=1, keepdims=True)
        self._directed = norms[:, 0] > 0
        self._directions = (self.vectors / np.where(norms > 0, norms, 1)).astype(np.float32)

    def __len__(self):
        return len(self.words)

    def __contains__(self, word):
        return word in self._index

    def __iter__(self):
        return iter(self.words)

    def __reduce__(self):  # so that a copy's vectors are read-only, too
        return type(self), (self.words, self.vectors)

    def __getitem__(self, word):
        return self.vectors[self._row(word)]

    def __repr__(self):
        return f"WordVectors of {len(self)} words, {self.vectors.shape[1]} numbers each"

    def similarity(self, first, second):
        """Give the cosine of two words' vectors.

        Parameters
        ----------
        first, second : str
            Words of the table.

        Returns
        -------
        float
            From -1 to 1.

        Raises
        ------
        KeyError
            If a word is unknown.
        ValueError
            If a word's vector is zero.
        """
        return float(np.clip(self._direction(first) @ self._direction(second), -1, 1))

    def most_similar(self, positive=(), negative=(), *, topn=10, include=False):
        r"""Find the words nearest to the sum of some directions, less others.

        Parameters
        ----------
        positive, negative : str or list of str
            Words whose directions (vectors of length one) are added, and taken away.
        topn : int
            How many words to return at most.
        include : bool
            Whether the words of the question may be answers, too. Libraries leave them out, else
            one of them usually wins.

        Returns
        -------
        list of tuple
            Pairs (word, cosine), the nearest first.

        Raises
        ------
        KeyError
            If a word is unknown.
        ValueError
            If no word is given, a word's vector is zero or the directions cancel out, or
            ``topn`` is below 1.
        """
        positive, negative = (_words_of(given) for given in (positive, negative))
        topn = at_least("topn", topn, 1)
        if not (positive or negative):
            raise ValueError("positive and negative must hold at least one word, got none")
        sought = sum(self._direction(word) for word in positive)
        sought = sought - sum(self._direction(word) for word in negative)
        length = np.linalg.norm(sought)
        if length < 1e-6:
            raise ValueError(f"{positive} less {negative} must have a direction, got zero")
        scores = self._directions @ (sought / length)
        allowed = self._directed.copy()
        if not include:
            allowed[[self._index[word] for word in positive + negative]] = False
        candidates = np.flatnonzero(allowed)
        if topn < len(candidates):  # the best alone need sorting
            candidates = candidates[np.argpartition(-scores[candidates], topn - 1)[:topn]]
        best = candidates[np.lexsort((candidates, -scores[candidates]))]
        return [(self.words[i], float(scores[i])) for i in best]

    def analogy(self, a, b, c, topn=1, *, include=False):
        r"""Answer "a is to b as c is to ...".

        .. math:: \arg\max_d \cos(\hat b - \hat a + \hat c, \; d)

        over words other than the three, with vectors of length one (known as 3CosAdd).

        Parameters
        ----------
        a, b, c : str
            Words of the table.
        topn : int
            How many answers to return at most.
        include : bool
            Whether *a*, *b* and *c* may be answers, too.

        Returns
        -------
        list of tuple
            Pairs (word, cosine), the best first.

        Raises
        ------
        KeyError, ValueError
            As ``most_similar`` does.

        References
        ----------
        Mikolov, Yih and Zweig (2013), "Linguistic regularities in continuous space word
        representations", section 4; Levy and Goldberg (2014), "Linguistic regularities in sparse
        and explicit word representations", equation 1.

        Examples
        --------
        >>> table = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0]]
        >>> people = WordVectors(["man", "king", "woman", "queen", "pawn"], table)
        >>> people.analogy("man", "king", "woman")[0][0]
        'queen'
        """
        return self.most_similar([b, c], [a], topn=topn, include=include)

    def evaluate_similarity(self, pairs):
        """Compare the cosines with people's judgements of similarity.

        Parameters
        ----------
        pairs : iterable of (str, str, number)
            Two words and how alike people found them, on any scale.

        Returns
        -------
        SimilarityScore
            Spearman's correlation, how many pairs it rests on and how many were left out.

        Examples
        --------
        >>> compass = WordVectors(["n", "e", "s"], [[0, 1], [1, 0.5], [0, -2]])
        >>> judged = [("n", "e", 5), ("n", "s", 0), ("e", "s", 3), ("n", "up", 7)]
        >>> score = compass.evaluate_similarity(judged)
        >>> round(score.correlation, 2), score.scored, score.left_out
        (1.0, 3, 1)
        """
        pairs = list(pairs)
        usable = [
            (self.similarity(first, second), float(judged))
            for first, second, judged in pairs
            if self._has_direction(first) and self._has_direction(second)
        ]
        correlation = float("nan")
        if len(usable) > 1:
            cosines, judgements = zip(*usable, strict=True)
            if len(set(cosines)) > 1 and len(set(judgements)) > 1:
                correlation = float(spearmanr(cosines, judgements).statistic)
        return SimilarityScore(correlation, len(usable), len(pairs) - len(usable))

    def evaluate_analogies(self, analogies, *, include=False):
        """Count how many analogies are answered rightly.

        Parameters
        ----------
        analogies : iterable of (str, str, str, str)
            Words a, b, c and the right answer d, which may stand after the kind of analogy.
        include : bool
            As for ``analogy``.

        Returns
        -------
        AnalogyScore
            The share of right answers, how many were asked and how many left out.

        Raises
        ------
        ValueError
            If a question is no such four or five.
        """
        analogies = [_question(analogy) for analogy in analogies]
        known = [q for q in analogies if all(self._has_direction(word) for word in q)]
        right = 0
        for first in range(0, len(known), _ROWS):
            rows = np.array([[self._index[w] for w in q] for q in known[first : first + _ROWS]])
            a, b, c = (self._directions[rows[:, k]] for k in range(3))
            scores = (b - a + c) @ self._directions.T
            scores[:, ~self._directed] = -np.inf
            if not include:
                np.put_along_axis(scores, rows[:, :3], -np.inf, axis=1)
            right += int((scores.argmax(1) == rows[:, 3]).sum())
        accuracy = right / len(known) if known else float("nan")
        return AnalogyScore(accuracy, len(known), len(analogies) - len(known))

    def save(self, path):
        """Write word2vec's text format, which gensim and others read; whole or not at all.

        The first line holds V and D, each other line a word and its D numbers, in UTF-8. Numbers
        are written so that float32 is read back exactly.

        Parameters
        ----------
        path : str or Path
            The file, in a folder that exists; a file of this name is replaced.

        Raises
        ------
        OSError
            If the file cannot be written; what was there before is still there.
        ValueError
            If a word is empty or holds a space or line end (the format cannot tell them from
            its own), or a lone surrogate.
        """
        for word in self.words:
            if not word or not _SPACES.isdisjoint(word):
                raise ValueError(
                    f"words must hold no space or line end and be not empty to be saved, "
                    f"got {word!r}"
                )
        size = self.vectors.shape[1]
        line = "%s" + size * " %.9g" + "\n"  # nine digits tell all numbers of float32 apart
        with replacing(path) as file:
            file.write(f"{len(self)} {size}\n".encode())
            for word, vector in zip(self.words, self.vectors, strict=True):
                file.write((line % (word, *vector.tolist())).encode())

    @classmethod
    def load(cls, path):
        """Read word2vec's text format, as ``save``, gensim and the first program write it.

        Each line must have its end, the last one too, or the file counts as cut off.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        WordVectors
            The words and vectors in the file's order.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If the file is no UTF-8 or not of this format, was cut off, or holds a word twice or
            a number that is not finite.
        """
        try:
            with open(path, encoding="utf-8", newline="\n") as file, np.errstate(over="ignore"):
                return cls(*_parsed(file))
        except ValueError as error:  # UnicodeDecodeError among them
            raise ValueError(
                f"path must be a file in word2vec's text format, got {str(path)!r}: {error}"
            ) from error

    def _row(self, word):
        if not isinstance(word, str):
            raise TypeError(f"a word must be a string, got {word!r:.80}")
        if word not in self._index:
            near = difflib.get_close_matches(word, self.words, n=3)
            hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            raise KeyError(f"the word {word!r} is not in the vocabulary of {len(self)}{hint}")
        return self._index[word]

    def _has_direction(self, word):
        return word in self._index and bool(self._directed[self._index[word]])

    def _direction(self, word):
        row = self._row(word)
        if not self._directed[row]:
            raise ValueError(f"the vector of {word!r} must have a direction, got zeros")
        return self._directions[row]


def _matrix(matrix, count):
    """Return a read-only copy in float32."""
    matrix = np.asarray(as_array(matrix))
    if matrix.dtype.kind not in "iuf":
        raise TypeError(f"matrix must hold real numbers, got dtype {matrix.dtype}")
    if matrix.ndim != 2 or len(matrix) != count or not matrix.shape[1]:
        raise ValueError(
            f"matrix must be (V, D) with V = {count} words and D at least 1, "
            f"got shape {matrix.shape}"
        )
    with np.errstate(over="ignore"):
        matrix = matrix.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(matrix).all(1))
    if len(bad):
        raise ValueError(f"matrix must be finite (float32), got NaN or infinity in row {bad[0]}")
    matrix.setflags(write=False)
    return matrix


def _question(analogy):
    """Return the four words of an analogy, without its kind."""
    words = () if isinstance(analogy, str) else tuple(analogy)
    if len(words) not in (4, 5):
        raise ValueError(
            f"analogies must be four words each, perhaps after their kind, got {analogy!r:.80}"
        )
    return words[-4:]


def _words_of(given):
    return [given] if isinstance(given, str) else list(given)


def _parsed(file):
    first = file.readline()
    header = first.split()
    if len(header) != 2 or not all(part.isdecimal() for part in header):
        raise ValueError(f"its first line must hold two whole numbers, got {first[:40]!r}")
    count, size = map(int, header)
    words, rows = [], []
    for number, line in enumerate(file, 2):
        word, *numbers = line.rstrip(" \n\r").split(" ")
        if len(words) == count:
            raise ValueError(f"it must end after {count} words, got another line")
        if len(numbers) != size or not line.endswith("\n"):
            raise ValueError(
                f"line {number} must hold a word, {size} numbers and a line end, got "
                f"{len(numbers)} numbers or no line end"
            )
        words.append(word)
        rows.append(np.array(list(map(float, numbers)), dtype=np.float32))
    if len(words) < count:
        raise ValueError(f"it must hold {count} words, got {len(words)}: cut off?")
    return words, np.array(rows, dtype=np.float32).reshape(len(rows), size)
