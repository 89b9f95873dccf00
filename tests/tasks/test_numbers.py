"""One row of numbers is the same whatever container it comes in; what is no number is refused in our own words."""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from metaest import TaskError
from metaest.tasks.containers import plain
from metaest.tasks.numbers import as_number, as_one_or_more, as_rows, as_vector
from metaest.tasks.times import elapsed, time_kind

NUMBERS = [2.5, 3.0, -1.0]
CONTAINERS = {
    "tuple": tuple(NUMBERS),
    "float32": np.array(NUMBERS, dtype=np.float32),
    "big-endian": np.array(NUMBERS, dtype=">f8"),
    "not contiguous": np.array([[v, 0] for v in NUMBERS])[:, 0],
    "objects": np.array(NUMBERS, dtype=object),
    "decimals": [Decimal("2.5"), Fraction(3), -1],
    "unmasked": np.ma.array(NUMBERS),
    "series": pd.Series(NUMBERS, index=[7, 8, 9]),
    "index": pd.Index(NUMBERS),
    "nullable": pd.Series(NUMBERS, dtype="Float64"),
    "pandas of pyarrow": pd.Series(NUMBERS, dtype="double[pyarrow]"),
    "column of a frame": pd.DataFrame({"a": NUMBERS}),
    "polars": pl.Series(NUMBERS),
    "polars frame": pl.DataFrame({"a": NUMBERS}),
    "pyarrow": pa.array(NUMBERS),
    "pyarrow chunks": pa.chunked_array([NUMBERS[:1], NUMBERS[1:]]),
    "tensor": torch.tensor(NUMBERS),
    "bfloat16": torch.tensor(NUMBERS, dtype=torch.bfloat16),
}
MISSING = {
    "None": [1.0, None],
    "NaN": np.array([1.0, np.nan]),
    "masked": np.ma.array([1.0, -999.0], mask=[False, True]),
    "a masked cell of a list": [1.0, np.ma.masked],
    "a masked array in a list": [1.0, np.ma.array(-999.0, mask=True)],
    "masked whole numbers": np.ma.array([1, -999], mask=[False, True]),
    "nullable": pd.Series([1, None], dtype="Int64"),
    "polars": pl.Series([1, None]),
    "pyarrow": pa.array([1.0, None]),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_vector_is_the_same_in_every_container_and_a_copy(name):
    vector = as_vector(CONTAINERS[name], "times")
    np.testing.assert_array_equal(vector, NUMBERS)
    assert vector.dtype == np.float64
    assert vector.flags.writeable
    vector[:] = 0.0
    np.testing.assert_array_equal(as_vector(CONTAINERS[name], "times"), NUMBERS)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.array(2.0), [2], np.array([2.0])])
def test_one_number_is_a_vector_of_one(number):
    np.testing.assert_array_equal(as_one_or_more(number, "times"), [2.0])


@pytest.mark.parametrize("number", [True, np.bool_(True), "2", np.str_("2"), None, np.nan, np.datetime64("2020-01-01")])
def test_what_is_no_number_is_no_vector_of_one(number):
    with pytest.raises(TaskError, match="times: "):
        as_one_or_more(number, "times")


@pytest.mark.parametrize("name", MISSING)
def test_missing_numbers_are_nan_where_they_may_be_and_refused_elsewhere(name):
    np.testing.assert_array_equal(as_vector(MISSING[name], "times", missing=True), [1.0, np.nan])
    with pytest.raises(TaskError, match=r"times: value 1 is (masked|missing)"):
        as_vector(MISSING[name], "times")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "got None"), ("12", "got str"), ({1: 2.0}, "got dict"), ({1.0}, "got set"), (iter([1.0]), "got list_iterator"),
        (3.0, r"shape \(\)"), ([[1.0]], r"shape \(1, 1\)"), ([[1.0], [1.0, 2.0]], "do not form an array"),
        (["1.5", "2"], "value 0 is '1.5'"), ([1.0, "high"], "value 1 is 'high'"), (np.array(["a"]), "text were passed"),
        ([True, False], "True and False"), (np.array([1.0, True], dtype=object), "value 1 is True"), (np.array([1j]), "complex numbers"),
        (pd.to_timedelta([1], unit="h"), "time differences"), ([datetime.date(2020, 1, 1)], "dates"),
        (pl.Series([datetime.timedelta(hours=1)]), "time differences"), (pl.Series([datetime.date(2020, 1, 1)]), "dates"),
        (pa.array([datetime.datetime(2020, 1, 1)]), "dates"), (pd.Series([1, 2]).astype("category"), "categories"),
        ([np.inf], "value 0 is inf"), ([10**400], "beyond what a floating-point number"), ([object()], "a number is wanted"),
        (torch.tensor([1.0], requires_grad=True), r"use detach\(\)"), (torch.eye(2).to_sparse(), r"use to_dense\(\)"),
        (pl.LazyFrame({"a": [1.0]}), r"use collect\(\)"), (pd.DataFrame({"a": [1.0], "b": [2.0]}), "frame of 2 columns"),
    ],
)  # fmt: skip
def test_what_is_no_row_of_numbers_is_refused(values, message):
    with pytest.raises(TaskError, match=message):
        as_vector(values, "times")


def test_one_number_is_checked_against_its_range():
    for value in (3, 3.0, np.float32(3), np.int8(3), np.array(3.0), Fraction(3)):
        assert as_number(value, "dose", above=0) == 3.0
    for value in (
        0,
        -1.0,
        np.nan,
        np.inf,
        None,
        True,
        "3",
        [3.0],
        1j,
        pd.NA,
        np.ma.masked,
        10**400,
        pd.Timedelta("1h"),
    ):
        with pytest.raises(TaskError, match="dose: .*a dose above 0 is wanted"):
            as_number(value, "dose", above=0, wanted="a dose above 0")


def test_dates_and_time_differences_of_polars_and_pyarrow_are_told_from_numbers():
    hours = [datetime.timedelta(hours=h) for h in (1, 3)]
    days = [datetime.datetime(2024, 3, 30, 8), datetime.datetime(2024, 3, 31, 8)]
    for make in (pl.Series, pa.array):
        assert time_kind(make(hours)) == "time differences"
        np.testing.assert_array_equal(elapsed(make(hours), "h"), [1.0, 3.0])
        assert time_kind(make(days)) == "dates"
        np.testing.assert_array_equal(elapsed(make(days), "D"), [0.0, 1.0])
    paris = pl.Series(days).dt.replace_time_zone("Europe/Paris")
    np.testing.assert_array_equal(elapsed(paris, "h"), [0.0, 23.0])  # the clock was put forward that night
    assert str(plain(paris).dt.tz) == "Europe/Paris"


def test_a_masked_time_is_missing():
    times = np.ma.array([0.0, -999.0, 5.0], mask=[False, True, False])
    np.testing.assert_array_equal(elapsed(times), [0.0, np.nan, 5.0])
    with pytest.raises(TaskError, match="numbers, time differences or dates are wanted"):
        elapsed([True, False])


def test_what_is_masked_within_a_list_of_rows_is_missing():
    with pytest.raises(TaskError, match="doses: column 1 is nan in row 0"):
        as_rows([np.ma.array([1.0, -999.0], mask=[False, True]), [3.0, 4.0]], 2, "doses")
    with pytest.raises(TaskError, match=r"dose: a finite number is wanted, got a masked value\."):
        as_number(np.ma.array(-999.0, mask=True), "dose")
    with pytest.raises(TaskError, match="doses is a torch tensor that carries gradients.*detach"):
        as_vector([torch.tensor(1.0, requires_grad=True)], "doses")
