"""Dates and time differences as numbers of one unit, and what is refused."""

import datetime

import numpy as np
import pandas as pd
import pytest

from metaest import MAMLRegressor, Task, TaskError, TaskSet
from metaest.tasks.times import elapsed, numbers_only, time_kind

HOURS = np.array([0.0, 0.25, 7.5, 96.0])


@pytest.mark.parametrize("stored", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(("unit", "factor"), [("s", 3600.0), ("min", 60.0), ("h", 1.0), ("D", 1 / 24)])
def test_differences_and_dates_do_not_depend_on_their_resolution(stored, unit, factor):
    differences = pd.Series(pd.to_timedelta(HOURS, unit="h").astype(f"timedelta64[{stored}]"))
    dates = pd.Series(pd.Timestamp("2024-03-30 22:00") + differences).astype(f"datetime64[{stored}]")
    forms = (differences, differences.to_numpy(), differences.astype(object), list(differences),
             [value.to_pytimedelta() for value in differences], dates, dates.dt.tz_localize("UTC"), list(dates),
             [value.to_pydatetime() for value in dates])  # fmt: skip
    for form in forms:
        np.testing.assert_allclose(elapsed(form, unit), HOURS * factor, rtol=1e-15)


def test_whole_hours_are_exact():
    whole = np.arange(2000.0)
    np.testing.assert_array_equal(elapsed(pd.to_timedelta(whole, unit="h"), "h"), whole)


def test_numbers_stay_and_missing_values_are_nan():
    np.testing.assert_array_equal(elapsed([1, 2.5, None]), [1, 2.5, np.nan])
    np.testing.assert_array_equal(elapsed(pd.Series([1, None], dtype="Int64")), [1, np.nan])
    np.testing.assert_array_equal(elapsed(pd.to_timedelta(["1h", None])), [1, np.nan])
    np.testing.assert_array_equal(elapsed(pd.to_datetime(["2024-01-01", None, "2024-01-02"])), [0, np.nan, 24])
    assert np.isnan(elapsed(pd.to_datetime([None, None]))).all()


@pytest.mark.parametrize("dtype", ["timedelta64[h]", "datetime64[h]"])
def test_masked_differences_and_dates_are_missing(dtype):
    masked = np.ma.array(np.array([0, 5, 900], dtype=dtype), mask=[False, False, True])
    np.testing.assert_array_equal(elapsed(masked), [0, 5, np.nan])
    np.testing.assert_array_equal(elapsed([*masked.data.astype(object)[:2], np.ma.masked]), [0, 5, np.nan])


def test_a_change_of_the_clocks_counts_no_hour_twice():
    local = pd.date_range("2024-03-30 12:00", periods=3, freq="12h", tz="Europe/Berlin")
    np.testing.assert_array_equal(elapsed(local), [0, 12, 24])
    clock = pd.to_datetime(["2024-03-31 00:00", "2024-03-31 12:00"]).tz_localize("Europe/Berlin")
    np.testing.assert_array_equal(elapsed(clock), [0, 11])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-03-30 08:00"], r"holds the text '2024-03-30 08:00'.*pd.to_datetime"),
        ([1.0, pd.Timedelta("1h")], "must be of one kind"),
        ([pd.Timestamp("2024-01-01"), pd.Timedelta("1h")], "must be of one kind"),
        ([pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-01", tz="UTC")], "with a time zone and dates without"),
        ([datetime.time(8, 30)], "times of day without a date"),
        (pd.period_range("2024-01", periods=2, freq="M"), "holds periods; to_timestamp"),
        (np.array([1, 2], dtype="timedelta64[M]"), "no fixed length"),
    ],
)
def test_what_is_no_time_is_refused(values, message):
    with pytest.raises(TaskError, match=f"(?s)column 'time'.*{message}"):
        elapsed(values, where="column 'time'")
    if "text" not in message:
        assert time_kind(values)


def test_unknown_units_are_refused():
    with pytest.raises(TaskError, match="time_unit must be one of 'ms', 's', 'min', 'h', 'D', got 'hours'"):
        elapsed([1.0], "hours")


DIFFERENCES = pd.to_timedelta([1, 2, 3], unit="h")
TIMES = [
    DIFFERENCES.to_numpy(), list(DIFFERENCES), list(DIFFERENCES.to_numpy()), DIFFERENCES.astype(object).to_numpy(),
    [datetime.timedelta(hours=h) for h in (1, 2, 3)], list(pd.date_range("2024-01-01", periods=3)),
    np.array(["2024-01-01"] * 3, dtype="datetime64[D]"),
]  # fmt: skip


@pytest.mark.parametrize("times", TIMES)
def test_rows_and_targets_refuse_dates_and_time_differences(times):
    column = [[time] for time in times] if isinstance(times, list) else times[:, None]
    numbers = np.arange(3.0)
    for make in (lambda: Task("A", column, numbers), lambda: TaskSet.from_arrays(column, numbers, ["A"] * 3),
                 lambda: Task("A", numbers[:, None], times), lambda: Task("A", numbers[:, None], pd.Series(times))):  # fmt: skip
        with pytest.raises(TaskError, match="(dates|time differences).*numbers are wanted"):
            make()
    frame = pd.DataFrame({"task": "A", "when": times, "y": numbers})
    with pytest.raises(TaskError, match="column 'when' holds (dates|time differences)"):
        TaskSet.from_frame(frame, task="task", target="y")
    with pytest.raises(TaskError, match="column 'when' holds (dates|time differences)"):
        TaskSet.from_frame(frame.astype({"when": object}), task="task", target="y")
    with pytest.raises(TaskError, match="y: column 'when' holds (dates|time differences)"):
        TaskSet.from_frame(frame, task="task", target=["when"])
    with pytest.raises(TaskError, match="times: (dates|time differences) were passed"):
        numbers_only(times, "times")


def test_adapt_and_predict_refuse_time_differences(model: MAMLRegressor):
    wide = [[pd.Timedelta("1h")] * model.n_features_in_]
    with pytest.raises(TaskError, match="time differences"):
        model.adapt(wide, [1.0])
    with pytest.raises(TaskError, match="time differences"):
        model.predict(np.array(wide, dtype="timedelta64[s]"))
