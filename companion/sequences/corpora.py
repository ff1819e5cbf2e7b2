"""Real data without dates: news, pictures row by row, Shakespeare, chorales and folk tunes.

The first two come with dependencies; the others are downloaded by ``fetch``.
"""

import re

import numpy as np

from companion._checks import one_of
from companion.sequences.fetch import fetch
from companion.sequences.vocabulary import tokenise
from companion.sequences.windows import Split

__all__ = ["chorales", "digits", "news", "nottingham", "shakespeare"]

# a sentence ends at a stop, with a closing quote or bracket perhaps, before what may begin one;
# "Mr." and a name's initial end none
_END = re.compile(
    r"""(?:(?<=[.?!])|(?<=[.?!]["')]))(?<!\bMr\.)(?<!\bDr\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\b[A-Z]\.)"""
    r"""\s+(?=["'(]*[A-Z0-9])"""
)


def news(by="sentence"):
    """Load 300 news articles of 2001, cut into words.

    The Australian Broadcasting Corporation's news mail service, as gensim ships it: 59,890 words
    between spaces, a few more and the punctuation marks once ``tokenise`` has cut them. Sentences
    are found by rule (a stop, a space, a capital letter), so a few are cut wrongly.

    Parameters
    ----------
    by : {"sentence", "article"}
        What one list holds.

    Returns
    -------
    list of list of str
        The words of each sentence (or article), lower case, with punctuation as words of its own.

    Raises
    ------
    ValueError
        If ``by`` is neither.

    References
    ----------
    Lee, Pincombe and Welsh (2005), An empirical evaluation of models of text document
    similarity. Proceedings of the 27th annual conference of the Cognitive Science Society.

    Examples
    --------
    >>> sentences, articles = news(), news(by="article")
    >>> len(articles), sentences[1][:6]
    (300, ['a', 'new', 'blaze', 'near', 'goulburn', ','])
    """
    one_of("by", by, ("sentence", "article"))
    from gensim.test.utils import datapath  # gensim takes a second to load

    with open(datapath("lee_background.cor"), encoding="utf-8") as file:
        texts = [line.strip() for line in file]
    if by == "sentence":
        texts = [part for text in texts for part in _END.split(text)]
    return [tokenise(text) for text in texts]


def digits():
    """Load 1,797 pictures of handwritten digits as sequences of 8 rows.

    Returns
    -------
    images : ndarray of shape (8, 1797, 8), float64
        Row, picture, column: time first, from the top row down. Ink from 0 (none) to 1.
    labels : ndarray of shape (1797,), int64
        The digit that was written, 0 to 9.

    References
    ----------
    Alpaydin and Kaynak (1998), Optical recognition of handwritten digits. UCI machine learning
    repository; by way of ``sklearn.datasets``. Licence: CC BY 4.0.

    Examples
    --------
    >>> images, labels = digits()
    >>> images.shape, images.max().item(), labels[:3].tolist()
    ((8, 1797, 8), 1.0, [0, 1, 2])
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.ascontiguousarray(data.images.transpose(1, 0, 2)) / 16  # 16 is full ink
    return images, data.target.astype(np.int64)


def shakespeare():
    """Load 40,000 lines of Shakespeare's plays, 1,115,394 characters (``tinyshakespeare.txt``).

    Returns
    -------
    str
        The text: speakers' names, speeches and blank lines, as in the file. Its first 90 % are
        the usual training part.

    Raises
    ------
    ValueError, ConnectionError, OSError
        As from ``fetch``.

    References
    ----------
    Karpathy (2015), The unreasonable effectiveness of recurrent neural networks.

    Examples
    --------
    >>> shakespeare()[:14]  # doctest: +SKIP
    'First Citizen:'
    """
    return fetch("tinyshakespeare.txt").read_text(encoding="ascii")


def chorales():
    """Load 382 chorales that J. S. Bach harmonised, as piano rolls (``JSB_Chorales.mat``).

    Returns
    -------
    Split
        Lists of 229, 76 and 77 chorales for training, validation and test; each an ndarray of
        shape (T, 88), float32, 1 where a key of the piano is down, the lowest key first.

    Raises
    ------
    ValueError, ConnectionError, OSError
        As from ``fetch``.

    References
    ----------
    Boulanger-Lewandowski, Bengio and Vincent (2012), Modeling temporal dependencies in
    high-dimensional sequences, section 6. ICML.

    Examples
    --------
    >>> len(chorales().train), chorales().train[0].shape  # doctest: +SKIP
    (229, (129, 88))
    """
    return _piano_rolls("JSB_Chorales.mat")


def nottingham():
    """Load 1,037 folk tunes with chords, as piano rolls (``Nottingham.mat``).

    Returns
    -------
    Split
        Lists of 694, 173 and 170 tunes, as from ``chorales``.

    Raises
    ------
    ValueError, ConnectionError, OSError
        As from ``fetch``.

    References
    ----------
    Boulanger-Lewandowski, Bengio and Vincent (2012), Modeling temporal dependencies in
    high-dimensional sequences, section 6. ICML.

    Examples
    --------
    >>> len(nottingham().train), nottingham().train[0].shape  # doctest: +SKIP
    (694, (192, 88))
    """
    return _piano_rolls("Nottingham.mat")


def _piano_rolls(name):
    from scipy.io import loadmat

    parts = loadmat(fetch(name))
    return Split(*(
        [roll.astype(np.float32) for roll in parts[part][0]]
        for part in ("traindata", "validdata", "testdata")
    ))
