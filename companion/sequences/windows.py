"""Cut a series into parts in time order, scale it by its first part, slide windows over it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from companion._arrays import as_array
from companion._checks import at_least, real
from companion.sequences.series import Series

__all__ = ["Scaler", "Split", "Windows", "split", "split_slices", "windows"]


class Windows(NamedTuple):
    """Inputs and the targets that follow them, time first.

    Attributes
    ----------
    inputs : ndarray of shape (length, N, D)
        ``inputs[:, i]`` is window ``i``.
    targets : ndarray of shape (horizon, N, D)
        The values that follow it directly.
    origins : ndarray of shape (N,)
        Index, in the series, of each window's last input: the step from which one looks ahead.
        ``targets[k, i]`` is the value at ``origins[i] + 1 + k``.
    """

    inputs: np.ndarray
    targets: np.ndarray
    origins: np.ndarray


def windows(values, length, horizon=1, stride=1):
    r"""Slide a window over a series: ``length`` values in, the next ``horizon`` values out.

    Window :math:`i` has the inputs :math:`x_{is}, \dots, x_{is+\ell-1}` and the targets
    :math:`x_{is+\ell}, \dots, x_{is+\ell+K-1}`, with length :math:`\ell`, horizon :math:`K` and
    stride :math:`s`.

    Parameters
    ----------
    values : array of shape (T,) or (T, D), Series or tensor
        A single series counts as one feature, D = 1. Of a tensor only the values are taken, not
        the gradient.
    length, horizon, stride : int
        Steps in, steps out, steps from one window to the next.

    Returns
    -------
    Windows
        ``(inputs, targets, origins)``; the first two are read-only views of ``values``, so that
        overlapping windows take no memory. ``torch.tensor(inputs, dtype=torch.float32)`` copies.

    Raises
    ------
    TypeError
        If ``values`` are no real numbers, or ``length``, ``horizon`` or ``stride`` no whole one.
    ValueError
        If the series has another shape, is shorter than ``length + horizon`` or holds NaN,
        infinite or masked values, or if ``length``, ``horizon`` or ``stride`` is below 1.

    Examples
    --------
    >>> inputs, targets, origins = windows([10, 11, 12, 13, 14], length=3)
    >>> inputs[:, 0, 0], targets[:, 0, 0], origins
    (array([10, 11, 12]), array([13]), array([2, 3]))
    """
    length, horizon = at_least("length", length, 1), at_least("horizon", horizon, 1)
    stride, values = at_least("stride", stride, 1), _finite(values)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(
            f"values must be (T,) or (T, D) with D at least 1, got shape {values.shape}"
        )
    if len(values) < length + horizon:
        raise ValueError(
            f"values must hold at least length + horizon = {length} + {horizon} = "
            f"{length + horizon} steps, got {len(values)}"
        )
    view = np.lib.stride_tricks.sliding_window_view(values, length + horizon, axis=0)
    view = view[::stride].transpose(2, 0, 1)  # (N, D, steps) -> (steps, N, D)
    origins = length - 1 + stride * np.arange(view.shape[1])
    return Windows(view[:length], view[length:], origins)


class Split(NamedTuple):
    """Three parts of a series in time order.

    Attributes
    ----------
    train : ndarray, Series or slice
        The oldest part.
    validation : ndarray, Series or slice
        The part between the two.
    test : ndarray, Series or slice
        The newest part.
    """

    train: Any
    validation: Any
    test: Any


def split(values, train=0.7, validation=0.15, gap=0, lead_in=0):
    """Cut a series into training, validation and test parts, in time order.

    The parts never overlap, unless ``lead_in`` says so; the test part is what the other two
    leave.

    Parameters
    ----------
    values : array of shape (T, ...) or Series
        The series, oldest first.
    train, validation : float
        Shares of the T steps; ``validation`` may be 0. Boundaries are rounded down.
    gap : int
        Steps left out before the validation part and before the test part, so that values that
        hang together across a boundary are on one side of it only.
    lead_in : int
        Steps by which the validation and the test part reach back before their first step,
        through the gap into the earlier part. **They are for inputs alone.** With ``lead_in``
        equal to the length of the windows, the targets of ``windows(part, length)`` are exactly
        the part's own steps: every one is forecast, the first one too.

    Returns
    -------
    Split
        ``(train, validation, test)``: three Series of a Series; else views of the array, which
        lists, pandas objects and tensors become (dates and gradients stay behind).

    Raises
    ------
    TypeError
        If a share is no number, or ``gap`` or ``lead_in`` no whole one.
    ValueError
        If the shares leave no test part, a part comes out empty, ``gap`` or ``lead_in`` is
        negative, or ``lead_in`` reaches back before the beginning.

    Examples
    --------
    >>> import numpy as np
    >>> split(np.arange(10), train=0.6, validation=0.2)
    Split(train=array([0, 1, 2, 3, 4, 5]), validation=array([6, 7]), test=array([8, 9]))
    >>> split(np.arange(10), train=0.6, validation=0.2, lead_in=2).test
    array([6, 7, 8, 9])
    """
    if not isinstance(values, Series):
        values = as_array(values)
        if not values.ndim:
            raise ValueError(f"values must be (T, ...), got shape {values.shape}")
    parts = split_slices(len(values), train, validation, gap, lead_in)
    return Split(*(values[part] for part in parts))


def split_slices(steps, train=0.7, validation=0.15, gap=0, lead_in=0):
    """Give the three parts of ``split`` as slices of ``range(steps)``.

    Parameters
    ----------
    steps : int
        Length T of the series.
    train, validation, gap, lead_in
        As for ``split``.

    Returns
    -------
    Split
        Three slices.

    Raises
    ------
    TypeError, ValueError
        As ``split`` does, and if ``steps`` is no whole number.

    Examples
    --------
    >>> split_slices(10, train=0.6, validation=0.2).test
    slice(8, 10, None)
    """
    steps = at_least("steps", steps, 0)
    gap, lead_in = at_least("gap", gap, 0), at_least("lead_in", lead_in, 0)
    train, validation = real("train", train), real("validation", validation)
    if not (0 < train < 1 and 0 <= validation < 1 and train + validation < 1):
        raise ValueError(
            "train and validation must be shares, train > 0, whose sum is below 1, "
            f"got {train} and {validation}"
        )
    count = steps * (1 + 1e-12)  # 0.29 * 100 is 28.999...
    first, second = int(train * count), int((train + validation) * count)
    starts = {"train": 0, "validation": first + gap, "test": second + gap}
    stops = {"train": first, "validation": second, "test": steps}
    slices = {}
    for part, start in starts.items():
        if part == "validation" and not validation:
            slices[part] = slice(first, first)
            continue
        back = 0 if part == "train" else lead_in
        if start >= stops[part]:
            raise ValueError(
                f"the {part} part must keep at least one step, got {stops[part] - start} of "
                f"{steps} steps with train={train}, validation={validation}, gap={gap}"
            )
        if start < back:
            raise ValueError(
                f"lead_in must be at most {start}, the steps before the {part} part, got {lead_in}"
            )
        slices[part] = slice(start - back, stops[part])
    return Split(**slices)


@dataclass(frozen=True, eq=False)
class Scaler:
    r"""Standardise: :math:`x' = (x - \mu) / \sigma`, with the mean and deviation of one part.

    Fit it on the training part alone: statistics of later parts are knowledge of the future.
    A constant feature has no scale; it is only centred (its :math:`\sigma` is set to 1).

    Attributes
    ----------
    mean : float or ndarray of shape (D,)
        Of each feature (the last axis); a plain number for a series of shape (T,).
    std : float or ndarray of shape (D,)
        The standard deviation, alike.

    Examples
    --------
    >>> scaler = Scaler.fit([1.0, 3.0])
    >>> scaler.transform(5.0), scaler.inverse(3.0)
    (3.0, 5.0)
    """

    mean: Any
    std: Any

    @classmethod
    def fit(cls, train):
        """Measure mean and (population) standard deviation of each feature, in float64.

        Parameters
        ----------
        train : array of shape (T,) or (..., D), Series or tensor
            The training part.

        Returns
        -------
        Scaler
            With the statistics of ``train``.

        Raises
        ------
        TypeError
            If ``train`` holds no real numbers.
        ValueError
            If ``train`` is empty, a single number, or holds NaN, infinite or masked values.
        """
        values = _finite(train, "train").astype(np.float64, copy=False)
        if not values.ndim:
            raise ValueError(f"train must be (T,) or (..., D), got shape {values.shape}")
        if not values.size:
            raise ValueError(f"train must hold at least one value, got shape {values.shape}")
        axes = tuple(range(max(1, values.ndim - 1)))
        mean, std = values.mean(axes), values.std(axes)
        std = np.where(np.ptp(values, axis=axes) == 0, 1.0, std)  # std may round to 1e-17
        return cls(float(mean), float(std)) if values.ndim == 1 else cls(mean, std)

    def transform(self, values):
        """Standardise values, which need not be those of the fitted part.

        Parameters
        ----------
        values : array or tensor of shape (..., D), Series, list or number
            Of any shape if the scaler holds plain numbers.

        Returns
        -------
        array, Tensor or number
            Of the shape of ``values``: a tensor of a tensor, on its device and of its dtype (of
            torch's default dtype if it holds whole numbers), an array of a Series or list.

        Raises
        ------
        TypeError
            If ``values`` are no real numbers.
        ValueError
            If their last axis does not hold the scaler's D features.
        """
        values, mean, std = self._alike(values)
        return (values - mean) / std

    def inverse(self, values):
        r"""Undo ``transform``: :math:`x = \sigma x' + \mu`.

        Parameters
        ----------
        values : array or tensor of shape (..., D), Series, list or number
            As for ``transform``.

        Returns
        -------
        array, Tensor or number
            As from ``transform``.

        Raises
        ------
        TypeError, ValueError
            As ``transform`` does.
        """
        values, mean, std = self._alike(values)
        return values * std + mean

    def _alike(self, values):
        """Values, mean and std such that they compute together."""
        mean, std = self.mean, self.std
        if isinstance(values, torch.Tensor):
            if values.dtype == torch.bool or values.is_complex():
                raise TypeError(f"values must be real numbers, got dtype {values.dtype}")
            # statistics of whole numbers are seldom whole
            dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
            like = {"dtype": dtype, "device": values.device}
            mean, std = torch.as_tensor(mean, **like), torch.as_tensor(std, **like)
        else:
            checked = _numbers(values)
            values = checked if isinstance(values, (Series, list, tuple)) else values
        features, shape = np.size(self.mean), tuple(np.shape(values))
        if features > 1 and shape[-1:] != (features,):
            raise ValueError(f"values must be (..., {features}), got shape {shape}")
        return values, mean, std


def _numbers(values, name="values"):
    """Return an array of real numbers, NaN where a mask hides what is below it."""
    values = as_array(values)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be real numbers, got dtype {values.dtype}")
    if np.ma.is_masked(values):
        values = values.astype(np.float64).filled(np.nan)
    return np.asarray(values)


def _finite(values, name="values"):
    values = _numbers(values, name)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{name} must be finite, got {int(bad.sum())} NaN or infinite, the first at index "
            f"{int(np.argwhere(bad)[0][0])}; fill or cut the gaps first"
        )
    return values
