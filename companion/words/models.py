"""CBOW and skip-gram: two tables, and a loss that is exchanged."""

import torch
from torch import nn

from companion.words.embedding import Embedding, check_ids
from companion.words.losses import FullSoftmax

__all__ = ["CBOW", "SkipGram"]


class _TwoTables(nn.Module):
    """Tables of words as they are read and as they are predicted, and the loss between them."""

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        objective=None,
        *,
        sparse=False,
        device=None,
        dtype=None,
        generator=None,
    ):
        super().__init__()
        # on no device, so that nothing is drawn here: reset_parameters does it
        tables = (
            Embedding(num_embeddings, embedding_dim, sparse=sparse, device="meta", dtype=dtype)
            for _ in range(2)
        )
        device = torch.get_default_device() if device is None else torch.device(device)
        self.input, self.output = (table.to_empty(device=device) for table in tables)
        if objective is None:
            objective = FullSoftmax()
        elif not isinstance(objective, nn.Module):
            raise TypeError(
                "objective must be a loss such as NegativeSampling(noise), "
                f"got {objective!r:.80}"
            )
        # its noise cannot be had again from nothing, so it stays where it is beside "meta"
        self.objective = objective if device.type == "meta" else objective.to(device)
        self.reset_parameters(generator)

    def reset_parameters(self, generator=None):
        r"""Draw the input table evenly between :math:`\pm 1/(2D)`; the output table is zero."""
        bound = 0.5 / self.input.embedding_dim
        nn.init.uniform_(self.input.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.output.weight)

    def loss(self, h, targets, **options):
        """Compute the mean loss of the model's predictions.

        Parameters
        ----------
        h : Tensor of shape (N, D)
            What the model returned.
        targets : Tensor of shape (N,), int64 or int32
            The words to be predicted.
        **options
            For the objective: ``generator``, and ``drawn`` where it draws words.

        Returns
        -------
        Tensor
            A scalar, in nats.
        """
        return self.objective(h, targets, self.output, **options)


class SkipGram(_TwoTables):
    r"""Predict, from a word, each word of its context.

    .. math:: h = E_w, \qquad s_v = h \cdot U_v

    with the row of word :math:`w` in the input table :math:`E` and the rows of the output table
    :math:`U`. The model returns :math:`h`; its ``loss`` makes scores of it, as many as the
    objective needs. Both fit ``companion.training.fit``, with the pairs' second words as target:
    ``fit(model, batches, model.loss, ...)``. (Not with D = 1, where ``fit`` takes (N, 1)
    beside targets (N,) for a mistake.)

    Parameters
    ----------
    num_embeddings : int
        V, the number of words.
    embedding_dim : int
        D, the numbers of a word's vector.
    objective : FullSoftmax, NegativeSampling or NoiseContrastive, optional
        The loss, which moves to ``device``; the full softmax by default.
    sparse : bool
        Whether gradients hold only the rows used, for ``torch.optim.SGD`` or ``SparseAdam``. (The
        full softmax uses all rows of the output table, and its gradient stays dense.)
    device, dtype
        Where and how the tables are stored.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default.

    Attributes
    ----------
    input : Embedding
        The table :math:`E`, whose rows are the word vectors. It starts evenly distributed between
        :math:`\pm 1/(2D)`, as in word2vec.
    output : Embedding
        The table :math:`U`. It starts at zero.
    objective : torch.nn.Module
        The loss.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or ``objective`` no module; when called, as
        ``Embedding`` does.

    References
    ----------
    Mikolov, Sutskever, Chen, Corrado and Dean (2013), "Distributed representations of words and
    phrases and their compositionality", section 2.

    Examples
    --------
    >>> import torch
    >>> from companion.words import pairs
    >>> model = SkipGram(num_embeddings=3, embedding_dim=4)
    >>> words, near = map(torch.as_tensor, pairs([[0, 1, 2]], window=1))
    >>> h = model(words)
    >>> h.shape, model.loss(h, near).exp().item()  # at the start every word is as likely
    (torch.Size([4, 4]), 3.0)
    """

    def forward(self, words):
        """Look the words up.

        Parameters
        ----------
        words : Tensor of shape (N,), int64 or int32
            The words one looks from.

        Returns
        -------
        Tensor of shape (N, D)
            The hidden vector of each.
        """
        return self.input(words)


class CBOW(_TwoTables):
    r"""Predict a word from its context, as a bag: the mean of the context's vectors.

    .. math:: h = \frac{1}{|C|} \sum_{c \in C} E_c, \qquad s_v = h \cdot U_v

    with the letters of ``SkipGram``. The gradient is that of the equation: each word of the
    context gets :math:`1/|C|` of the gradient by :math:`h`. word2vec's program and gensim take the
    mean forwards too, but on the way back give each word all of it.

    Parameters
    ----------
    num_embeddings, embedding_dim, objective, sparse, device, dtype, generator
        As for ``SkipGram``.

    Attributes
    ----------
    input : Embedding
        The table :math:`E`, whose rows are the word vectors.
    output : Embedding
        The table :math:`U`.
    objective : torch.nn.Module
        The loss.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or ``objective`` no module; when called, if
        ``contexts`` is not (N, C), a row holds no word, or as ``Embedding`` does.

    References
    ----------
    Mikolov, Chen, Corrado and Dean (2013), "Efficient estimation of word representations in
    vector space", section 3.1; İrsoy, Benton and Stratos (2021), "Corrected CBOW performs as well
    as skip-gram", on the gradient.

    Examples
    --------
    >>> import torch
    >>> model = CBOW(num_embeddings=5, embedding_dim=4)
    >>> h = model(torch.tensor([[0, 3], [4, -1]]))  # -1: no word
    >>> torch.allclose(h[0], model.input.weight[[0, 3]].mean(0))
    True
    """

    def forward(self, contexts):
        """Average the contexts' vectors.

        Parameters
        ----------
        contexts : Tensor of shape (N, C), int64 or int32
            The words around each target, -1 where there is none.

        Returns
        -------
        Tensor of shape (N, D)
            The hidden vector of each.
        """
        check_ids("contexts", contexts)
        if contexts.dim() != 2:
            raise ValueError(f"contexts must be (N, C), got {tuple(contexts.shape)}")
        there = contexts != -1
        count = there.sum(1, keepdim=True)
        if not (count > 0).all():
            empty = int((count[:, 0] == 0).nonzero()[0])
            raise ValueError(f"contexts must hold a word in each row, got none in row {empty}")
        vectors = self.input(contexts[there])
        owner = there.nonzero()[:, 0]
        total = vectors.new_zeros(len(contexts), vectors.shape[1])
        return total.index_add(0, owner, vectors) / count
