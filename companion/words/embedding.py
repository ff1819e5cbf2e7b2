"""The embedding table: a row of numbers for each word, looked up and trained."""

import torch
from torch import Tensor, nn

from companion._checks import at_least

__all__ = ["Embedding"]


class _Rows(torch.autograd.Function):
    """Rows of a table forward; backward, each row's gradients are added up."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight, ids, padding_idx, sparse):
        # index_select, since weight[ids] takes a negative number for a row from the end
        return weight.index_select(0, ids.reshape(-1)).reshape(*ids.shape, weight.shape[1])

    @staticmethod
    def setup_context(ctx, inputs, output):
        weight, ids, ctx.padding_idx, ctx.sparse = inputs
        ctx.save_for_backward(ids)
        ctx.save_for_forward(ids)
        ctx.shape = weight.shape

    @staticmethod
    def backward(ctx, d_y):
        (ids,) = ctx.saved_tensors
        rows, d_rows = ids.reshape(-1), d_y.reshape(-1, ctx.shape[1])
        if ctx.sparse:
            if ctx.padding_idx is not None:
                real = rows != ctx.padding_idx
                rows, d_rows = rows[real], d_rows[real]
            d_weight = torch.sparse_coo_tensor(
                rows[None], d_rows, ctx.shape, check_invariants=False
            )
        else:
            if ctx.padding_idx is not None:
                d_rows = d_rows.masked_fill((rows == ctx.padding_idx)[:, None], 0)
            d_weight = d_rows.new_zeros(ctx.shape).index_add(0, rows, d_rows)
        return d_weight, None, None, None


    @staticmethod
    def jvp(ctx, d_weight, *_):
        (ids,) = ctx.saved_tensors
        return d_weight.index_select(0, ids.reshape(-1)).reshape(*ids.shape, ctx.shape[1])


class Embedding(nn.Module):
    r"""A table with a row of D numbers for each of V words; a word's id picks its row.

    .. math:: x = e_i E, \qquad \frac{\partial L}{\partial E_{v}} =
        \sum_{n:\, i_n = v} \frac{\partial L}{\partial x_n}

    Here :math:`e_i` is the one-hot row of word :math:`i` and :math:`E` the table. The product is
    never computed: the row is copied. Backward, a row receives the sum of the gradients of all
    its uses, and a row without use receives none.

    Names and meaning of the arguments are those of ``torch.nn.Embedding``, and so are the values
    and gradients.

    Parameters
    ----------
    num_embeddings : int
        V, the number of words.
    embedding_dim : int
        D, the numbers a word has.
    padding_idx : int, optional
        Id of the padding; a negative one counts from the end. Its row starts at zero and never
        gets a gradient. That is all: what else changes the table (weight decay, an assignment)
        changes this row too.
    sparse : bool
        Whether the gradient is a sparse tensor that holds the rows used, not V rows. The optimiser
        must be able to take it, as ``SGD``, ``Adagrad`` and ``SparseAdam`` are.
    device, dtype
        Where and how the table is stored.
    generator : torch.Generator, optional
        Source of the initial weights, which are normal with mean 0 and variance 1; PyTorch's
        global one by default.

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (V, D)
        The table :math:`E`.

    Raises
    ------
    TypeError
        If a size is no whole number; when called, if the ids are no tensor of int64 or int32.
    ValueError
        If a size is below 1 or ``padding_idx`` is outside the table; when called, if an id is
        outside the table. A GPU, for whose answer nobody waits, stops with an error of its own
        instead ("device-side assert").

    References
    ----------
    Bengio, Ducharme, Vincent and Jauvin (2003), Journal of Machine Learning Research 3,
    section 2, the matrix C.

    Examples
    --------
    >>> import torch
    >>> table = Embedding(5, 3)
    >>> ids = torch.tensor([2, 0, 2])
    >>> table(ids).shape, torch.equal(table(ids)[0], table.weight[2])
    (torch.Size([3, 3]), True)
    """

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        *,
        sparse=False,
        device=None,
        dtype=None,
        generator=None,
    ):
        super().__init__()
        self.num_embeddings = at_least("num_embeddings", num_embeddings, 1)
        self.embedding_dim = at_least("embedding_dim", embedding_dim, 1)
        self.padding_idx = _row("padding_idx", padding_idx, self.num_embeddings)
        self.sparse = bool(sparse)
        shape = self.num_embeddings, self.embedding_dim
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters(generator)

    @classmethod
    def from_pretrained(cls, embeddings, freeze=True, padding_idx=None, *, sparse=False):
        """Make a table of given vectors.

        Parameters
        ----------
        embeddings : Tensor of shape (V, D)
            The rows, which the table then shares. The padding row is left as it is.
        freeze : bool
            Whether training leaves the table alone.
        padding_idx, sparse
            As for the class.

        Returns
        -------
        Embedding
            With ``embeddings`` for its weight.

        Raises
        ------
        TypeError
            If ``embeddings`` is no tensor of floating-point numbers.
        ValueError
            If it is not (V, D).
        """
        if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
            got = getattr(embeddings, "dtype", type(embeddings).__name__)
            raise TypeError(f"embeddings must be a tensor of floating-point numbers, got {got}")
        if embeddings.dim() != 2:
            raise ValueError(f"embeddings must be (V, D), got shape {tuple(embeddings.shape)}")
        table = cls(*embeddings.shape, padding_idx, sparse=sparse, device="meta")
        table.weight = nn.Parameter(embeddings.detach(), requires_grad=not freeze)
        return table

    def reset_parameters(self, generator=None):
        """Draw the table anew from the normal distribution; the padding row becomes zero."""
        nn.init.normal_(self.weight, generator=generator)
        if self.padding_idx is not None:
            with torch.no_grad():
                self.weight[self.padding_idx].fill_(0)

    def forward(self, ids):
        """Look up the rows.

        Parameters
        ----------
        ids : Tensor of any shape (...), int64 or int32
            From 0 to V - 1.

        Returns
        -------
        Tensor of shape (..., D)
            The row of each id.
        """
        check_ids("ids", ids)
        try:
            return _Rows.apply(self.weight, ids, self.padding_idx, self.sparse)
        except IndexError:
            raise outside("ids", ids, self.num_embeddings) from None

    def extra_repr(self):
        parts = [f"{self.num_embeddings}, {self.embedding_dim}"]
        if self.padding_idx is not None:
            parts.append(f"padding_idx={self.padding_idx}")
        return ", ".join(parts + ["sparse=True"] * self.sparse)


def check_ids(name, ids):
    """Refuse what is no tensor of ids."""
    if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
        got = getattr(ids, "dtype", type(ids).__name__)
        raise TypeError(f"{name} must be a tensor of int64 or int32, got {got}")


def outside(name, ids, rows):
    """Return the error for ids of which one names no row."""
    wrong = ids[(ids < 0) | (ids >= rows)]
    return ValueError(
        f"{name} must be from 0 to num_embeddings - 1 = {rows - 1}, got {wrong[0]}"
    )


def _row(name, index, rows):
    """Return ``index`` counted from the start; None stays None."""
    if index is None:
        return None
    index = at_least(name, index, -rows)
    if index >= rows:
        raise ValueError(f"{name} must be below num_embeddings = {rows}, got {index}")
    return index % rows
