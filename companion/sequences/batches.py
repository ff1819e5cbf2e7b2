"""Batches of sequences, time first: of equal length, or padded up to it, with masks and lengths."""

import numbers
import reprlib

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from companion._checks import at_least, one_of, torch_seed

__all__ = ["MaskedLoss", "batches", "mask", "pad"]

IGNORED = -100  # by cross_entropy, among targets
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def batches(
    inputs, targets=None, *, size, seed=None, bucket=1, steps=None, padding=0, packed=False
):
    """Cut sequences into batches, padded where their lengths differ.

    The result can be iterated again and again, as ``companion.training.fit`` needs; ``len`` of it
    is the number of batches. Each is made when it is asked for, so padding costs the memory of
    one batch. What comes depends on what went in:

    ==================================== ===================== ===================================
    inputs                               targets               each batch
    ==================================== ===================== ===================================
    array (T, N, ...): equal lengths     array (T', N, ...)    ``x, target``, cut along N
    the same                             array (N,): one each  ``x, target``
    list of N sequences of any lengths   list alike: per step  ``{"x", "lengths"}, (target, mask)``
    the same                             array (N, ...)        ``{"x", "lengths"}, target``
    the same, with ``packed``            list alike            ``PackedSequence``, its targets in a
                                                               row
    ==================================== ===================== ===================================

    Without targets, each batch is the first half alone. ``x`` is (T, B, ...) with the batch's own
    T; ``lengths`` is a list, which ``fit`` leaves on the CPU, where packing wants it; ``mask`` is
    (T, B), True at the real steps. ``MaskedLoss`` takes the pair ``(target, mask)``. Targets are
    padded with NaN (whole numbers with -100, which ``cross_entropy`` leaves out): a loss that
    forgets the mask does not go unnoticed.

    The sequences of a list share one tensor's type: whole numbers beside floating ones become
    floating, and ids above 2**24 would be rounded. Unsigned numbers of 16 bits and more become
    int64.

    **When to bucket.** With lengths that differ much, ``bucket`` saves most of the padding, and
    with it time. Leave it at 1 where the order must be the given one (predictions), where the
    lengths hardly differ, or where the length tells of the target: batches of like sequences are
    then less alike than chance would make them, and steps get noisier.

    Parameters
    ----------
    inputs : Tensor, array or list
        As in the table. A sequence of a list holds whole numbers (token ids) or is (T_i, D).
        Arrays become tensors, floating ones of torch's default dtype.
    targets : Tensor, array or list, optional
        As in the table; a tuple counts as a list. One of plain numbers, such as one label a
        sequence, counts as an array.
    size : int
        Sequences in a batch; one batch may be smaller.
    seed : int, optional
        Shuffle, by a generator of its own: the same seed gives the same sequence of orders.
        **The generator goes on from where it stopped**: a second training with the same object
        sees other orders than the first did. Make it anew to repeat a training. Without a seed
        the order is always the same.
    bucket : int
        Sort the sequences of this many batches by length together, then cut them. The padding of
        these batches is at most ``size`` times (longest - shortest) in all. Which sequences meet,
        and the batches' order, are shuffled anew each time if there is a seed.
    steps : int, optional
        A pre-set number of steps for every batch: shorter sequences are padded, **longer ones lose
        their ends**. By default the longest of each batch decides and nothing is cut.
    padding : number
        What stands in ``x`` past a sequence's end, a number that ``x`` can hold; 0 is a
        ``Vocabulary``'s padding.
    packed : bool
        Whether to give PyTorch's ``PackedSequence``, which holds no padding; for ``torch.nn``'s
        own layers.

    Returns
    -------
    iterable
        The batches.

    Raises
    ------
    TypeError
        If ``inputs`` is neither array nor list, sequences hold no numbers, ``padding`` is none,
        or ``size``, ``seed``, ``bucket`` or ``steps`` is no whole number.
    ValueError
        If there is no sequence, an empty one, one whose vectors are of another size, or one whose
        target has another length; if there are more or fewer targets than sequences; if ``size``,
        ``bucket`` or ``steps`` is below 1 or ``seed`` not from 0 to 2**64 - 1; if values are
        masked, or ``x`` cannot hold ``padding``; if an option for a list comes with an array.

    Examples
    --------
    >>> even = batches(torch.zeros(5, 10, 1), torch.zeros(1, 10, 1), size=4)
    >>> [tuple(x.shape) for x, target in even]
    [(5, 4, 1), (5, 4, 1), (5, 2, 1)]
    >>> ragged = batches([[7, 8, 9], [5]], [0, 1], size=2)
    >>> for inputs, target in ragged:
    ...     print(inputs["x"].tolist(), inputs["lengths"], target.tolist())
    [[7, 5], [8, 0], [9, 0]] [3, 1] [0, 1]
    """
    one_of("packed", packed, (True, False))
    if isinstance(inputs, list):
        return _Ragged(inputs, targets, size, seed, bucket, steps, padding, packed)
    if not hasattr(inputs, "shape"):
        raise TypeError(
            "inputs must be an array (T, N, ...) or a list of sequences, "
            f"got {type(inputs).__name__}"
        )
    if (bucket, steps, padding, packed) != (1, None, 0, False):
        raise ValueError(
            "bucket, steps, padding and packed must come with a list of sequences, got an array: "
            "its sequences are equally long"
        )
    return _Even(inputs, targets, size, seed)


def pad(sequences, padding=0, steps=None):
    """Put sequences of any lengths side by side.

    Parameters
    ----------
    sequences : list of N sequences
        Of whole numbers, or of shape (T_i, D); of one type in the end, as for ``batches``.
    padding : number
        What stands past a sequence's end, a number that the sequences' type can hold.
    steps : int, optional
        T; by default the longest length. Longer sequences lose their ends.

    Returns
    -------
    x : Tensor of shape (T, N) or (T, N, D)
        Column ``n`` is sequence ``n``, then padding.
    lengths : list of N int
        Each sequence's number of steps in ``x``.

    Raises
    ------
    TypeError
        If ``sequences`` is no list, or holds no numbers, or ``padding`` is none.
    ValueError
        If there is no sequence, an empty one, or one whose vectors are of another size; if values
        are masked, or the sequences' type cannot hold ``padding``; if ``steps`` is below 1.

    Examples
    --------
    >>> x, lengths = pad([[7, 8, 9], [5]])
    >>> x.tolist(), lengths
    ([[7, 5], [8, 0], [9, 0]], [3, 1])
    """
    if not isinstance(sequences, list):
        raise TypeError(f"sequences must be a list, got {type(sequences).__name__}")
    steps = None if steps is None else at_least("steps", steps, 1)
    everyone = torch.arange(len(sequences), device="cpu")
    x, lengths, _ = _Joined("sequences", sequences, padding).padded(everyone, steps)
    return x, lengths


def mask(lengths, steps=None, device=None):
    r"""Tell real steps from padding.

    .. math:: m_{tb} = 1 \text{ if } t < \ell_b, \text{ else } 0

    Parameters
    ----------
    lengths : sequence of B int
        Each sequence's number of real steps, which may be 0.
    steps : int, optional
        T; by default the longest length.
    device : torch.device, optional
        Where the mask is wanted; the CPU by default.

    Returns
    -------
    Tensor of shape (T, B), bool
        True at the real steps.

    Raises
    ------
    TypeError
        If ``lengths`` are no whole numbers.
    ValueError
        If ``lengths`` are none, not of shape (B,), negative, or longer than ``steps``.

    Examples
    --------
    >>> mask([3, 1]).int().tolist()
    [[1, 1], [1, 0], [1, 0]]
    """
    lengths = _tensor("lengths", lengths, device="cpu").cpu()
    if lengths.ndim != 1 or not len(lengths):
        raise ValueError(f"lengths must be one number a sequence, got shape {tuple(lengths.shape)}")
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be whole numbers, got dtype {lengths.dtype}")
    longest = int(lengths.max())
    steps = longest if steps is None else at_least("steps", steps, 0)
    if lengths.min() < 0 or longest > steps:
        raise ValueError(f"lengths must lie from 0 to T = {steps}, got {lengths.tolist()}")
    real = torch.arange(steps, device="cpu")[:, None] < lengths
    return real if device is None else real.to(device)


class MaskedLoss:
    r"""Average a loss over the real steps alone.

    .. math:: L = \frac{\sum_{t,b} m_{tb} L_{tb}}{\sum_{t,b} m_{tb}}

    The real steps are picked out before the loss sees them, so nothing that stands in the padding,
    NaN included, reaches the value or a gradient. A batch that is all padding has loss 0 and
    count 0 (and ``fit`` refuses it), where a division by the count would give NaN.

    Parameters
    ----------
    loss : callable
        ``loss(prediction, target)``, the mean over its first axis, such as
        ``torch.nn.functional.cross_entropy``.

    Raises
    ------
    TypeError
        If ``loss`` is not callable; when called, if ``target`` is no pair, or prediction, target
        or mask no tensor.
    ValueError
        When called, if prediction, target and mask do not agree in (T, B), a floating target has
        another shape than the prediction, or one of both has an axis of size 1 that the other
        has not; if ``loss`` gives more than one number.

    Examples
    --------
    >>> loss = MaskedLoss(torch.nn.functional.mse_loss)
    >>> prediction = torch.tensor([[1.0, 2.0], [3.0, float("nan")]])
    >>> mean, count = loss(prediction, (torch.zeros(2, 2), mask([2, 1])))
    >>> mean.item(), count  # (1 + 4 + 9) / 3
    (4.666666507720947, 3)
    """

    def __init__(self, loss):
        if not callable(loss):
            raise TypeError(f"loss must be callable, got {loss!r}")
        self.loss = loss

    def __call__(self, prediction, target):
        """Return the mean over the real steps, and the number of target values it is a mean of.

        Whole numbers of -100 do not count, since ``cross_entropy`` leaves them out of the mean.

        Parameters
        ----------
        prediction : Tensor of shape (T, B, ...)
            Of every step.
        target : pair of Tensor
            The targets, (T, B, ...), and the mask, (T, B), as ``batches`` yields them.

        Returns
        -------
        mean : Tensor
            A scalar.
        count : int
            Number of real values in ``target``, without whole numbers of -100.
        """
        if not isinstance(target, (tuple, list)) or len(target) != 2:
            raise TypeError(f"target must be a pair (target, mask), got {type(target).__name__}")
        target, real = target
        parts = {"prediction": prediction, "target": target, "mask": real}
        for name, part in parts.items():
            if not isinstance(part, Tensor):
                raise TypeError(f"{name} must be a tensor, got {reprlib.repr(part)}")
        shapes = [tuple(part.shape[:2]) for part in (prediction, target)]
        if real.dtype != torch.bool or shapes != [tuple(real.shape)] * 2:
            raise ValueError(
                f"mask must be (T, B) of bool, as prediction {shapes[0]} and target {shapes[1]}, "
                f"got {tuple(real.shape)} of {real.dtype}"
            )
        floating = target.is_floating_point()
        rest = {tuple(part.shape[2:]) for part in (prediction, target)}
        # (n, 1) against (n,) would broadcast
        if rest == {(), (1,)} or floating and len(rest) > 1:
            raise ValueError(
                "prediction and target must have the same shape, "
                f"got {tuple(prediction.shape)} and {tuple(target.shape)}"
            )
        target = target.to(prediction.dtype) if floating else target
        prediction, target = prediction[real], target[real]
        count = target.numel() if floating else int((target != IGNORED).sum())
        if not count:
            return prediction[:0].sum(), 0  # of nothing: 0, with a gradient of zeros
        mean = self.loss(prediction, target)
        if getattr(mean, "ndim", 0):
            raise ValueError(f"loss must give one number, a mean, got shape {tuple(mean.shape)}")
        return mean, count


class _Batches:
    """Go through ``count`` sequences, ``size`` at a time."""

    def __init__(self, count, size, seed):
        self.count, self.size = count, at_least("size", size, 1)
        self.generator = None
        if seed is not None:
            self.generator = torch.Generator().manual_seed(torch_seed(seed))

    def __len__(self):
        return -(-self.count // self.size)

    def __iter__(self):
        return map(self.batch, self.groups())

    def groups(self):
        """Return which sequences go together."""
        return self.order(self.count).split(self.size)

    def order(self, count):
        if self.generator is None:
            return torch.arange(count, device="cpu")  # whatever the default device is
        return torch.randperm(count, generator=self.generator, device="cpu")


class _Even(_Batches):
    """Batches of sequences of equal length."""

    def __init__(self, inputs, targets, size, seed):
        self.inputs = _tensor("inputs", inputs)
        shape = tuple(self.inputs.shape)
        if len(shape) < 2 or not shape[1]:
            raise ValueError(f"inputs must be (T, N, ...), N at least 1, got {shape}")
        super().__init__(shape[1], size, seed)
        self.targets = None if targets is None else _tensor("targets", targets)
        if targets is not None:
            shape = tuple(self.targets.shape)
            if shape[min(1, len(shape) - 1) :][:1] != (self.count,):
                raise ValueError(
                    "targets must be (T, N, ...) or (N,) with the same N as inputs "
                    f"{tuple(self.inputs.shape)}, got {shape}"
                )

    def batch(self, chosen):
        x = self.inputs[:, chosen]
        if self.targets is None:
            return x
        one_each = self.targets.ndim == 1
        return x, self.targets[chosen] if one_each else self.targets[:, chosen]


class _Ragged(_Batches):
    """Batches of sequences of unequal lengths."""

    def __init__(self, inputs, targets, size, seed, bucket, steps, padding, packed):
        self.inputs = _Joined("inputs", inputs, padding)
        super().__init__(len(inputs), size, seed)
        self.bucket = at_least("bucket", bucket, 1)
        self.steps = None if steps is None else at_least("steps", steps, 1)
        self.packed, self.targets = packed, None
        per_step = isinstance(targets, (list, tuple)) and any(map(np.ndim, targets[:1]))
        if per_step:
            self.targets = _Joined("targets", targets)
            self.targets.padding = float("nan")
            if not self.targets.values.is_floating_point():
                self.targets.values, self.targets.padding = self.targets.values.long(), IGNORED
        elif targets is not None:
            self.targets = _tensor("targets", targets)
            if not self.targets.ndim:
                raise ValueError(f"targets must be one a sequence, got {targets!r}")
        self.per_step = per_step
        if targets is not None and len(targets) != self.count:
            raise ValueError(f"targets must be as many as inputs, {self.count}, got {len(targets)}")
        if per_step:
            other = (self.inputs.lengths != self.targets.lengths).nonzero()
            if len(other):
                i = int(other[0])
                expected, got = (int(part.lengths[i]) for part in (self.inputs, self.targets))
                raise ValueError(
                    f"targets[{i}] must have {expected} steps as inputs[{i}] has, got {got}"
                )

    def groups(self):
        if self.bucket == 1:
            return super().groups()
        groups = []
        for pool in self.order(self.count).split(self.size * self.bucket):
            groups += pool[self.inputs.lengths[pool].argsort(stable=True)].split(self.size)
        return [groups[i] for i in self.order(len(groups))]

    def batch(self, chosen):
        x, lengths, real = self.inputs.padded(chosen, self.steps)
        inputs = {"x": x, "lengths": lengths}
        if self.packed:
            inputs = pack_padded_sequence(x, lengths, enforce_sorted=False)
        if self.targets is None:
            return inputs
        if not self.per_step:
            return inputs, self.targets[chosen]
        target, _, _ = self.targets.padded(chosen, self.steps)
        if self.packed:
            return inputs, pack_padded_sequence(target, lengths, enforce_sorted=False).data
        return inputs, (target, real.to(target.device))


class _Joined:
    """Sequences one behind the other in one tensor: so they take no padding's memory."""

    def __init__(self, name, sequences, padding=0):
        if not sequences:
            raise ValueError(f"{name} must hold at least one sequence, got none")
        parts = [_tensor(f"{name}[{i}]", part) for i, part in enumerate(sequences)]
        for i, part in enumerate(parts):
            if not part.ndim or not len(part):
                alone = "" if part.ndim else " in a list or array of its own"
                raise ValueError(
                    f"{name}[{i}] must hold at least one step{alone}, got {sequences[i]!r:.60}"
                )
            if part.shape[1:] != parts[0].shape[1:]:
                raise ValueError(
                    f"{name}[{i}] must have steps of shape {tuple(parts[0].shape[1:])} as "
                    f"{name}[0] has, got {tuple(part.shape[1:])}"
                )
        self.values = torch.cat(parts)
        self.lengths = torch.tensor([len(part) for part in parts], device="cpu")
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.padding = _fitting(padding, self.values.dtype)

    def padded(self, chosen, steps):
        """Return the chosen sequences as (T, B, ...), their lengths and their mask."""
        lengths = self.lengths[chosen]
        if steps is not None:
            lengths = lengths.clamp(max=steps)
        real = mask(lengths, steps)
        t = torch.arange(len(real), device="cpu")[:, None]
        x = self.values[self.starts[chosen] + torch.minimum(t, lengths - 1)]
        past = ~real.reshape(real.shape + (1,) * (x.ndim - 2))
        return x.masked_fill(past.to(x.device), self.padding), lengths.tolist(), real


def _fitting(padding, dtype):
    """Return the padding if a tensor of this type keeps it as it is."""
    if not isinstance(padding, numbers.Real):
        raise TypeError(f"padding must be a number, got {reprlib.repr(padding)}")
    try:
        one = torch.ones((), dtype=torch.bool, device="cpu")
        kept = torch.zeros((), dtype=dtype, device="cpu").masked_fill(one, padding)
    except (OverflowError, RuntimeError, TypeError):  # too large, or NaN among whole numbers
        kept = None
    if kept is None or not (dtype.is_floating_point or kept.item() == padding):
        raise ValueError(f"padding must be a number that {dtype} can hold, got {padding!r}")
    return padding


def _tensor(name, values, device=None):
    """Make a tensor of what holds numbers; one that is a tensor already stays as it is."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} must have no masked values, got {values!r:.60}")
    try:
        if isinstance(values, (list, tuple)) and isinstance(next(iter(values), None), Tensor):
            values = torch.stack(list(values))
        if not isinstance(values, Tensor):
            array = np.asarray(values)
            # in C's order and this machine's bytes, which is all that torch takes
            array = np.asarray(array, array.dtype.newbyteorder("="), "C")
            dtype = torch.get_default_dtype() if array.dtype.kind == "f" else None
            values = torch.tensor(array, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must hold numbers (a Vocabulary turns words into them), got {values!r:.60}"
        ) from error
    if values.dtype in UNSIGNED:  # which torch can hardly reckon with
        values = values.long()
        if values.numel() and values.min() < 0:
            raise ValueError(f"{name} must hold numbers below 2**63, got greater ones")
    return values
