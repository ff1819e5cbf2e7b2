r"""Derivatives from values alone: two witnesses for a gradient that was written by hand.

Central differences work for any smooth function and lose digits by subtraction; the complex step
loses none, and asks for a function that can be computed in complex numbers.

Examples
--------
>>> import numpy as np
>>> from companion.reference.derivatives import central_differences, complex_step
>>> complex_step(lambda a: np.sum(a**3), np.array([1.0, -2.0])).tolist()  # 3 a²
[3.0, 12.0]
>>> central_differences(lambda a: np.sum(a**3), np.array([1.0, -2.0])).round(8).tolist()
[3.0, 12.0]
"""

import numpy as np

from companion._checks import positive


def central_differences(f, array, step=1e-5):
    r"""Differentiate a function by each entry of an array, from its values on both sides.

    .. math:: f'(a) = \frac{f(a + \varepsilon) - f(a - \varepsilon)}{2\varepsilon} +
       O(\varepsilon^2)

    A smaller step makes the formula truer, by :math:`\varepsilon^2`, and leaves fewer digits after
    the subtraction, by :math:`1/\varepsilon`. In double precision about ten digits are the best.

    Parameters
    ----------
    f : callable
        Takes an array like ``array`` and returns one real number.
    array : array of any shape
        Where to differentiate; it is copied, not changed.
    step : float
        :math:`\varepsilon`, for entries up to 1 in size; larger ones get a step in proportion.

    Returns
    -------
    array
        The derivatives, in the shape of ``array``.

    Raises
    ------
    TypeError, ValueError
        If ``array`` does not hold finite real numbers, ``step`` is no positive number, or ``f``
        returns something else than one real number.

    References
    ----------
    Press, Teukolsky, Vetterling and Flannery (2007), Numerical Recipes, section 5.7.

    Examples
    --------
    >>> import numpy as np
    >>> central_differences(lambda a: np.tanh(a[0]) * a[1], np.array([0.0, 2.0])).round(8).tolist()
    [2.0, 0.0]
    """
    array, step = _point(array), positive("step", step)
    derivatives = np.empty_like(array)
    for place, value in np.ndenumerate(array):
        around = []
        for moved in (value + step * max(1, abs(value)), value - step * max(1, abs(value))):
            changed = array.copy()
            changed[place] = moved
            around.append((moved, _number(f(changed), "biuf", "one real number")))
        (above, f_above), (below, f_below) = around
        derivatives[place] = (f_above - f_below) / (above - below)  # eq-derivation-central
    return derivatives


def complex_step(f, array, step=1e-30):
    r"""Differentiate a function by each entry of an array, by a step along the imaginary axis.

    .. math:: f'(a) = \frac{\operatorname{Im} f(a + i\varepsilon)}{\varepsilon} + O(\varepsilon^2)

    Nothing is subtracted, so the step can be so small that the result is as exact as ``f`` itself.

    Parameters
    ----------
    f : callable
        Takes a complex array like ``array`` and returns one complex number, which would be real if
        the array were. It must be made of functions with a complex derivative: no absolute value,
        no real part, no conjugate, which give a wrong answer. Where an entry's size decides, as in
        ReLU, the real part must do so.
    array : array of any shape
        Where to differentiate; it is copied, not changed.
    step : float
        :math:`\varepsilon`.

    Returns
    -------
    array
        The derivatives, in the shape of ``array``.

    Raises
    ------
    TypeError, ValueError
        If ``array`` does not hold finite real numbers, ``step`` is no positive number, or ``f``
        does not return one complex number.

    References
    ----------
    Squire and Trapp (1998), SIAM Review 40, 110-112. Martins, Sturdza and Alonso (2003), ACM
    Transactions on Mathematical Software 29, 245-262.

    Examples
    --------
    >>> import numpy as np
    >>> complex_step(lambda a: np.tanh(a[0]) * a[1], np.array([0.0, 2.0])).tolist()
    [2.0, 0.0]
    """
    array, step = _point(array), positive("step", step)
    derivatives = np.empty_like(array)
    for place in np.ndindex(array.shape):
        changed = array.astype(complex)
        changed[place] += 1j * step
        value = _number(f(changed), "c", "one complex number (is a part of it cut off?)")
        derivatives[place] = value.imag / step  # eq-derivation-complex
    return derivatives


def _point(array):
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"array must hold real numbers, got dtype {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"array must be finite, got {array[~np.isfinite(array)].flat[0]}")
    return array.astype(float)


def _number(value, kinds, expectation):
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in kinds:
        raise TypeError(f"f must return {expectation}, got dtype {value.dtype}, {value.shape}")
    return value.item()
