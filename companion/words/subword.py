"""Subwords: pieces of words, learned from text, of which any text can be built."""

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

from companion._arrays import as_whole_numbers
from companion._checks import at_least
from companion._files import replacing

__all__ = ["BytePairEncoding"]

# Every character belongs to one of the four kinds, so the pieces joined are the text again. A run
# of spaces before a word gives its last one away, so that " cat" is the same piece everywhere.
_PIECES = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?= \S)|\s+")

_BYTES = 256
_FORMAT = "companion byte-pair encoding 1"
_CACHED = 65536  # pieces whose ids are remembered; real text has few that are frequent
_CACHED_LENGTH = 100  # characters; longer pieces hardly ever return


class BytePairEncoding:
    r"""Tokens that are bytes and, learned from text, frequent runs of bytes.

    Learning starts with the 256 bytes of UTF-8 as tokens. Again and again, the most frequent pair
    of neighbouring tokens becomes a new token,

    .. math:: (a, b)^* = \arg\max_{(a, b)} \operatorname{count}(a\,b)

    and takes the pair's place wherever it stands, from left to right. Of pairs equally frequent
    the one with the smaller ids is taken, the left id compared first. Encoding repeats these
    merges in the order in which they were learned. As every text is bytes, no text is unknown, and
    decoding gives back exactly what was encoded.

    Merges stay inside pieces of the text: a run of letters, a run of digits, or a run of other
    signs, each with the one space before it if there is one, or a run of white space. "Letters"
    are what Python's ``\w`` matches, except decimal digits and ``_``.

    Parameters
    ----------
    merges : sequence of pairs of int
        Merge k joins two tokens of smaller ids into the token 256 + k. ``learn`` finds them.

    Attributes
    ----------
    merges : tuple of pairs of int
        As given.
    tokens : tuple of bytes
        What each id stands for; the first 256 are the single bytes.

    Raises
    ------
    TypeError
        If a merge is no pair of whole numbers; when called, if a text is no string or the ids are
        no whole numbers.
    ValueError
        If a merge names a token that does not exist yet or was made before; when called, if a
        text holds a lone surrogate, which is no Unicode text, or an id names no token.

    References
    ----------
    Sennrich, Haddow and Birch (2016), Neural machine translation of rare words with subword
    units, algorithm 1. Radford et al. (2019), Language models are unsupervised multitask
    learners, section 2.2, for bytes.

    Examples
    --------
    >>> encoding = BytePairEncoding.learn(["low lower lowest, slow slower"], vocab_size=259)
    >>> encoding.tokens[256:]
    (b'lo', b'low', b'lowe')
    >>> encoding.decode(encoding.encode("slowly, naïvely")) == "slowly, naïvely"
    True
    """

    def __init__(self, merges):
        tokens = [bytes([byte]) for byte in range(_BYTES)]
        self._made = {}  # pair -> the id it becomes; ids are in the order of learning
        for pair in merges:
            left, right = (at_least("merges", token, 0) for token in _pair(pair))
            if max(left, right) >= len(tokens):
                raise ValueError(
                    f"merges must join earlier tokens, below {len(tokens)}, got ({left}, {right})"
                )
            if (left, right) in self._made:
                raise ValueError(f"merges must name a pair once, got ({left}, {right}) again")
            self._made[left, right] = len(tokens)
            tokens.append(tokens[left] + tokens[right])
        self.merges = tuple(self._made)
        self.tokens = tuple(tokens)
        self._cache = {}

    def __reduce__(self):  # without the cache
        return type(self), (self.merges,)

    @classmethod
    def learn(cls, texts, vocab_size):
        """Find the merges in texts.

        The time grows with the number of distinct pieces (words, roughly) and hardly with the
        number of merges: pair counts are kept up to date, and a merge visits only the places where
        its pair stands. Memory grows with the bytes of the distinct pieces.

        Parameters
        ----------
        texts : iterable of str
            Read once, one text at a time. No merge crosses from one text to the next.
        vocab_size : int
            Tokens wanted, the 256 bytes included. There will be fewer if no pair is left that
            occurs twice.

        Returns
        -------
        BytePairEncoding
            With the merges found.

        Raises
        ------
        TypeError
            If ``texts`` is one string or holds something else than strings.
        ValueError
            If the texts hold no character or a lone surrogate, or ``vocab_size`` is below 256.

        Examples
        --------
        >>> len(BytePairEncoding.learn(["aaaa aaaa"], vocab_size=1000))
        258
        """
        vocab_size = at_least("vocab_size", vocab_size, _BYTES)
        pieces = _count_pieces(texts)
        return cls(_learn(pieces, vocab_size - _BYTES))

    def __len__(self):
        return len(self.tokens)

    def __repr__(self):
        return f"BytePairEncoding({len(self)} tokens, {len(self.merges)} merges)"

    def encode(self, text):
        """Turn a text into ids.

        Parameters
        ----------
        text : str
            Any Unicode text, the empty one included.

        Returns
        -------
        ndarray of int64, shape (T,)
            At most one id a byte.

        Raises
        ------
        TypeError, ValueError
            If ``text`` is no string, or holds a lone surrogate.
        """
        _check_text("text", text)
        ids, cache = [], self._cache
        for piece in _PIECES.findall(text):
            known = cache.get(piece)
            if known is None:
                known = self._merge(list(piece.encode()))
                if len(piece) <= _CACHED_LENGTH:
                    if len(cache) >= _CACHED:
                        cache.clear()
                    cache[piece] = known
            ids += known
        return np.array(ids, dtype=np.int64)

    def decode(self, ids):
        """Turn ids into the text they stand for.

        Parameters
        ----------
        ids : sequence, array or tensor of int, shape (T,)
            As from ``encode``, or chosen by a model.

        Returns
        -------
        str
            The text. Bytes that form no character, which ``encode`` never gives but a model may,
            become the sign U+FFFD.

        Raises
        ------
        TypeError, ValueError
            If the ids are no whole numbers, not (T,), or one names no token.
        """
        ids = as_whole_numbers("ids", ids)
        if ids.ndim != 1:
            raise ValueError(f"ids must be (T,), got shape {ids.shape}")
        outside = (ids < 0) | (ids >= len(self))
        if outside.any():
            raise ValueError(
                f"ids must be from 0 to {len(self) - 1}, the last token, got {ids[outside][0]}"
            )
        tokens = self.tokens
        return b"".join([tokens[i] for i in ids.tolist()]).decode(errors="replace")

    def save(self, path):
        """Write the merges to a JSON file, whole or not at all.

        Parameters
        ----------
        path : str or Path
            The file, in a folder that exists; a file of this name is replaced.

        Raises
        ------
        OSError
            If the file cannot be written; what was there before is still there.
        """
        with replacing(path) as file:
            file.write(json.dumps({"format": _FORMAT, "merges": self.merges}).encode())

    @classmethod
    def load(cls, path):
        """Read what ``save`` wrote.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        BytePairEncoding
            With the merges of the one saved.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it holds something else, or not all of it.
        """
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            if stored["format"] != _FORMAT or not isinstance(stored["merges"], list):
                raise ValueError(f"its format is {stored['format']!r}")
            return cls(stored["merges"])
        except (KeyError, TypeError, ValueError, RecursionError) as error:  # also what is no JSON
            raise ValueError(
                f"path must be a file written by BytePairEncoding.save, got {str(path)!r}: {error}"
            ) from error

    def _merge(self, symbols):
        """Apply the merges to one piece: the earliest learned first, from left to right.

        A heap instead of a search for each merge, so that a piece of a million letters (a genome,
        a text without spaces) takes seconds, too.
        """
        made, chain = self._made, _Chain(symbols)
        heap = [(made[pair], at) for at, pair in enumerate(pairwise(symbols)) if pair in made]
        heapq.heapify(heap)
        while heap:
            token, at = heapq.heappop(heap)
            if made.get(chain.pair(at)) != token:  # one of the two was merged with another
                continue
            for place in chain.join(at, token):
                new = made.get(chain.pair(place))
                if new is not None:
                    heapq.heappush(heap, (new, place))
        return [symbol for symbol in symbols if symbol is not None]


class _Chain:
    """Symbols in a row of which two neighbours can become one, without moving the others.

    A symbol that was absorbed by its left neighbour is None.
    """

    def __init__(self, symbols, ends=()):
        count = len(symbols)
        self.symbols = symbols
        self.right = [*range(1, count), None] if count else []
        self.left = [None, *range(count - 1)] if count else []
        for end in ends:  # no pair goes across
            self.right[end], self.left[end + 1] = None, None

    def pair(self, at):
        """The symbol and its right neighbour, None where there is none."""
        right = self.right[at]
        return self.symbols[at], None if right is None else self.symbols[right]

    def join(self, at, symbol):
        """Make ``symbol`` of the pair at ``at``; return the places where a new pair begins."""
        gone = self.right[at]
        after, before = self.right[gone], self.left[at]
        self.symbols[at], self.symbols[gone] = symbol, None
        self.right[at], self.right[gone] = after, None
        if after is not None:
            self.left[after] = at
        return [before] * (before is not None) + [at] * (after is not None)

    def around(self, at):
        """The places where the pairs begin that a join at ``at`` removes."""
        places = (self.left[at], at, self.right[at])
        return [place for place in places if place is not None and self.right[place] is not None]


def _learn(pieces, wanted):
    """Find ``wanted`` merges in {piece: count}, or as many as there are."""
    symbols, weights, ends = [], [], []
    for piece, count in pieces.items():
        raw = piece.encode()
        symbols += raw
        weights += [count] * len(raw)
        ends.append(len(symbols) - 1)
    chain = _Chain(symbols, ends[:-1])

    counts, places = Counter(), defaultdict(list)
    for at, weight in enumerate(weights):
        pair = chain.pair(at)
        if pair[1] is not None:
            counts[pair] += weight
            places[pair].append(at)
    # After the round in which its younger symbol is made, a pair's count can only fall. So what
    # the heap holds is never too small, and is put right when it comes to the top.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges = []
    while heap and len(merges) < wanted:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:
            heapq.heappush(heap, (-counts[pair], pair))
            continue
        if -count < 2:
            break
        token = _BYTES + len(merges)
        merges.append(pair)
        new = set()
        for at in places.pop(pair):  # from left to right: a pair's places arise in that order
            if chain.pair(at) != pair:  # gone, with a pair merged earlier or just now
                continue
            weight = weights[at]
            for place in chain.around(at):
                counts[chain.pair(place)] -= weight
            for place in chain.join(at, token):
                counts[chain.pair(place)] += weight
                places[chain.pair(place)].append(place)
                new.add(chain.pair(place))
        for pair in new:
            heapq.heappush(heap, (-counts[pair], pair))
    return merges


def _count_pieces(texts):
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"texts must be an iterable of strings, got {type(texts).__name__}")
    pieces = Counter()
    for text in texts:
        _check_text("texts", text)
        pieces.update(_PIECES.findall(text))
    if not pieces:
        raise ValueError("texts must hold at least one character, got none")
    return pieces


def _check_text(name, text):
    if not isinstance(text, str):
        raise TypeError(f"{name} must be text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        lone = text[error.start]
        raise ValueError(
            f"{name} must be Unicode text, got the lone surrogate {lone!r} at index {error.start}"
        ) from None


def _pair(pair):
    try:
        left, right = pair
    except (TypeError, ValueError):
        raise TypeError(f"merges must be pairs of ids, got {pair!r}") from None
    return left, right
