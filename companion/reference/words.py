r"""Skip-gram and CBOW in NumPy, three losses forward and backward side by side, double precision.

The table :math:`E` is read from, the table :math:`U` predicts. A word (skip-gram), or the mean of
the words of a context (CBOW), becomes the hidden vector; its product with a row of :math:`U` is
that word's score:

.. math::

    h = E_w \quad \text{or} \quad h = \frac{1}{|C|} \sum_{c \in C} E_c, \qquad s_v = h \cdot U_v

The three losses of a target word :math:`w`, with words :math:`v_1, \dots, v_k` drawn from the noise
:math:`q`:

.. math::

    L_{\text{softmax}} &= -s_w + \log \sum_v e^{s_v}, &
    \frac{\partial L}{\partial s_v} &= y_v - [v = w], \quad y = \operatorname{softmax}(s) \\
    L_{\text{NS}} &= -\log \sigma(s_w) - \sum_i \log \sigma(-s_{v_i}), &
    \frac{\partial L}{\partial s_v} &= \sigma(s_v) - [v = w] \\
    L_{\text{NCE}} &= -\log \sigma(\Delta_w) - \sum_i \log \sigma(-\Delta_{v_i}), &
    \frac{\partial L}{\partial s_v} &= \sigma(\Delta_v) - [v = w]

where :math:`\Delta_v = s_v - \log(k\,q_v)`, and :math:`[v = w]` is 1 for the target and 0 for a
drawn word. All losses are means over N examples. A quantity's gradient has its name with ``d_``;
where a word occurs several times, the gradients of its row are added up.

References
----------
Mikolov, Sutskever, Chen, Corrado and Dean (2013), equations 2 and 4; Gutmann and Hyvärinen (2012);
Rong (2014), "word2vec parameter learning explained".

Examples
--------
>>> import numpy as np
>>> from companion.reference import words
>>> rng = np.random.default_rng(0)
>>> params = words.Parameters(rng.normal(size=(5, 3)), rng.normal(size=(5, 3)))
>>> centre, target = np.array([0, 4]), np.array([1, 1])
>>> h = words.skip_gram(params, centre)
>>> loss, tape = words.full_softmax(params, h, target)
>>> d_h, d_U = words.full_softmax_back(params, tape)
>>> d_E = words.skip_gram_back(params, d_h, centre)
>>> d_E.any(axis=1).tolist(), d_U.any(axis=1).tolist()  # rows that get a gradient
([True, False, False, False, True], [True, True, True, True, True])
"""

from typing import NamedTuple

import numpy as np


class Parameters(NamedTuple):
    """The two tables: ``E`` (V, D), which is read, and ``U`` (V, D), which predicts."""

    E: np.ndarray
    U: np.ndarray


class Tape(NamedTuple):
    """What a loss remembers for its way back.

    ``h`` (N, D) are the hidden vectors, ``ids`` the words that were scored, (N, 1 + k) with the
    target first, or (N,), the targets, where all words are; ``y`` are the probabilities that the
    scores were turned into, (N, 1 + k) or (N, V).
    """

    h: np.ndarray
    ids: np.ndarray
    y: np.ndarray


def skip_gram(params, words):
    """Look up: ``words`` (N,) to ``h`` (N, D)."""
    return params.E[words]


def skip_gram_back(params, d_h, words):
    """Go back through ``skip_gram``: return ``d_E`` (V, D)."""
    d_E = np.zeros_like(params.E)
    np.add.at(d_E, words, d_h)  # += would count a repeated word once
    return d_E


def cbow(params, contexts):
    """Average: ``contexts`` (N, C), -1 where there is no word, to ``h`` (N, D)."""
    there = contexts >= 0
    total = (params.E[contexts] * there[:, :, None]).sum(1)  # -1 looks the last row up, times 0
    return total / there.sum(1, keepdims=True)


def cbow_back(params, d_h, contexts):
    r"""Go back through ``cbow``: each word of a context gets :math:`1/|C|` of ``d_h``."""
    there = contexts >= 0
    d_mean = d_h / there.sum(1, keepdims=True)
    d_E = np.zeros_like(params.E)
    np.add.at(d_E, contexts[there], np.repeat(d_mean, there.sum(1), axis=0))
    return d_E


def full_softmax(params, h, targets):
    r"""Score every word: :math:`L = -s_w + \log \sum_v e^{s_v}`.

    Parameters
    ----------
    params : Parameters
    h : array of shape (N, D)
        The hidden vectors.
    targets : array of shape (N,)
        The words to be predicted.

    Returns
    -------
    loss : float
        The mean, in nats.
    tape : Tape
        What ``full_softmax_back`` needs.
    """
    s = h @ params.U.T
    s = s - s.max(1, keepdims=True)  # no softmax changes by it, and no exponential overflows
    y = np.exp(s) / np.exp(s).sum(1, keepdims=True)
    n = np.arange(len(targets))
    loss = np.mean(np.log(np.exp(s).sum(1)) - s[n, targets])
    return loss, Tape(h, targets, y)


def full_softmax_back(params, tape):
    r"""Go back: :math:`\partial L/\partial s_v = y_v - [v = w]`, for every word of the vocabulary.

    Parameters
    ----------
    params : Parameters
    tape : Tape

    Returns
    -------
    d_h : array of shape (N, D)
    d_U : array of shape (V, D)
    """
    d_s = tape.y.copy()
    d_s[np.arange(len(d_s)), tape.ids] -= 1
    d_s /= len(d_s)  # the loss is a mean
    return d_s @ params.U, d_s.T @ tape.h


def negative_sampling(params, h, targets, drawn):
    r"""Score targets and drawn words: :math:`L = -\log\sigma(s_w) - \sum_i \log\sigma(-s_{v_i})`.

    Parameters
    ----------
    params : Parameters
    h : array of shape (N, D)
        The hidden vectors.
    targets : array of shape (N,)
        The words to be predicted.
    drawn : array of shape (N, k)
        The words drawn from the noise.

    Returns
    -------
    loss : float
        The mean, in nats.
    tape : Tape
        What ``sampled_back`` needs.
    """
    ids = np.column_stack([targets, drawn])
    s = np.einsum("nd,nkd->nk", h, params.U[ids])
    return _two_classes(s), Tape(h, ids, _sigmoid(s))


def noise_contrastive(params, h, targets, drawn, noise):
    r"""Score with the noise taken off: :math:`\Delta_v = s_v - \log(k\,q_v)` in place of the score.

    Parameters
    ----------
    params : Parameters
    h, targets, drawn
        As for ``negative_sampling``.
    noise : array of shape (V,)
        The distribution :math:`q` that was drawn from.

    Returns
    -------
    loss : float
        The mean, in nats.
    tape : Tape
        What ``sampled_back`` needs.
    """
    ids = np.column_stack([targets, drawn])
    s = np.einsum("nd,nkd->nk", h, params.U[ids])
    delta = s - np.log(drawn.shape[1] * noise[ids])
    return _two_classes(delta), Tape(h, ids, _sigmoid(delta))


def sampled_back(params, tape):
    r"""Go back through either: :math:`\partial L/\partial s_v = y_v - [v = w]`, for scored words.

    Parameters
    ----------
    params : Parameters
    tape : Tape
        Of ``negative_sampling``, with :math:`y = \sigma(s)`, or of ``noise_contrastive``, with
        :math:`y = \sigma(\Delta)`: the way back is the same.

    Returns
    -------
    d_h : array of shape (N, D)
    d_U : array of shape (V, D)
        Zero for every word that was not scored.
    """
    d_s = tape.y.copy()
    d_s[:, 0] -= 1  # the target stands first
    d_s /= len(d_s)
    d_h = np.einsum("nk,nkd->nd", d_s, params.U[tape.ids])
    d_U = np.zeros_like(params.U)
    np.add.at(d_U, tape.ids, d_s[:, :, None] * tape.h[:, None])
    return d_h, d_U


def _sigmoid(s):
    return np.exp(-np.logaddexp(0.0, -s))


def _two_classes(s):
    r"""Average :math:`-\log\sigma(s_0) - \sum_i \log\sigma(-s_i)` over the rows."""
    return np.mean(np.logaddexp(0.0, -s[:, 0]) + np.logaddexp(0.0, s[:, 1:]).sum(1))
