"""What a backward pass keeps in memory, counted so that every machine finds the same."""

import weakref

import torch


class SavedForBackward:
    r"""Count the bytes that autograd keeps until it has gone back.

    Inside a ``with`` block every tensor saved for a backward pass is counted once, however many
    operations need it, until the last graph that holds it is gone. It is told from others by its
    place in memory and its size: the weights are counted too, and a part of a saved tensor counts
    beside it. Sparse tensors are not counted, and of two blocks inside each other only the inner
    one counts. Numbers and data that no gradient asks for are not in the count.

    Attributes
    ----------
    now : int
        Bytes held at this moment.
    peak : int
        The most that were held at once.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(1000, requires_grad=True)  # 4 bytes a number
    >>> with SavedForBackward() as saved:
    ...     (2 * x).square().sum().backward()  # a square's derivative needs what was squared
    >>> saved.now, saved.peak
    (0, 4000)
    """

    def __init__(self):
        self.now = self.peak = 0
        self._holders = {}  # how many operations hold what lies at a place
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, _Kept.unpack)

    def __enter__(self):
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        return self._hooks.__exit__(*error)

    def _pack(self, tensor):
        if tensor.layout is not torch.strided:
            return _Kept(tensor.detach())  # not counted
        size = tensor.numel() * tensor.element_size()
        place, size = tensor.data_ptr(), min(size, tensor.untyped_storage().nbytes())
        kept = _Kept(tensor.detach())  # an output with its past would hold itself for ever
        weakref.finalize(kept, self._release, (place, size))
        if (place, size) not in self._holders:
            self.now += size
            self.peak = max(self.peak, self.now)
        self._holders[place, size] = self._holders.get((place, size), 0) + 1
        return kept

    def _release(self, key):
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.now -= key[1]


class _Kept:
    """A saved tensor, in an object whose end can be noticed."""

    def __init__(self, tensor):
        self.tensor, self.version = tensor, tensor._version

    def unpack(self):
        if self.tensor._version != self.version:  # autograd leaves this check to its hooks
            raise RuntimeError(
                "a tensor needed for the backward pass was modified by an inplace operation, "
                f"{tuple(self.tensor.shape)}"
            )
        return self.tensor
