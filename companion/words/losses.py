"""Three losses for predicting a word: the full softmax, and two that look at a few words only."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from companion._checks import at_least
from companion.words.context import weights
from companion.words.embedding import check_ids, outside

__all__ = ["FullSoftmax", "NegativeSampling", "NoiseContrastive"]

_UNITS = 2**30  # a probability is a share of so many units: whole numbers suit every device


class FullSoftmax(nn.Module):
    r"""The cross-entropy of a softmax over the whole vocabulary.

    .. math:: L = -\log \frac{e^{s_w}}{\sum_{v=1}^{V} e^{s_v}}, \qquad s_v = h \cdot U_v

    with the target word :math:`w`, the hidden vector :math:`h` and the rows :math:`U_v` of the
    output table; the mean over N examples. Time, and rows of :math:`U` that get a gradient, grow
    with V.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean (2013), "Distributed representations of words and
    phrases and their compositionality", equation 2.

    Examples
    --------
    >>> import torch
    >>> from companion.words import Embedding
    >>> table = Embedding.from_pretrained(torch.zeros(8, 3))  # all scores are 0
    >>> FullSoftmax()(torch.ones(2, 3), torch.tensor([5, 1]), table).exp().item()
    8.0
    """

    def forward(self, h, targets, output, *, generator=None):
        """Compute the mean loss.

        Parameters
        ----------
        h : Tensor of shape (N, D)
            The hidden vectors.
        targets : Tensor of shape (N,), int64 or int32
            The words to be predicted.
        output : Embedding
            The output table, (V, D).
        generator : torch.Generator, optional
            Not used, as nothing is drawn; the other losses have it.

        Returns
        -------
        Tensor
            A scalar, in nats.

        Raises
        ------
        TypeError
            If the targets are no tensor of int64 or int32.
        ValueError
            If ``h`` and ``targets`` do not hold equally many examples, ``h`` and the table not
            equally many columns, or if a target is outside the table.
        """
        _check_examples(h, targets, output)
        try:  # no target is to be ignored
            return F.cross_entropy(
                h @ output.weight.T, targets.long(), ignore_index=torch.iinfo(torch.int64).min
            )
        except IndexError:
            raise outside("targets", targets, output.num_embeddings) from None


class _Sampled(nn.Module):
    """Tell the target from words drawn from the noise; a subclass says by which ``logits``."""

    def __init__(self, noise, negatives=5):
        super().__init__()
        self.negatives = at_least("negatives", negatives, 1)
        noise = _distribution(noise)
        units = np.maximum(np.rint(noise * _UNITS), noise > 0).astype(np.int64)
        # no state_dict keeps them: the noise is an argument, not something learned
        self.register_buffer("units", torch.from_numpy(units), persistent=False)
        self.register_buffer("upto", self.units.cumsum(0), persistent=False)
        self.total = int(units.sum())

    def draw(self, *shape, generator=None):
        """Draw words from the noise, independently.

        A draw costs a binary search, so the logarithm of V.

        Parameters
        ----------
        *shape : int
            The shape of what is drawn.
        generator : torch.Generator, optional
            Source of the draws, on whatever device: PyTorch's global one by default.

        Returns
        -------
        Tensor of that shape, int64
            Ids, on the device of this module.
        """
        device = self.upto.device
        at = torch.randint(
            self.total,
            shape,
            generator=generator,
            device=device if generator is None else generator.device,
        )
        return torch.searchsorted(self.upto, at.to(device), right=True)

    def forward(self, h, targets, output, *, drawn=None, generator=None):
        """Compute the mean loss.

        Parameters
        ----------
        h : Tensor of shape (N, D)
            The hidden vectors.
        targets : Tensor of shape (N,), int64 or int32
            The words to be predicted.
        output : Embedding
            The output table, (V, D); only the rows of targets and drawn words are looked up.
        drawn : Tensor of shape (N, k), optional
            The negative words of each example; drawn from the noise by default.
        generator : torch.Generator, optional
            Source of these draws; PyTorch's global one by default.

        Returns
        -------
        Tensor
            A scalar, in nats.

        Raises
        ------
        TypeError
            If the targets or what is drawn are no tensors of int64 or int32.
        ValueError
            If ``h`` and ``targets`` do not hold equally many examples, ``h`` and the table not
            equally many columns, the noise and the table not equally many words, if ``drawn`` is
            not (N, k), or if an id is outside the table.
        """
        _check_examples(h, targets, output)
        if len(self.upto) != output.num_embeddings:
            raise ValueError(
                f"noise must have a probability for each of the table's {output.num_embeddings} "
                f"words, got {len(self.upto)}"
            )
        expected = (len(targets), self.negatives)
        if drawn is None:
            drawn = self.draw(*expected, generator=generator)
        check_ids("drawn", drawn)
        if drawn.shape != expected:
            raise ValueError(f"drawn must be {expected}, got {tuple(drawn.shape)}")
        ids = torch.cat([targets[:, None], drawn.to(targets)], 1)  # the target stands first
        scores = (output(ids) @ h[:, :, None])[:, :, 0]
        logits = self.logits(scores, ids)
        return (F.softplus(-logits[:, :1]) + F.softplus(logits[:, 1:]).sum(1, True)).mean()

    def extra_repr(self):
        return f"{len(self.upto)} words, negatives={self.negatives}"


class NegativeSampling(_Sampled):
    r"""Tell a word from drawn ones by the sigmoid of its score.

    .. math:: L = -\log \sigma(s_w) - \sum_{i=1}^{k} \log \sigma(-s_{v_i}), \qquad v_i \sim q

    with the target word :math:`w`, scores :math:`s_v = h \cdot U_v`, and :math:`k` words
    :math:`v_i` drawn from the noise :math:`q`; the mean over N examples. In the minimum
    :math:`s_v = \log p(v) - \log(k\, q(v))`: the scores are no log-probabilities, unless the noise
    is uniform (then up to a constant).

    A drawn word that is the target stays among the negatives, as that formula needs; word2vec's
    program and gensim leave it out.

    Parameters
    ----------
    noise : array of shape (V,)
        The distribution :math:`q`, as from ``noise_distribution``. It is rounded to multiples of
        :math:`2^{-30}`; a word with any noise at all keeps at least one.
    negatives : int
        The number :math:`k` of words drawn for an example.

    Raises
    ------
    TypeError
        If ``noise`` holds no numbers or ``negatives`` is no whole one.
    ValueError
        If ``noise`` is no distribution over at least two words (with a single one every negative
        would be the target itself), or ``negatives`` is below 1.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean (2013), "Distributed representations of words and
    phrases and their compositionality", equation 4; Goldberg and Levy (2014), "word2vec
    explained", for its derivation; Levy and Goldberg (2014), "Neural word embedding as implicit
    matrix factorization", for its minimum.

    Examples
    --------
    >>> import torch
    >>> from companion.words import Embedding
    >>> table = Embedding.from_pretrained(torch.zeros(8, 3))  # all scores are 0
    >>> loss = NegativeSampling([1 / 8] * 8, negatives=2)
    >>> loss(torch.ones(2, 3), torch.tensor([5, 1]), table).exp().item()  # 3 sigmoids of 1/2
    8.0
    """

    def logits(self, scores, ids):
        """Return the scores as they are."""
        return scores


class NoiseContrastive(_Sampled):
    r"""Noise-contrastive estimation: tell a word from drawn ones, knowing how likely the noise is.

    .. math:: L = -\log \sigma(\Delta_w) - \sum_{i=1}^{k} \log \sigma(-\Delta_{v_i}), \qquad
        \Delta_v = s_v - \log(k\, q(v)), \quad v_i \sim q

    with the letters of ``NegativeSampling``, which drops the second part of :math:`\Delta`. Here
    the minimum is :math:`s_v = \log p(v)`, whatever the noise: the scores learn to be
    log-probabilities, without a sum over the vocabulary. A word without noise is never mistaken
    for it: its loss is 0 and teaches nothing.

    Parameters
    ----------
    noise, negatives
        As for ``NegativeSampling``. The noise should be positive wherever words occur.

    Raises
    ------
    TypeError, ValueError
        As ``NegativeSampling`` does.

    References
    ----------
    Gutmann and Hyvärinen (2012), Journal of Machine Learning Research 13, section 2.2, with
    :math:`\nu = k`; Mnih and Teh (2012), for language models; Mnih and Kavukcuoglu (2013), for word
    vectors.

    Examples
    --------
    >>> import torch
    >>> from companion.words import Embedding
    >>> table = Embedding.from_pretrained(torch.zeros(4, 3))  # all scores are 0
    >>> loss = NoiseContrastive([1 / 4] * 4, negatives=4)  # k q is 1: again sigmoids of 1/2
    >>> loss(torch.ones(2, 3), torch.tensor([3, 1]), table).exp().item()
    32.0
    """

    def logits(self, scores, ids):
        """Subtract from each score the logarithm of how often the noise is to draw the word."""
        wide = torch.promote_types(scores.dtype, torch.float32)  # a half does not hold the units
        return scores - (self.units[ids].to(wide).log() + math.log(self.negatives / self.total))


def _check_examples(h, targets, output):
    check_ids("targets", targets)
    if h.shape[-1] != output.embedding_dim:
        raise ValueError(f"h must be (N, {output.embedding_dim}), got {tuple(h.shape)}")
    if h.dim() != 2 or targets.shape != h.shape[:1]:
        raise ValueError(
            "h must be (N, D) and targets (N,), "
            f"got {tuple(h.shape)} and {tuple(targets.shape)}"
        )


def _distribution(noise):
    """Return the noise as float64."""
    noise = weights("noise", noise)
    if abs(noise.sum() - 1) > 1e-4:
        raise ValueError(
            f"noise must sum to 1, got {noise.sum():.6g}; noise_distribution makes it of counts"
        )
    if (noise > 0).sum() < 2:
        raise ValueError(
            "noise must be above 0 for at least two words, or every negative is the target "
            f"itself, got {(noise > 0).sum()}"
        )
    return noise
