"""Records with further doses equal their doses one by one; columns are there where records need them, or are refused."""

import numpy as np
import pandas as pd
import pytest

from metaest import TaskSet
from metaest.exceptions import TaskError
from metaest_domains.physiology import OneCompartmentRegressor, Regimen, TimeVarying
from metaest_domains.physiology.dose_records import columns_for, covariate_columns


def test_records_with_further_doses_equal_their_doses_one_by_one():
    records = Regimen([0.0, 5.0], [100.0, 30.0], [1.0, 0.0], interval=[12.0, 7.0], number=[3, 2])
    alone = Regimen([0.0, 5.0, 12.0, 12.0, 24.0], [100.0, 30.0, 100.0, 30.0, 100.0], [1.0, 0.0, 1.0, 0.0, 1.0])
    assert records == alone
    assert hash(records) == hash(alone)
    pd.testing.assert_frame_equal(records.rows([3.0, 30.0]), alone.rows([3.0, 30.0]), check_exact=True)


def test_a_restart_ends_further_doses_of_earlier_records():
    restart = {"reset": [0, 1]}, {"steady": [0, 1]}
    for fields in restart:
        records = Regimen([0.0, 24.0], [100.0, 50.0], interval=[12.0, 8.0], number=[4, 1], **fields)
        assert records.time.tolist() == [0.0, 12.0, 24.0]
        assert records.amount.tolist() == [100.0, 100.0, 50.0]
    adding = Regimen([0.0, 24.0], [100.0, 50.0], interval=[12.0, 8.0], number=[4, 1], steady=[0, 2])
    assert adding.time.tolist() == [0.0, 12.0, 24.0, 24.0, 36.0]
    assert adding.amount.tolist() == [100.0, 100.0, 50.0, 100.0, 100.0]


def test_only_the_first_of_further_doses_is_at_steady_state():
    records = Regimen([0.0], 100.0, interval=12.0, number=3, steady=1)
    assert records.steady.tolist() == [1.0, 0.0, 0.0]
    assert records.interval.tolist() == [12.0, 0.0, 0.0]


def test_columns_are_there_where_a_record_of_any_patient_needs_them():
    plain = Regimen([0.0, 12.0], 100.0)
    special = Regimen([0.0], 100.0, rate=50.0, compartment=2, covariates={"crcl": TimeVarying([0, 24], [80, 60])})
    assert plain.plain
    assert not special.plain
    columns = columns_for([plain, special])
    assert columns[7:] == [
        "dose_compartment_1", "dose_compartment_2", "dose_rate_1", "dose_rate_2",
        "crcl_1", "crcl_2", "crcl_time_1", "crcl_time_2",
    ]  # fmt: skip
    assert covariate_columns(columns) == ["crcl"]
    row = special._records_frame(np.array([3.0]), np.array([[True]]), columns).iloc[0]
    assert row["dose_rate_1"] == 50
    assert row["dose_rate_2"] == 0
    later = special._records_frame(np.array([3.0]), np.array([[False]]), columns).iloc[0]
    assert not later[["dose_1", "dose_rate_1", "dose_compartment_1"]].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"number": 2}, "number is 2 in record 1: several doses need an interval above 0"),
        ({"number": 1.5, "interval": 12}, "number is 1.5 in record 1: it must be a whole number of at least 1"),
        ({"steady": 1}, "steady is 1 in record 1: a steady state needs the interval"),
        ({"steady": 3, "interval": 12}, "steady is 3 in record 1: it must be one of 0, 1, 2"),
        ({"reset": 2}, "reset is 2 in record 1: it must be one of 0, 1"),
        ({"compartment": 1.5}, "compartment is 1.5 in record 1: it must be a whole number"),
        ({"rate": 10.0, "duration": 2.0}, "rate is 10 in record 1: the record has a duration as well"),
        ({"number": 200_000, "interval": 1}, "at most 100,000 doses, got 200,000"),
        ({"interval": [1, 2]}, "1 times of doses, but 2 in interval"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Regimen([0.0], 100.0, **fields)


def test_sorting_keeps_the_fields_of_records_and_refuses_others():
    turned = Regimen.sorted([24, 0], [50, 100], interval=[8, 12], steady=[1, 0], number=[1, 4])
    assert turned == Regimen([0.0, 24.0], [100.0, 50.0], interval=[12.0, 8.0], number=[4, 1], steady=[0, 1])
    with pytest.raises(TypeError, match="there is no 'addl'"):
        Regimen.sorted([0], [1], addl=[1])


def test_scaled_doses_last_as_long():
    doubled = Regimen([0.0], 100.0, rate=50.0).scaled(2.0)
    assert doubled.amount[0] / doubled.rate[0] == 2.0


def test_a_covariate_over_time_is_in_order_and_complete():
    path = TimeVarying([0.0, 24.0, 24.0], [80.0, 70.0, 60.0])
    assert path.value.tolist() == [80.0, 60.0]
    with pytest.raises(ValueError, match="times must be in order, but 0 comes after 24"):
        TimeVarying([24.0, 0.0], [80.0, 70.0])
    with pytest.raises(ValueError, match="a time for each value, got 1 and 2"):
        TimeVarying([24.0], [80.0, 70.0])
    with pytest.raises(TaskError, match="value 1 is missing"):
        TimeVarying([0.0, 24.0], [80.0, np.nan])


@pytest.mark.parametrize("field", ["steady", "compartment", "rate", "reset"])
def test_a_model_refuses_columns_that_it_does_not_understand(field):
    values = {"steady": {"steady": 1, "interval": 12.0}, "rate": {"rate": 10.0}}.get(field, {field: 1})
    X = Regimen([0.0], 100.0, **values).rows([1.0, 2.0])
    with pytest.raises(ValueError, match="does not understand"):
        OneCompartmentRegressor().fit(TaskSet.from_arrays(X, [1.0, 2.0], [0, 0]))
