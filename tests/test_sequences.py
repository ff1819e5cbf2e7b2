"""The real series, windows, parts in time order, scaling and baselines."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from statsmodels import datasets
from statsmodels.tsa.ar_model import AutoReg

from companion.sequences import (
    Autoregression,
    Climatology,
    Scaler,
    Series,
    co2,
    elnino,
    outcomes,
    persistence,
    split,
    split_slices,
    sunspots,
    windows,
)


@pytest.mark.parametrize(
    ("load", "length", "first", "last", "unit", "step"),
    [
        (co2, 2284, "1958-03-29", "2001-12-29", "ppmv", "week"),
        (sunspots, 309, "1700-01-01", "2008-01-01", "sunspot number", "year"),
        (elnino, 732, "1950-01-01", "2010-12-01", "°C", "month"),
    ],
)
def test_series_say_what_they_are(load, length, first, last, unit, step):
    series = load()
    assert (len(series), series.unit, series.step) == (length, unit, step)
    assert series.dates[[0, -1]].tolist() == np.array([first, last], "datetime64[D]").tolist()
    assert series.values.dtype == np.float64 and np.isfinite(series.values).all()
    assert "statsmodels" in series.source and series.licence == "public domain"
    for part in (series.name, str(length), unit, step, first, last):
        assert part in repr(series)
    # dates are evenly spaced in their own step
    whole = {"week": "D", "month": "M", "year": "Y"}[step]
    steps = np.diff(series.dates.astype(f"datetime64[{whole}]").astype(int))
    assert set(steps) == {7 if step == "week" else 1}


def test_elnino_is_the_table_row_by_row():
    table = datasets.elnino.load_pandas().data
    series = elnino()
    for year, month, name in ((1950, 1, "JAN"), (1983, 6, "JUN"), (2010, 12, "DEC")):
        here = series.dates == np.datetime64(f"{year}-{month:02d}-01")
        assert here.sum() == 1
        assert series.values[here] == table.loc[table.YEAR == year, name].to_numpy()


def test_sunspots_are_the_table():
    table = datasets.sunspots.load_pandas().data
    series = sunspots()
    assert series.values.tolist() == table["SUNACTIVITY"].tolist()
    assert series.dates.astype("datetime64[Y]").astype(int).tolist() == list(
        table["YEAR"].astype(int) - 1970
    )


def test_gaps_of_co2_are_a_choice():
    kept, filled, dropped = co2(gaps="keep"), co2(), co2(gaps="drop")
    missing = np.isnan(kept.values)
    assert missing.sum() == 59 and "59 missing" in repr(kept)
    np.testing.assert_array_equal(filled.values[~missing], kept.values[~missing])
    # 1958-05-10 lies between 316.9 and 317.5; 1958-05-31 to 06-28 are five weeks: sixths
    assert filled.values[6] == pytest.approx(317.2)
    low, high = kept.values[8], kept.values[14]
    np.testing.assert_allclose(filled.values[9:14], low + (high - low) * np.arange(1, 6) / 6)
    # dropping breaks the even spacing, and the series says so
    assert len(dropped) == 2284 - 59 and dropped.step != "week"
    assert set(np.diff(filled.dates).astype(int)) == {7}
    assert np.diff(dropped.dates).astype(int).max() > 7
    with pytest.raises(ValueError, match="gaps must be one of .*'drop', got 'ignore'"):
        co2(gaps="ignore")


def test_series_cannot_be_written_and_slices_with_its_dates():
    series = elnino()
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 0
    year = series[12:24]
    assert isinstance(year, Series) and len(year) == 12 and year.unit == "°C"
    assert str(year.dates[0]) == "1951-01-01" and year.values[0] == series.values[12]
    for index in (3, slice(0, 10, 2)):
        with pytest.raises(TypeError, match="slices without a step"):
            series[index]
    for again in (pickle.loads(pickle.dumps(year)), copy.deepcopy(year), copy.copy(year)):
        assert repr(again) == repr(year) and again.values.tolist() == year.values.tolist()
        assert not again.values.flags.writeable and not again.dates.flags.writeable
    with pytest.raises(ValueError, match=r"\(T,\), got \(2,\) and \(1,\)"):
        Series("a", [1, 2], ["2000-01-01"], "", "day", "", "")


series_shapes = st.tuples(
    st.integers(1, 60), st.integers(1, 12), st.integers(1, 8), st.integers(1, 5), st.integers(0, 3)
)


@given(series_shapes)
def test_windows_are_what_slicing_gives(shape):
    steps, length, horizon, stride, features = shape
    values = np.arange(float(steps * max(1, features)))
    values = values.reshape(steps, features) if features else values
    if steps < length + horizon:
        with pytest.raises(ValueError, match=rf"{length} \+ {horizon} = .* got {steps}$"):
            windows(values, length, horizon, stride)
        return
    inputs, targets, origins = windows(values, length, horizon, stride)
    starts = range(0, steps - length - horizon + 1, stride)
    assert inputs.shape == (length, len(starts), max(1, features))
    assert targets.shape == (horizon, len(starts), max(1, features))
    for number, start in enumerate(starts):
        cut = start + length
        expected = values[start:cut].reshape(length, -1), values[cut : cut + horizon]
        np.testing.assert_array_equal(inputs[:, number], expected[0])
        np.testing.assert_array_equal(targets[:, number], expected[1].reshape(horizon, -1))
        np.testing.assert_array_equal(values[origins[number]], values[cut - 1])
        assert origins[number] == cut - 1


def test_windows_of_a_long_series_take_no_memory():
    values = np.zeros(1_000_000)
    tracemalloc.start()
    inputs, targets, _ = windows(values, length=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert inputs.nbytes > 7e9  # what copies would take
    assert peak < 5e7
    assert np.shares_memory(inputs, values) and np.shares_memory(targets, values)


def test_windows_refuse_what_they_cannot_cut():
    with pytest.raises(ValueError, match="values must be finite, got 2 NaN.* first at index 3"):
        windows([0, 1, 2, np.nan, np.inf, 5], 2)
    with pytest.raises(ValueError, match="59 NaN"):
        windows(co2(gaps="keep"), 52)
    with pytest.raises(ValueError, match=r"\(T, D\) .* got shape \(9, 2, 2\)"):
        windows(np.zeros((9, 2, 2)), 2)
    for name in ("length", "horizon", "stride"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            windows(np.zeros(9), **({"length": 2} | {name: 0}))
    with pytest.raises(TypeError, match="length must be a whole number, got 2.0"):
        windows(np.zeros(9), 2.0)
    with pytest.raises(ValueError, match=r"D at least 1, got shape \(9, 0\)"):
        windows(np.zeros((9, 0)), 2)
    with pytest.raises(ValueError, match="values must be finite, got 1 NaN.* first at index 2"):
        windows(np.ma.masked_equal([3, 4, -999, 5], -999), 2)


@pytest.mark.parametrize(
    "values",
    [["a"] * 9, None, [1, 2, None], np.zeros(9, "datetime64[D]"), [1j] * 9, [True] * 9],
)
def test_what_is_no_number_is_named(values):
    for call in (
        lambda: windows(values, 2),
        lambda: Autoregression.fit(values, 1),
        lambda: Climatology.fit(values, 1),
        lambda: outcomes(values, [0], 1),
        lambda: Scaler.fit(values),
        lambda: Scaler(0.0, 1.0).transform(values),
        lambda: Scaler(0.0, 1.0).inverse(values),
    ):
        with pytest.raises(TypeError, match="(values|train) must be real numbers, got dtype"):
            call()


def test_tensors_with_a_gradient_are_read():
    values = torch.tensor([1.0, 2.0, 4.0, 5.0], requires_grad=True)
    assert windows(values, 2).targets.ravel().tolist() == [4, 5]
    assert Scaler.fit(values).mean == 3 and split(values, 0.5, 0.25).test.tolist() == [5]
    assert persistence(values, [1], 2).tolist() == [[2], [2]]


def test_gaps_that_are_masked_are_not_data():
    values = np.ma.masked_equal([3, 4, -999, 5], -999)
    assert split(values, 0.75, 0).train.mask.tolist() == [False, False, True]
    assert np.isnan(persistence(values, [2], 1)).all()
    assert persistence(values, [1], 1).tolist() == [[4]]


@given(
    st.integers(1, 300),
    st.floats(0.01, 0.98),
    st.floats(0, 0.98),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_parts_are_in_time_order_and_apart(steps, train, validation, gap, lead_in):
    try:
        parts = split_slices(steps, train, validation, gap)
    except ValueError:
        return  # which arguments those are, the next tests say
    indices = [np.arange(steps)[part] for part in parts]
    filled = [index for index in indices if len(index)]
    assert len(filled) == (3 if validation else 2)
    assert filled[0][0] == 0 and filled[-1][-1] == steps - 1
    for earlier, later in zip(filled, filled[1:], strict=False):
        assert later[0] - earlier[-1] == gap + 1
    assert len(indices[0]) <= train * steps + 1e-6

    if filled[1][0] >= lead_in:
        values = np.arange(steps) * 2.0
        ahead = split(values, train, validation, gap, lead_in=lead_in)
        np.testing.assert_array_equal(ahead.train, values[indices[0]])
        for own, part in zip(indices[1:], ahead[1:], strict=True):
            if len(own):
                np.testing.assert_array_equal(part, values[own[0] - lead_in : own[-1] + 1])
                if lead_in:  # every step of the part is a target, and no other is
                    targets = windows(part, length=lead_in).targets[0, :, 0]
                    np.testing.assert_array_equal(targets, values[own])


def test_default_parts_of_a_round_number():
    # 0.29 * 100 and (0.1 + 0.7) * 10 come out below 29 and 8 in floating point
    assert split_slices(100) == (slice(0, 70), slice(70, 85), slice(85, 100))
    assert split_slices(100, 0.29).train == slice(0, 29)
    assert split_slices(10, 0.1, 0.7) == (slice(0, 1), slice(1, 8), slice(8, 10))
    # an empty validation part asks for no lead-in: only the test part, at 5 + 3, does
    assert split_slices(10, 0.5, 0, gap=3, lead_in=7) == (slice(0, 5), slice(5, 5), slice(1, 10))
    assert split_slices(10, 0.7, 0.1) == (slice(0, 7), slice(7, 8), slice(8, 10))
    many = 10**8  # what floating point loses grows with the number of steps
    assert [part.stop for part in split_slices(many, 0.29, 0.1)] == [29 * 10**6, 39 * 10**6, many]
    parts = split(elnino())
    assert [len(part) for part in parts] == [512, 110, 110]  # 512.4, 622.2 of 732
    assert parts.test.dates[-1] == elnino().dates[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0.0}, "shares.* got 0.0 and 0.15"),
        ({"train": 0.9, "validation": 0.1}, "shares.* got 0.9 and 0.1"),
        ({"train": 0.9, "validation": -0.1}, "shares"),
        ({"gap": -1}, "gap must be at least 0, got -1"),
        ({"gap": 3}, "the validation part must keep at least one step, got 0 of 20 steps"),
        ({"train": 0.01}, "the train part must keep"),
        ({"lead_in": 15}, "lead_in must be at most 14, the steps before the validation"),
    ],
)
def test_impossible_parts(arguments, message):
    with pytest.raises(ValueError, match=message):
        split(np.arange(20), **arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: split(np.arange(9), train="a"), TypeError, "train must be a number, got 'a'"),
        (lambda: split(np.arange(9), validation=True), TypeError, "validation must be a number"),
        (lambda: split(5.0), ValueError, r"values must be \(T, ...\), got shape \(\)"),
        (lambda: split_slices("a"), TypeError, "steps must be a whole number, got 'a'"),
        (lambda: split_slices(1.5), TypeError, "steps must be a whole number, got 1.5"),
    ],
)
def test_wrong_kinds_of_shares_and_steps(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_scaler_by_hand_and_back():
    train = np.array([[1.0, 10.0], [3.0, 10.0]])
    scaler = Scaler.fit(train)
    assert scaler.mean.tolist() == [2, 10] and scaler.std.tolist() == [1, 1]  # constant: 1
    assert scaler.transform(np.array([[4.0, 11.0]])).tolist() == [[2, 1]]
    later = np.random.default_rng(0).normal(size=(5, 4, 2))
    np.testing.assert_allclose(scaler.inverse(scaler.transform(later)), later, rtol=1e-14)
    # 0.1 summed up and divided leaves a deviation of 1e-17 by rounding
    assert Scaler.fit(np.full(1001, 0.1)).std == 1
    moved = Scaler.fit(elnino()[:512]).transform(elnino()[:512])
    assert moved.mean() == pytest.approx(0, abs=1e-12) and moved.std() == pytest.approx(1)


def test_scaler_keeps_a_tensors_dtype():
    for scaler in (Scaler.fit([1.0, 3.0]), Scaler.fit(np.array([[1.0], [3.0]]))):
        moved = scaler.transform(torch.tensor([[5.0]]))
        assert moved.dtype == torch.float32 and moved.tolist() == [[3.0]]
        assert scaler.inverse(moved).tolist() == [[5.0]]


def test_scaler_of_integers_has_fractions():
    scaler = Scaler.fit([1.0, 2.0, 4.0])  # mean 7/3, variance 21/3 - 49/9 = 14/9
    expected = (np.array([1, 2, 4]) - 7 / 3) / np.sqrt(14 / 9)
    for dtype in (torch.int64, torch.uint8, torch.int32):
        moved = scaler.transform(torch.tensor([1, 2, 4], dtype=dtype))
        assert moved.dtype == torch.float32
        np.testing.assert_allclose(moved, expected, rtol=1e-6)
        back = scaler.inverse(torch.tensor([0, 1], dtype=dtype))
        np.testing.assert_allclose(back, [7 / 3, 7 / 3 + np.sqrt(14 / 9)], rtol=1e-6)
    np.testing.assert_allclose(scaler.transform(np.array([1, 2, 4])), expected)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert scaler.transform(torch.ones(2, dtype=dtype)).dtype == dtype


def test_scaler_counts_in_double_precision():
    values = np.random.default_rng(0).normal(1e6, 1, size=(100_000, 1)).astype(np.float32)
    scaler, exact = Scaler.fit(values), values.astype(np.float64)
    assert scaler.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert scaler.std == pytest.approx(exact.std(), rel=1e-9)
    scaler = Scaler.fit(np.full((1000, 1), 60000, np.float16) * np.float16([[1], [-1]] * 500))
    assert scaler.mean == 0 and scaler.std == 60000 - 60000 % 32  # 16 bits step by 32 there
    assert Scaler.fit(torch.ones(3, 2, requires_grad=True)).mean.dtype == np.float64


def test_scaler_takes_lists_and_series_both_ways():
    scaler, series = Scaler.fit(np.array([[1.0, 10.0], [3.0, 20.0]])), elnino()
    assert scaler.transform([[4, 20]]).tolist() == [[2, 1]]
    assert scaler.inverse([[2, 1]]).tolist() == [[4, 20]]
    one = Scaler.fit(series)
    moved = one.transform(series)
    np.testing.assert_allclose(one.inverse(moved), series.values)
    np.testing.assert_allclose(one.inverse(series), series.values * one.std + one.mean)
    for call in (scaler.transform, scaler.inverse):
        for values in (np.ones((4, 1)), torch.ones(4, 1), np.ones(3), 5.0):
            with pytest.raises(ValueError, match=r"values must be \(..., 2\), got shape"):
                call(values)


def test_scaler_refuses_gaps_and_nothing():
    with pytest.raises(ValueError, match="train must be finite, got 1 NaN"):
        Scaler.fit([1.0, np.nan])
    with pytest.raises(ValueError, match=r"train must be \(T,\) or \(..., D\), got shape \(\)"):
        Scaler.fit(5.0)
    for values in (True, np.array([True]), torch.tensor([True]), torch.ones(1, dtype=torch.cfloat)):
        with pytest.raises(TypeError, match="values must be real numbers, got dtype"):
            Scaler(0.0, 1.0).transform(values)
    with pytest.raises(ValueError, match="at least one value"):
        Scaler.fit([])


def test_seasonal_and_constant_forecasts_by_hand():
    values = [1, 2, 3, 5, 6, 7, 9]  # period 3: means of 1, 5, 9; of 2, 6; of 3, 7
    climate = Climatology.fit(values, period=3)
    assert climate.means.tolist() == [5, 4, 5]
    assert climate.forecast(values, [0, 5], 2).tolist() == [[4, 5], [5, 4]]
    assert persistence(values, [0, 5], 2).tolist() == [[1, 7], [1, 7]]
    assert outcomes(values, [0, 4], 2).tolist() == [[2, 7], [3, 9]]
    with pytest.raises(ValueError, match="origins must lie from 0 to 4, got 0 to 5"):
        outcomes(values, [0, 5], 2)
    with pytest.raises(ValueError, match="origins must lie from 0 to 6, got -1 to 2"):
        persistence(values, [-1, 2], 2)
    with pytest.raises(ValueError, match="period of 12 steps, got 7"):
        Climatology.fit(values)
    with pytest.raises(ValueError, match="horizon must be at most 6 for 7 values, got 30"):
        outcomes(values, [0], 30)


def test_no_origins_give_no_forecasts():
    values = [1.0, 2.0, 4.0, 8.0]
    for forecast in (
        lambda origins: outcomes(values, origins, 2),
        lambda origins: persistence(values, origins, 2),
        lambda origins: Climatology.fit(values, 2).forecast(values, origins, 2),
        lambda origins: Autoregression.fit(values, 1).forecast(values, origins, 2),
    ):
        assert forecast([]).shape == forecast(np.array([], dtype=int)).shape == (2, 0)
        with pytest.raises(ValueError, match="origins must be whole numbers"):
            forecast([[]])


def test_climatology_of_months_is_the_mean_of_each_month():
    series = elnino()
    table = datasets.elnino.load_pandas().data
    train = series[: 40 * 12]
    means = Climatology.fit(train).means
    np.testing.assert_allclose(means, table.iloc[:40, 1:].to_numpy().mean(0), rtol=1e-14)


@pytest.mark.parametrize("order", [1, 24])
def test_autoregression_forecasts_as_statsmodels_does(order):
    series = elnino().values
    fitted = AutoReg(series[:512], lags=order).fit()
    model = Autoregression.fit(series[:512], order)
    origins = np.array([order - 1, 300, 511, 600, 731])
    forecast = model.forecast(series, origins, horizon=12)
    assert forecast.shape == (12, 5)
    for column, origin in enumerate(origins):
        known = AutoReg(series[: origin + 1], lags=order) if origin > 100 else None
        if known is None:  # too short for statsmodels: let it forecast from inside
            known = AutoReg(series, lags=order)
        expected = known.predict(fitted.params, origin + 1, origin + 12, dynamic=0)
        np.testing.assert_allclose(forecast[:, column], expected, rtol=1e-12)


def test_autoregression_does_not_look_ahead_and_says_what_it_needs():
    series = elnino().values
    model = Autoregression.fit(series[:512], 6)
    changed = series.copy()
    changed[601:] = 99
    np.testing.assert_array_equal(
        model.forecast(series, [600], 3), model.forecast(changed, [600], 3)
    )
    with pytest.raises(ValueError, match="origins must lie from 5 to 731, got 4 to 4"):
        model.forecast(series, [4], 3)
    with pytest.raises(ValueError, match=r"2 \* order \+ 1 = 13 steps, got 12"):
        Autoregression.fit(series[:12], 6)
    with pytest.raises(ValueError, match="train must be finite, got 59"):
        Autoregression.fit(co2(gaps="keep"), 6)
    with pytest.raises(ValueError, match=r"\(T,\), got shape \(61, 12\)"):
        persistence(series.reshape(61, 12), [3], 2)
    with pytest.raises(ValueError, match="origins must be whole numbers"):
        model.forecast(series, [5.0], 3)
