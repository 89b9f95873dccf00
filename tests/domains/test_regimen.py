"""Regimens are in order of time, of equal lengths and of finite numbers; frames and regimens are heeded or refused."""

import numpy as np
import pandas as pd
import pytest

from metaest import TaskError
from metaest_domains.physiology import Regimen


def test_doses_in_any_order_are_one_regimen_where_sorting_is_asked_for():
    in_order = Regimen([0.0, 5.0, 12.0], [100.0, 50.0, 80.0], [1.0, 0.0, 2.0])
    turned = Regimen.sorted([12, 0, 5], [80, 100, 50], [2, 1, 0])
    assert turned == in_order
    assert hash(turned) == hash(in_order)
    pd.testing.assert_frame_equal(in_order.rows([3.0, 20.0]), turned.rows([3.0, 20.0]))
    with pytest.raises(ValueError, match="dose 2 at 5 comes after one at 12; Regimen.sorted"):
        Regimen([0, 12, 5], [100, 80, 50])


def test_one_number_stands_for_all_doses():
    same = Regimen([0.0, 12.0], 320.0)
    np.testing.assert_array_equal(same.amount, [320, 320])
    np.testing.assert_array_equal(same.duration, [0, 0])
    np.testing.assert_array_equal(same.rows([1.0]), Regimen.repeated(320.0, 12.0, 2).rows([1.0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Regimen([0.0, 12.0, 24.0], [320.0, 320.0]), "3 times of doses, but 2 in amount"),
        (lambda: Regimen([0.0, 12.0], [320.0, 320.0], [1.0]), "2 times of doses, but 1 in duration"),
        (lambda: Regimen([0.0], [320.0, 320.0]), "1 times of doses, but 2 in amount"),
        (lambda: Regimen([0.0, np.nan], 320.0), "time: value 1 is missing"),
        (lambda: Regimen([0.0, -12.0], 320.0), "time must be at least 0, got -12"),
        (lambda: Regimen([0.0], [np.inf]), "amount: value 0 is inf"),
        (lambda: Regimen([0.0], [320.0], [-1.0]), "duration must be at least 0, got -1"),
        (lambda: Regimen([0.0], [True]), "amount: True and False were passed"),
        (lambda: Regimen([0.0], ["320 mg"]), "amount: value 0 is '320 mg'"),
        (lambda: Regimen([[0.0]], [320.0]), "time: one row of numbers is wanted"),
        (lambda: Regimen(pd.to_timedelta([0, 12], unit="h"), 320.0), "time: time differences were passed"),
        (lambda: Regimen([pd.Timestamp("2024-01-01")], 320.0), "time: dates were passed"),
        (lambda: Regimen([0.0], 320.0).rows(pd.to_timedelta([2], unit="h")), "times: time differences were passed"),
        (lambda: Regimen([0.0], 320.0).rows([np.nan]), "times: value 0 is missing"),
        (lambda: Regimen([], []), "needs at least one dose above 0"),
        (
            lambda: Regimen([0.0], 320.0, 0.0, {"weight": np.nan}),
            "finite numbers by name, 'weight': a finite number is wanted, got nan",
        ),
        (
            lambda: Regimen([0.0], 320.0, 0.0, {"weight": "72 kg"}),
            "finite numbers by name, 'weight': a finite number is wanted, got '72 kg'",
        ),
        (lambda: Regimen([0.0], 320.0, 0.0, {"dialysis": True}), "by name, 'dialysis': 0 or 1 is wanted, got True"),
        (lambda: Regimen([0.0], 320.0, 0.0, 72.0), "covariates must be a dict"),
        (lambda: Regimen.repeated(320.0, 12.0, n=2.5), "n must be a whole number of doses, at least 1, got 2.5"),
        (lambda: Regimen.repeated(320.0, 12.0, n=True), "n must be a whole number"),
        (
            lambda: Regimen.repeated(320.0, [6.0, 12.0], n=3),
            "repeated doses: interval: a number of at least 0 is wanted",
        ),
        (
            lambda: Regimen.repeated(320.0, np.nan, n=3),
            "interval: a number of at least 0 is wanted, got nan",
        ),
    ],
)
def test_what_is_no_regimen_is_refused(make, message):
    with pytest.raises((ValueError, TaskError), match=message):
        make()


def test_a_regimen_completes_its_covariates_from_the_patient_or_says_what_it_lacks():
    regimen = Regimen.repeated(320.0, 12.0, 2, weight=60.0)
    assert regimen.completed(["age", "weight"], {"weight": 90.0, "age": 40.0}).covariates == {
        "age": 40.0,
        "weight": 60.0,
    }
    with pytest.raises(ValueError, match="fitted on the covariate 'age', and no value is given"):
        regimen.completed(["age", "weight"])
    with pytest.raises(ValueError, match="has the covariate 'weight', which the model was not fitted on; it has none"):
        regimen.completed([])
    with pytest.raises(ValueError, match="'weight', which the model was not fitted on; it has 'wt'"):
        regimen.completed(["wt"], {"wt": 70.0})
