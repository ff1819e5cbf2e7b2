"""Word2Vec at the speed of matrix products: negatives shared by a block, gradients by hand.

How the time is saved, and what it changes:

- Neighbouring words share their contexts, so 16 words in a row are one *block*: its scores are one
  small matrix product, and so are both gradients. A mask leaves the pairs inside the windows.
- All words of a block share one set of negatives, as many as a single word would draw for its
  whole window. Each counts in proportion to the word's number of pairs, so the expected gradient
  is that of negatives drawn pair by pair; the draws of neighbouring words are no longer
  independent.
- Several blocks, from far-apart places, make a step, and a row that occurs more than once gets
  the sum of its updates. For a frequent word such a sum can overshoot, the more so the smaller the
  vocabulary: a row that is updated often moves by a quarter at most in a step.
- Subsampling, windows and negatives are drawn by NumPy in a second thread while torch computes.
- A negative that happens to be the target itself is not drawn again.
- Windows do not reach across the places, every 65,536 words, where the text is cut into pieces.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, bmm

import companion
from companion._checks import at_least, one_of, real
from companion.sequences.vocabulary import Vocabulary
from companion.words.context import keep_probability, noise_distribution
from companion.words.vectors import WordVectors

__all__ = ["Word2Vec"]

_BLOCK = 16  # words in a row that share their negatives
_BUSY = 16  # updates of a row in a step from which it is watched
_FARTHEST = 0.25  # that such a row moves in a step
_WIDEST = 5000  # window: a product of a block with its surroundings grows with its square
_PIECE = 2**16  # words of the text that are prepared in one go
_LOSS_EVERY = 8  # the loss is taken at every eighth step: it costs as much as the scores


class Word2Vec:
    r"""Learn a vector for each word from the words beside it, by negative sampling.

    Skip-gram (``sg=1``) lowers, for each word :math:`w` and each word :math:`c` of its window,

    .. math:: L = -\log \sigma(v_w \cdot u_c) - \sum_{j=1}^{k} \log \sigma(-v_w \cdot u_{n_j}),
              \qquad n_j \sim q,

    and CBOW (``sg=0``) the same once for each word, with the mean of its window's :math:`v_c` in
    place of :math:`v_w` and :math:`u_w` in place of :math:`u_c`. Names and defaults are gensim's.

    Negatives are shared by blocks of 16 words, which leaves the expected gradient as it is and
    turns the work into matrix products. On the CPU the same seed gives the same vectors, whatever
    else the machine does; two threads are at work, and ``torch.set_num_threads`` adds to torch's.

    Parameters
    ----------
    vector_size : int
        Numbers in a vector, D.
    window : int
        Words to each side that count as context at most; each word draws from 1 to this.
    min_count : int
        Rarer words are dropped before windows are laid.
    negative : int
        Negatives for each positive, k.
    ns_exponent : float
        Power of the counts in the noise distribution q, at least 0.
    sg : {0, 1}
        1 for skip-gram, 0 for CBOW.
    sample : float
        Threshold from which frequent words are thinned out; 0 for never.
    alpha, min_alpha : float
        Learning rate at the beginning and at the end; it falls in a straight line.
    epochs : int
        Passes over the text.
    seed : int
        Seed of all that is drawn.
    cbow_mean : {0, 1}
        Mean (1) or sum (0) of the context. As in word2vec and gensim the two have their updates
        swapped: with the mean every context word takes the whole gradient of the mean, not its
        share; with the sum it takes a share.
    batch : int
        Words in a step, rounded up to blocks. All updates of a word in a step are computed from
        the same vectors and added up, so larger steps are faster and coarser.
    device : torch.device or str, optional
        Where to train; ``companion.device()`` by default.

    Attributes
    ----------
    wv : WordVectors
        The learned vectors, with all that can be asked of them.
    loss : list of float
        For each epoch the mean loss of a pair (of a word for CBOW) in nats, taken at every
        eighth step; NaN if it saw none, for instance because ``sample`` left too few words.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of the wrong kind or out of range.
    RuntimeError
        If there is no such device.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean (2013), "Distributed representations of words and
    phrases and their compositionality", equation 4. Shared negatives: Ji, Satish, Li and Dubey
    (2019), "Parallelizing Word2Vec in shared and distributed memory", section III.

    Examples
    --------
    >>> text = [["a", "blue", "bird"], ["a", "red", "bird"]] * 50
    >>> model = Word2Vec(vector_size=8, min_count=1, seed=0).fit(text)
    >>> model.wv.words, model.vectors.shape
    (('a', 'bird', 'blue', 'red'), (4, 8))
    """

    def __init__(
        self,
        vector_size=100,
        window=5,
        min_count=5,
        negative=5,
        ns_exponent=0.75,
        sg=0,
        sample=1e-3,
        alpha=0.025,
        min_alpha=1e-4,
        epochs=5,
        seed=1,
        cbow_mean=1,
        *,
        batch=1024,
        device=None,
    ):
        self.vector_size = at_least("vector_size", vector_size, 1)
        self.window = at_least("window", window, 1)
        self.min_count = at_least("min_count", min_count, 1)
        self.negative = at_least("negative", negative, 1)
        self.ns_exponent = _number("ns_exponent", ns_exponent, 0, math.inf)
        self.sg = one_of("sg", sg, (0, 1))
        self.sample = _number("sample", sample, 0, 1)
        self.alpha = _number("alpha", alpha, 0, math.inf)
        self.min_alpha = _number("min_alpha", min_alpha, 0, math.inf)
        if self.min_alpha > self.alpha:
            raise ValueError(f"min_alpha must be at most alpha = {alpha}, got {min_alpha}")
        self.epochs = at_least("epochs", epochs, 1)
        self.seed = at_least("seed", seed, 0)
        self.cbow_mean = one_of("cbow_mean", cbow_mean, (0, 1))
        self.batch = at_least("batch", batch, 1)
        self.device = companion.device() if device is None else torch.device(device)
        self.loss = []

    def fit(self, sentences):
        """Count the words, start from new random vectors and train.

        Parameters
        ----------
        sentences : iterable of lists of str
            The corpus, one list of words a sentence, cut for instance by ``tokenise``. A generator
            is read once and kept; in memory the text takes 8 bytes a word beside the lists.

        Returns
        -------
        Word2Vec
            Itself.

        Raises
        ------
        TypeError
            If ``sentences`` is a string or holds strings: their words would be letters.
        ValueError
            If no word occurs ``min_count`` times, or windows above 5,000 words would be needed.
        FloatingPointError
            If the vectors grew beyond all bounds; the model must then be fitted again.
        """
        if not isinstance(sentences, (str, bytes)):
            sentences = [_sentence(sentence) for sentence in _sentences(sentences)]
        unmarked = dict.fromkeys(("unknown", "padding", "start", "end"))
        self.vocabulary = Vocabulary(sentences, min_count=self.min_count, **unmarked)
        self._rng = np.random.default_rng(self.seed)
        self._keep = keep_probability(self.vocabulary.counts, self.sample)
        self._noise = noise_distribution(self.vocabulary.counts, self.ns_exponent)
        shape = len(self.vocabulary), self.vector_size
        start = (2 * self._rng.random(shape, dtype=np.float32) - 1) / self.vector_size
        self._inputs = torch.from_numpy(start).to(self.device)
        self._outputs = torch.zeros(shape, dtype=torch.float32, device=self.device)
        self._wv, self.loss = None, []
        return self.train(sentences)

    def train(self, sentences, epochs=None):
        """Train on, with more text and the vocabulary there is; unknown words are dropped.

        Only vectors of words in ``sentences`` move. The noise is still that of the first text, and
        the learning rate starts at ``alpha`` again.

        Parameters
        ----------
        sentences : iterable of lists of str
            As for ``fit``.
        epochs : int, optional
            Passes over this text; the model's ``epochs`` by default.

        Returns
        -------
        Word2Vec
            Itself.

        Raises
        ------
        TypeError
            As ``fit`` does.
        ValueError
            If the model was not fitted, or no word of the text is in its vocabulary.
        FloatingPointError
            As ``fit`` does.
        """
        self._fitted()
        epochs = self.epochs if epochs is None else at_least("epochs", epochs, 1)
        self._train(*self._encode(sentences), epochs)
        return self

    @property
    def vectors(self):
        """The learned vectors, an array of shape (V, D) in the order of ``wv.words``."""
        return self.wv.vectors

    @property
    def wv(self):
        """The learned vectors with their words, as WordVectors."""
        self._fitted()
        if self._wv is None:
            self._wv = WordVectors(self.vocabulary.words, self._inputs.numpy(force=True).copy())
        return self._wv

    def most_similar(self, word, topn=10):
        """Find the words whose vectors point most nearly the same way.

        Parameters
        ----------
        word : str
            A word of the vocabulary.
        topn : int
            How many to return at most.

        Returns
        -------
        list of tuple
            Pairs (word, cosine), the nearest first; see ``WordVectors.most_similar`` for more.

        Raises
        ------
        KeyError
            If the word is unknown.
        """
        return self.wv.most_similar(word, topn=topn)

    def analogy(self, a, b, c, topn=1):
        """Answer "a is to b as c is to ...", as ``WordVectors.analogy`` does.

        Parameters
        ----------
        a, b, c : str
            Words of the vocabulary.
        topn : int
            How many answers to return at most.

        Returns
        -------
        list of tuple
            Pairs (word, score), the best first.

        Raises
        ------
        KeyError
            If a word is unknown.
        """
        return self.wv.analogy(a, b, c, topn=topn)

    def save(self, path):
        """Write the words and their vectors in word2vec's text format.

        Parameters
        ----------
        path : str or Path
            The file, in a folder that exists; a file of this name is replaced.

        Raises
        ------
        OSError, ValueError
            As ``WordVectors.save`` does.
        """
        self.wv.save(path)

    @staticmethod
    def load(path):
        """Read what ``save`` has written: vectors to be asked, not a model to be trained on.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        WordVectors
            Words and vectors; the format holds no output vectors and no counts.

        Raises
        ------
        OSError, ValueError
            As ``WordVectors.load`` does.
        """
        return WordVectors.load(path)

    def _fitted(self):
        if not hasattr(self, "vocabulary"):
            raise ValueError("the model must be fitted first: call fit(sentences)")

    def _encode(self, sentences):
        """Return the ids of all known words in one array, and the number of each one's sentence."""
        index = {word: i for i, word in enumerate(self.vocabulary.words)}
        known = [
            [i for i in map(index.get, _sentence(s)) if i is not None]
            for s in _sentences(sentences)
        ]
        lengths = [len(sentence) for sentence in known]
        ids = np.fromiter(chain.from_iterable(known), np.int32, sum(lengths))
        if not len(ids):
            raise ValueError("sentences must hold a word of the vocabulary, got none")
        return ids, np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)

    def _train(self, ids, sentence, epochs):
        self._wv = None  # what was asked before is out of date, also if this is interrupted
        losses = torch.zeros(epochs, 2, dtype=torch.float32, device=self.device)  # sum, number
        step = _skip_gram if self.sg else _cbow
        reach = min(self.window, max(1, int(np.bincount(sentence).max()) - 1))  # farther is nobody
        if reach > _WIDEST:
            raise ValueError(f"window must be at most {_WIDEST} in sentences so long, got {reach}")
        offsets = _offsets(reach, self.device)
        tables = self._inputs, self._outputs
        with torch.no_grad():
            for epoch, k, rate, busy, blocks in self._steps(ids, sentence, epochs, reach):
                tally = losses[epoch] if k % _LOSS_EVERY == 0 else None
                before = [table[busy] for table in tables]
                step(*tables, blocks, offsets, rate, self, tally)
                for table, rows in zip(tables, before, strict=True):
                    _hold_back(table, busy, rows)
        if not bool(self._inputs.isfinite().all()):
            del self.vocabulary  # nothing here can be used again
            raise FloatingPointError(
                f"training went beyond all bounds: lower alpha, got {self.alpha}, or batch, "
                f"got {self.batch}"
            )
        sums, counts = losses.T
        self.loss += (sums / counts).tolist()

    def _steps(self, ids, sentence, epochs, reach):
        """Yield epoch, number, learning rate, busy words and blocks of each step."""
        total, block = epochs * len(ids), _block(reach)
        size = -(-self.batch // block)
        for epoch, first, piece in _ahead(self._pieces(ids, sentence, epochs, reach)):
            context, left, right, negatives, busy = (part.to(self.device) for part in piece)
            context = context.unfold(0, block + 2 * reach, block)
            steps = -(-len(left) // size)
            words = min(_PIECE, len(ids) - first)
            for k in range(steps):  # every steps-th block: neighbours seldom meet in a step
                done = (epoch * len(ids) + first + words * k / steps) / total
                rate = self.alpha + (self.min_alpha - self.alpha) * done
                parts = (part[k::steps] for part in (context, left, right, negatives))
                yield epoch, k, rate, busy, _Blocks(*parts)

    def _pieces(self, ids, sentence, epochs, reach):
        """Draw what chance decides, a piece of the text at a time."""
        keep = self._keep.astype(np.float32)
        thresholds = np.cumsum(self._noise)[:-1]
        block, shared = _block(reach), (reach + 1) * self.negative
        for epoch in range(epochs):
            for first in range(0, len(ids), _PIECE):
                piece = slice(first, first + _PIECE)
                kept = self._rng.random(len(ids[piece]), dtype=np.float32) < keep[ids[piece]]
                words = ids[piece][kept]
                if not len(words):
                    continue
                count = -(-len(words) // block)
                windows = self._rng.integers(1, self.window, len(words), endpoint=True)
                context = np.zeros(count * block + 2 * reach, dtype=np.int64)
                context[reach : reach + len(words)] = words
                sides = np.zeros((2, count * block), dtype=np.int16)
                for side, room in zip(sides, _room(sentence[piece][kept]), strict=True):
                    np.minimum(windows, room, out=side[: len(words)], casting="same_kind")
                left, right = torch.from_numpy(sides).view(2, count, block)
                draws = self._rng.random((count, shared))
                negatives = torch.from_numpy(np.searchsorted(thresholds, draws, side="right"))
                parts = torch.from_numpy(context), left, right, negatives, self._busy(words, reach)
                yield epoch, first, parts

    def _busy(self, words, reach):
        """Find the words whose rows are updated so often in a step that it may overshoot.

        A word that is rare in the text may be frequent in this piece of it.
        """
        share = np.bincount(words, minlength=len(self._noise)) / len(words)
        pairs = self.batch * (reach + 1)  # in a step, on average
        updates = pairs * (share + self.negative * self._noise)
        return torch.from_numpy(np.flatnonzero(updates >= _BUSY))


class _Blocks(NamedTuple):
    """The blocks of a step: B blocks of C words, with M = C + 2 window words in and around each."""

    context: Tensor  # (B, M) ids; the words themselves stand in the middle
    left: Tensor  # (B, C) how many words to the left are in a word's window
    right: Tensor  # (B, C)
    negatives: Tensor  # (B, K) ids


def _skip_gram(inputs, outputs, blocks, offsets, rate, model, tally=None):
    """Take one step of skip-gram; ``tally`` takes the loss and the number of pairs."""
    context, left, right, negatives = blocks
    block, around = offsets.shape
    reach = (around - block) // 2
    words = context[:, reach : reach + block]
    targets = torch.cat([context, negatives], 1)
    mask = (offsets >= -left[..., None]) & (offsets <= right[..., None])  # (B, C, M)
    share = (left + right)[..., None].to(inputs.dtype) / (reach + 1)  # of k negatives a pair

    v, u = F.embedding(words, inputs), F.embedding(targets, outputs)
    s = bmm(v, u.transpose(1, 2))  # (B, C, M + K)
    if tally is not None:
        near, far = s[..., :around], s[..., around:]
        tally[0] += (F.softplus(-near) * mask).sum() + (F.softplus(far) * share).sum()
        tally[1] += mask.sum()
    d_s = s.sigmoid_()
    d_s[..., :around].sub_(1).mul_(mask)
    d_s[..., around:].mul_(share)
    d_s *= -rate
    _add_rows(inputs, words, bmm(d_s, u))
    _add_rows(outputs, targets, bmm(d_s.transpose(1, 2), v))


def _cbow(inputs, outputs, blocks, offsets, rate, model, tally=None):
    """Take one step of CBOW; ``tally`` takes the loss and the number of words."""
    context, left, right, negatives = blocks
    block, around = offsets.shape
    reach = (around - block) // 2
    words = context[:, reach : reach + block]
    targets = torch.cat([words, negatives], 1)
    mask = (offsets >= -left[..., None]) & (offsets <= right[..., None])  # (B, C, M)
    count = (left + right)[..., None]
    some = (count > 0).to(inputs.dtype)  # a word alone in its sentence has no context
    total = mask.to(inputs.dtype)
    mean = total / count.clamp(min=1)
    ahead, back = (mean, total) if model.cbow_mean else (total, mean)  # swapped as in word2vec
    own = torch.eye(block, dtype=inputs.dtype, device=inputs.device) * some

    v, u = F.embedding(context, inputs), F.embedding(targets, outputs)
    h = bmm(ahead, v)  # (B, C, D)
    s = bmm(h, u.transpose(1, 2))  # (B, C, C + K)
    share = some / (reach + 1)
    if tally is not None:
        near, far = s[..., :block], s[..., block:]
        tally[0] += (F.softplus(-near) * own).sum() + (F.softplus(far) * share).sum()
        tally[1] += some.sum()
    d_s = s.sigmoid_()
    d_s[..., :block].sub_(1).mul_(own)
    d_s[..., block:].mul_(share)
    d_s *= -rate
    _add_rows(inputs, context, bmm(back.transpose(1, 2), bmm(d_s, u)))
    _add_rows(outputs, targets, bmm(d_s.transpose(1, 2), h))


def _add_rows(table, ids, rows):
    """Add rows to a table in place, those of equal id one after the other, always in one order."""
    ids, rows = ids.reshape(-1), rows.flatten(0, -2)
    if table.device.type == "cpu":  # four times as fast as index_add_
        table.scatter_add_(0, ids[:, None].expand_as(rows), rows)
    else:  # index_add_ would add in any order there
        table.index_put_((ids,), rows, accumulate=True)


def _hold_back(table, busy, before):
    """Shorten what busy rows have moved by, where that is far: a sum of many updates."""
    moved = table[busy] - before
    length = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
    table[busy] = torch.addcmul(before, moved, _FARTHEST / length.clamp(min=_FARTHEST))


def _block(reach):
    """Words in a block: with a wide window more, or most of a product would be thrown away."""
    return max(_BLOCK, 2 * reach)


def _offsets(reach, device):
    """Distance of each word in and around a block from each word of it; out of reach from itself.

    Shape (C, M).
    """
    block = _block(reach)
    there, here = np.arange(block + 2 * reach) - reach, np.arange(block)
    distance = (there - here[:, None]).astype(np.int16)
    distance[distance == 0] = 2 * (block + reach)
    return torch.from_numpy(distance).to(device)


def _room(sentence):
    """How many words of the same sentence stand to the left and to the right of each word."""
    at = np.arange(len(sentence))
    starts = np.flatnonzero(np.diff(sentence, prepend=-1))
    number = np.searchsorted(starts, at, side="right")
    ends = np.append(starts[1:], len(sentence))
    return at - starts[number - 1], ends[number - 1] - 1 - at


def _ahead(items):
    """Yield the items of a generator, the next one being made in a thread meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _sentences(sentences):
    try:
        return iter(sentences)
    except TypeError:
        raise TypeError(
            f"sentences must be an iterable of lists of words, got {sentences!r:.80}"
        ) from None


def _sentence(sentence):
    if isinstance(sentence, (str, bytes)):
        raise TypeError(
            "sentences must be lists of words, one a sentence, got a string among them: its "
            f"words would be letters; use tokenise first, got {sentence[:40]!r}"
        )
    return sentence if isinstance(sentence, (list, tuple)) else list(_sentences(sentence))


def _number(name, value, least, most):
    """Return a finite number between two bounds."""
    if not least <= real(name, value) <= most or math.isinf(value):
        bound = f"between {least} and {most}" if math.isfinite(most) else f"at least {least}"
        raise ValueError(f"{name} must be finite and {bound}, got {value}")
    return float(value)
