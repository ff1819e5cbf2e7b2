"""From text to words or characters, and from these to whole numbers and back."""

import json
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

import numpy as np

from companion._arrays import as_numbers, as_whole_numbers
from companion._checks import at_least
from companion._files import replacing

__all__ = ["Characters", "Vocabulary", "tokenise"]

# what has no width of its own: accents, vowel signs and the joiners of Persian and Hindi
_MARKS = "\u200c\u200d" + "".join(
    chr(code)
    for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))  # there are none elsewhere
    if unicodedata.category(chr(code)).startswith("M")
)
_MARKED = rf"(?![\x00-\u02ff])[{_MARKS}]+"  # the look ahead is quick for plain text
TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)+"  # 3.14 and 1,000 and 12:30 stay whole
    rf"|\w+(?:['’]\w+|{_MARKED}\w*)*"  # words, don't among them
    rf"|[^\w\s](?:{_MARKED})?"  # any other sign stands alone
)
FORMAT = "companion vocabulary 1"
SPECIALS = ("padding", "unknown", "start", "end")  # in the order of their ids


def tokenise(text):
    """Split a text into lower-case words and single punctuation marks.

    Words are runs of letters, digits and underscores, with apostrophes inside them; numbers keep
    the points, commas and colons between their digits. Accents, vowel signs and zero-width joiners
    belong to the letter or sign before them. Spaces, line ends and soft hyphens vanish.
    Meant for scripts that put spaces between words. A letter is first composed with its accent
    (Unicode's form NFC), so that one word has one spelling.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    list of str
        The tokens, in order.

    Raises
    ------
    TypeError
        If ``text`` is no string.

    Examples
    --------
    >>> tokenise("Don't go: it's 12,000 steps!")
    ["don't", 'go', ':', "it's", '12,000', 'steps', '!']
    """
    text = _text(text).replace("\u00ad", "").lower()
    return TOKEN.findall(unicodedata.normalize("NFC", text))


class Characters:
    """Number the characters of a text, in the order of Unicode.

    Nothing is changed: no letter is made small, none composed with its accent, line ends and
    spaces are characters like any other. So decoding gives back exactly what was encoded.

    Parameters
    ----------
    text : str
        Every character that occurs in it gets an id, from 0. To make the same numbering again
        later, keep ``"".join(characters.symbols)``, a text too.
    unknown : str, optional
        One character that stands for those that do not occur; it gets an id like the others.
        Without it they are an error.

    Attributes
    ----------
    symbols : tuple of str
        The character of each id.
    unknown : str or None
        As given.

    Raises
    ------
    TypeError
        If ``text`` is no string, or ``unknown`` neither one nor None.
    ValueError
        If ``text`` is empty, or ``unknown`` is not a single character.

    Examples
    --------
    >>> characters = Characters("hello, world")
    >>> len(characters), characters.encode("hello").tolist()
    (9, [4, 3, 5, 5, 6])
    >>> characters.decode([4, 6, 5, 3])
    'hole'
    """

    def __init__(self, text, unknown=None):
        found = set(_text(text))
        if not found:
            raise ValueError("text must hold at least one character, got ''")
        if unknown is not None:
            if not isinstance(unknown, str):
                raise TypeError(f"unknown must be a string or None, got {unknown!r:.80}")
            if len(unknown) != 1:
                raise ValueError(f"unknown must be a single character, got {unknown!r:.80}")
            found.add(unknown)
        self.symbols = tuple(sorted(found))
        self.unknown = unknown
        self._codes = np.array(list(map(ord, self.symbols)))

    def __len__(self):
        return len(self.symbols)

    def __contains__(self, character):
        return character in self.symbols

    def __repr__(self):
        shown = "".join(self.symbols[:40])
        return f"Characters, {len(self)}: {shown!r}{' ...' if len(self) > 40 else ''}"

    def encode(self, text):
        """Turn a text into ids.

        Parameters
        ----------
        text : str
            Any length, the empty text included.

        Returns
        -------
        ndarray of shape (T,), int64
            One id a character.

        Raises
        ------
        TypeError
            If ``text`` is no string.
        ValueError
            If a character has no id and there is no unknown one.
        """
        # four bytes a character, half a surrogate pair included
        codes = np.frombuffer(_text(text).encode("utf-32-le", "surrogatepass"), "<u4")
        ids = np.minimum(self._codes.searchsorted(codes), len(self) - 1)
        missing = np.flatnonzero(self._codes[ids] != codes)
        if len(missing):
            if self.unknown is None:
                raise ValueError(
                    f"text must hold no other characters than the {len(self)} known ones, "
                    f"got {text[missing[0]]!r} at index {missing[0]}"
                )
            ids[missing] = self.symbols.index(self.unknown)
        return ids

    def decode(self, ids):
        """Turn ids into the text they stand for.

        Parameters
        ----------
        ids : array or tensor of int, shape (T,)
            From 0 to ``len(characters) - 1``.

        Returns
        -------
        str
            The text.

        Raises
        ------
        TypeError
            If the ids are no whole numbers.
        ValueError
            If an id has no character or is masked, or the shape is another.
        """
        return "".join(_looked_up(self.symbols, ids))


class Vocabulary:
    """Number the words of a corpus: special symbols first, then by falling count.

    Ids run from 0: padding, unknown, start, end (those that are not None, in this order), then
    the words, the most frequent first, words of equal count in alphabetical order.

    A word of the corpus that reads like the unknown, start or end symbol **is** that symbol and
    adds to its count, so a corpus that has been marked before keeps its marks. One that reads
    like the padding is refused, since masks would hide it.

    Parameters
    ----------
    sentences : iterable of lists of str
        The corpus, read once, so a generator will do. For a vocabulary of letters give
        ``[list(text)]``.
    min_count : int
        Words that occur less often are left out.
    max_size : int, optional
        Keep at most so many words, the most frequent; special symbols are not counted.
    unknown, padding, start, end : str or None
        The special symbols. Without an unknown symbol, asking for a word left out is an error.

    Attributes
    ----------
    words : tuple of str
        The word of each id, special symbols included.
    counts : ndarray of shape (V,), int64
        How often each occurred, read-only. What was left out counts as the unknown symbol.
    unknown : str or None
        As given; ``padding``, ``start`` and ``end`` alike.

    Raises
    ------
    TypeError
        If ``sentences`` or one of them is a string (which would become letters) or no list, a
        word is no string, a special symbol neither string nor None, or a size no whole number.
    ValueError
        If the corpus is empty or none of its words is kept, two special symbols are equal or one
        is empty, the padding occurs in the corpus, or a size is below 1.

    Examples
    --------
    >>> vocabulary = Vocabulary([["the", "cat", "sat"], ["the", "dog"]], start=None, end=None)
    >>> vocabulary.words
    ('<pad>', '<unk>', 'the', 'cat', 'dog', 'sat')
    >>> vocabulary.decode(vocabulary.encode(["the", "bird", "sat"]))
    ['the', '<unk>', 'sat']
    """

    def __init__(
        self,
        sentences,
        *,
        min_count=1,
        max_size=None,
        unknown="<unk>",
        padding="<pad>",
        start="<s>",
        end="</s>",
    ):
        min_count = at_least("min_count", min_count, 1)
        max_size = None if max_size is None else at_least("max_size", max_size, 1)
        specials = _specials(padding=padding, unknown=unknown, start=start, end=end)
        counted = _count(sentences)
        if padding in counted:
            raise ValueError(
                f"sentences must not hold the padding {padding!r}, got it {counted[padding]} times"
            )
        total = counted.total()
        marked = {symbol: counted.pop(symbol, 0) for symbol in specials.values() if symbol}
        kept = [item for item in counted.items() if item[1] >= min_count]
        if not kept:
            raise ValueError(
                f"sentences must hold a word that occurs at least min_count = {min_count} times, "
                f"got {total} words, special symbols included"
            )
        kept = sorted(kept, key=lambda item: (-item[1], item[0]))[:max_size]
        if unknown is not None:
            marked[unknown] += counted.total() - sum(count for _, count in kept)
        self._set(specials, [*marked.items(), *kept])

    def _set(self, specials, counted):
        for name, symbol in specials.items():
            setattr(self, name, symbol)
        self.words = tuple(word for word, _ in counted)
        self.counts = np.array([count for _, count in counted], dtype=np.int64)
        self.counts.setflags(write=False)
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self):
        return len(self.words)

    def __contains__(self, word):
        return word in self._ids

    def __repr__(self):
        shown = ", ".join(map(repr, self.words[:8]))
        return f"Vocabulary of {len(self)}: {shown}{', ...' if len(self) > 8 else ''}"

    def index(self, word):
        """Give a word's id.

        Parameters
        ----------
        word : str
            Any word.

        Returns
        -------
        int
            Its id, or the unknown symbol's.

        Raises
        ------
        TypeError
            If ``word`` is no string.
        ValueError
            If the word is not in the vocabulary and there is no unknown symbol.
        """
        return int(self.encode([word])[0])

    def word(self, i):
        """Give the word of an id.

        Parameters
        ----------
        i : int
            From 0 to ``len(vocabulary) - 1``.

        Returns
        -------
        str
            The word.

        Raises
        ------
        TypeError
            If ``i`` is no whole number.
        ValueError
            If no word has this id.
        """
        return self.decode([i])[0]

    def encode(self, words):
        """Turn words into ids.

        Parameters
        ----------
        words : iterable of str
            One sentence, or a whole text as one list; start and end are not added.

        Returns
        -------
        ndarray of shape (N,), int64
            The ids, the unknown symbol's for words that are not in the vocabulary.

        Raises
        ------
        TypeError
            If ``words`` is a string (which would become letters), no list, or holds anything but
            strings.
        ValueError
            If a word is not in the vocabulary and there is no unknown symbol.
        """
        words = _words("words", words)
        try:
            found = map(self._ids.get, words, repeat(-1))
            ids = np.fromiter(found, dtype=np.int64, count=len(words))
        except TypeError as error:  # unhashable: a list of sentences
            raise TypeError(f"words must be strings, got lists or alike: {error}") from error
        missing = np.flatnonzero(ids < 0)
        for i in missing:
            _string(words[i])
        if len(missing) and self.unknown is None:
            raise ValueError(
                "words must be in the vocabulary, which has no unknown symbol, "
                f"got {words[missing[0]]!r}"
            )
        ids[missing] = self._ids.get(self.unknown, -1)
        return ids

    def decode(self, ids):
        """Turn ids into words; special symbols are words like any other.

        Parameters
        ----------
        ids : array or tensor of int, shape (N,)
            From 0 to ``len(vocabulary) - 1``.

        Returns
        -------
        list of str
            The words.

        Raises
        ------
        TypeError
            If the ids are no whole numbers.
        ValueError
            If an id has no word or is masked, or the shape is another.
        """
        return _looked_up(self.words, ids)

    def save(self, path):
        """Write the vocabulary to a file of JSON in UTF-8, whole or not at all.

        Parameters
        ----------
        path : str or Path
            The file, in a folder that exists; a file of this name is replaced.

        Raises
        ------
        OSError
            If the file cannot be written; what was there before is still there.
        ValueError
            If a word holds half a surrogate pair, which UTF-8 has no way to write.
        """
        content = {
            "format": FORMAT,
            "specials": {name: getattr(self, name) for name in SPECIALS},
            "words": self.words,
            "counts": self.counts.tolist(),
        }
        with replacing(path) as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=0).encode())

    @classmethod
    def load(cls, path):
        """Read a vocabulary that ``save`` has written.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        Vocabulary
            Equal in words, counts and special symbols.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it holds anything else, or was cut off.
        """
        try:
            content = json.loads(Path(path).read_bytes().decode())
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            specials, words, counts = (content[key] for key in ("specials", "words", "counts"))
            specials = _specials(**{name: specials[name] for name in SPECIALS})
            symbols = [symbol for symbol in specials.values() if symbol]
            if words[: len(symbols)] != symbols:
                raise ValueError("its special symbols do not come first")
            if len(set(map(_string, words))) != len(words) or len(words) != len(counts):
                raise ValueError("its words are not distinct, or not as many as its counts")
            counts = [at_least("a count", count, 0) for count in counts]
            vocabulary = cls.__new__(cls)
            vocabulary._set(specials, list(zip(words, counts, strict=True)))
        # also what is no JSON or no UTF-8, too great a count, too deep a list
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"path must be a file written by Vocabulary.save, got {str(path)!r}: {error}"
            ) from error
        return vocabulary


def _specials(**symbols):
    """Return the special symbols in the order of their ids."""
    for name, symbol in symbols.items():
        if symbol is not None and not isinstance(symbol, str):
            raise TypeError(f"{name} must be a string or None, got {symbol!r}")
        if symbol == "":
            raise ValueError(f"{name} must be a string of at least one letter, got ''")
    given = [symbol for symbol in symbols.values() if symbol is not None]
    if len(set(given)) < len(given):
        raise ValueError(f"special symbols must differ, got {', '.join(map(repr, given))}")
    return {name: symbols[name] for name in SPECIALS}


def _count(sentences):
    """Count the words, holding no more than the distinct ones."""
    counted = Counter()
    for sentence in _sentences(sentences):
        try:
            counted.update(_words("a sentence", sentence))
        except TypeError as error:
            raise TypeError(f"sentences must be lists of words (strings): {error}") from error
    if not counted:
        raise ValueError("sentences must hold at least one word, got none")
    for word in counted:
        _string(word)
    return counted


def _sentences(sentences):
    if isinstance(sentences, (str, bytes)):
        raise TypeError(
            "sentences must be lists of words, got a string, which would become letters; "
            "use [tokenise(text)] for words or [list(text)] for letters"
        )
    if not isinstance(sentences, Iterable):
        raise TypeError(f"sentences must be lists of words, got {reprlib.repr(sentences)}")
    return sentences


def _words(name, words):
    if isinstance(words, (list, tuple)):
        return words
    if isinstance(words, (str, bytes)):
        raise TypeError(f"{name} must be a list of words, got the string {words[:40]!r}")
    if not isinstance(words, Iterable):
        raise TypeError(f"{name} must be a list of words, got {reprlib.repr(words)}")
    return list(words)


def _string(word):
    if not isinstance(word, str):
        raise TypeError(f"a word must be a string, got {word!r}")
    return word


def _looked_up(symbols, ids):
    """What each id stands for, as a list."""
    ids = as_whole_numbers("ids", as_numbers("ids", ids))
    if ids.ndim != 1:
        raise ValueError(f"ids must have shape (N,), got shape {ids.shape}")
    if not ids.size:
        return []
    if ids.min() < 0 or ids.max() >= len(symbols):
        raise ValueError(
            f"ids must lie from 0 to {len(symbols) - 1}, got {ids.min()} to {ids.max()}"
        )
    return [symbols[i] for i in ids.tolist()]


def _text(text):
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    return text
