"""Flags of censored values as columns of limits."""

import numpy as np
import pandas as pd
import pytest

from metaest import TaskError
from metaest.tasks import with_limits

RECORDS = pd.DataFrame({
    "DV": [7.0, 0.5, 0.5, 9.0, 4.0], "CENS": [0, 1, 1, -1, -1], "LIMIT": [np.nan, np.nan, 0.1, np.nan, 6.0],
})  # fmt: skip


def test_each_flag_is_its_interval():
    made = with_limits(RECORDS, "DV", "CENS", "LIMIT")
    y, low, high, upper = (made[name].to_numpy() for name in ("DV", "limit_from", "limit", "upper_limit"))
    assert list(made) == ["DV", "limit", "limit_from", "upper_limit"]
    assert (y < high).tolist() == [False, True, True, False, True]
    assert (y > upper).tolist() == [False, False, False, True, False]
    assert (high[[1, 2, 4]].tolist(), low[[2, 4]].tolist(), upper[3]) == ([0.5, 0.5, 6.0], [0.1, 4.0], 9.0)
    assert low[1] < -1e20
    assert y[0] == 7.0


def test_without_the_other_end():
    made = with_limits(RECORDS.drop(columns="LIMIT"), "DV", "CENS")
    assert (made.upper_limit < made.DV).tolist() == [False, False, False, True, True]
    assert (made.limit_from < -1e20).all()


def test_a_frame_without_censored_values_stays_measured():
    made = with_limits(pd.DataFrame({"DV": [1.0, 2.0], "CENS": [0, np.nan]}), "DV", "CENS")
    assert not ((made.limit > made.DV) | (made.upper_limit < made.DV) | (made.limit == made.DV)).any()


@pytest.mark.parametrize(("change", "match"), [
    ({"CENS": [0, 2, 1, -1, -1]}, "row 1: CENS is 2"),
    ({"DV": [7.0, np.nan, 0.5, 9.0, 4.0]}, "row 1: DV is missing, and CENS"),
    ({"LIMIT": [np.nan, 0.6, 0.1, np.nan, 6.0]}, r"row 1: .* below 0.5 \(DV\) and above 0.6 \(LIMIT\): in no interval"),
    ({"LIMIT": [np.nan, np.nan, 0.1, 8.0, 6.0]}, "row 3: .* in no interval"),
    ({"limit": 1.0}, "has a column 'limit' already"),
])  # fmt: skip
def test_what_is_refused(change, match):
    with pytest.raises(TaskError, match=match):
        with_limits(RECORDS.assign(**change), "DV", "CENS", "LIMIT")
