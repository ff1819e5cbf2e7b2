"""companion.reference.derivatives: against derivatives from the table, and their errors."""

import numpy as np
import pytest

from companion.reference.derivatives import central_differences, complex_step

A = np.array([[0.3, -1.2], [2.0, 3.0]])
BOTH = pytest.mark.parametrize(
    ("derivative", "tolerance"), [(central_differences, 1e-9), (complex_step, 1e-15)]
)


@BOTH
@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (np.tanh, lambda a: 1 / np.cosh(a) ** 2),
        (np.sin, np.cos),
        (lambda a: a**3, lambda a: 3 * a**2),
        (lambda a: 1 / (1 + a * a), lambda a: -2 * a / (1 + a * a) ** 2),
    ],
)
def test_slopes_from_the_table(derivative, tolerance, f, slope):
    weights = np.array([[1.0, -2.0], [0.5, 3.0]])  # each entry its own
    got, expected = derivative(lambda a: np.sum(f(a) * weights), A), slope(A) * weights
    assert got.shape == A.shape
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


@BOTH
def test_relu_away_from_its_kink(derivative, tolerance):
    got = derivative(lambda a: np.sum(np.maximum(a, 0.0)), A)
    np.testing.assert_allclose(got, A > 0, atol=tolerance)


@BOTH
def test_the_array_stays_as_it_was_and_single_precision_is_lifted(derivative, tolerance):
    array = A.astype(np.float32)
    got = derivative(lambda a: np.sum(a * a), array)
    assert got.dtype == np.float64 and array.dtype == np.float32
    np.testing.assert_array_equal(array, A.astype(np.float32))
    np.testing.assert_allclose(got, 2 * array.astype(float), rtol=1e-8)


@BOTH
def test_whole_numbers_and_a_single_number_will_do(derivative, tolerance):
    assert derivative(lambda a: a**2, 3) == pytest.approx(6)
    assert derivative(lambda a: a**2, 10**8) == pytest.approx(2e8, rel=1e-9)  # a step in proportion
    assert derivative(lambda a: np.sum(a**2), np.array([3, 1])).round(6).tolist() == [6, 2]


def test_the_step_decides_how_exact_it_is():
    """Errors as the formulas say: ε² f'''/6 above, rounding below; none for the complex step."""
    f, a, slope, third = np.exp, np.array(1.0), np.e, np.e
    wide = central_differences(f, a, step=1e-2) - slope
    assert wide == pytest.approx(third * 1e-4 / 6, rel=1e-3)
    assert 1e-9 < abs(central_differences(f, a, step=1e-12) - slope) < 1e-2
    for step in (1e-10, 1e-100, 1e-200):
        assert abs(complex_step(f, a, step) - slope) < 1e-15


@BOTH
def test_bad_arguments_are_named(derivative, tolerance):
    with pytest.raises(TypeError, match="array must hold real numbers, got dtype complex128"):
        derivative(np.sum, A + 1j)
    with pytest.raises(ValueError, match="array must be finite, got nan"):
        derivative(np.sum, np.array([1.0, np.nan]))
    for step in (0, -1e-5, np.inf):
        with pytest.raises(ValueError, match="step must be positive and finite"):
            derivative(np.sum, A, step)
    with pytest.raises(TypeError, match="step must be a number"):
        derivative(np.sum, A, "small")
    with pytest.raises(TypeError, match=r"f must return one .* number.*\(2, 2\)"):
        derivative(lambda a: a, A)


def test_a_function_that_drops_the_imaginary_part_is_noticed():
    with pytest.raises(TypeError, match="one complex number .* got dtype float64"):
        complex_step(lambda a: np.sum(np.abs(a)), A)
    with pytest.raises(TypeError, match="one real number"):
        central_differences(lambda a: np.sum(a * 1j), A)
