"""Records with further doses equal their doses one by one; columns are there where records need them, or are refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from metaest import Parameter, Population, TaskSet, load, save
from metaest.exceptions import TaskError
from metaest.population import Block, Linear, NoiseModel, Power
from metaest_domains.physiology import (
    MichaelisMentenRegressor,
    OneCompartmentRegressor,
    Regimen,
    TimeVarying,
    clearance,
    dose_for,
)
from metaest_domains.physiology.dose_records import columns_for, covariate_columns
from metaest_domains.physiology.time_varying import value_between


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
    # two records at one time: the interval that ends there has the first one's value, that which begins there the last's
    time, value = np.array([[0.0, 24.0, 24.0]]), np.array([[80.0, 70.0, 60.0]])
    start, end = np.array([[12.0, 24.0]]), np.array([[24.0, 36.0]])
    assert value_between(time, value, start, end, "nocb").tolist() == [[70.0, 60.0]]
    assert value_between(time, value, start, end, "locf").tolist() == [[80.0, 60.0]]
    with pytest.raises(ValueError, match="times must be in order, but 0 comes after 24"):
        TimeVarying([24.0, 0.0], [80.0, 70.0])
    with pytest.raises(ValueError, match="a time for each value, got 1 and 2"):
        TimeVarying([24.0], [80.0, 70.0])
    with pytest.raises(TaskError, match="value 1 is missing"):
        TimeVarying([0.0, 24.0], [80.0, np.nan])


def fitted(**settings):
    """Return a model whose constants are published: no fit."""
    constants = {"clearance": Parameter(4.0, lower=0), "volume": Parameter(60.0, lower=0)}
    variation = Block(cv={"clearance": 0.3, "volume": 0.2})
    effects = {"clearance": [Linear("crcl", 0.01, reference=80.0)], "volume": [Power("weight", 1.0, reference=70.0)]}
    columns = {"time": "h", "dose": "mg", "crcl": "mL/min", "weight": "kg"}
    noise = NoiseModel("proportional", cv=0.1, floor=0.01)
    drug = Population(
        constants, variation, noise, covariates=effects, columns=columns, settings={"route": "iv"},
        equation="OneCompartmentRegressor",
    )  # fmt: skip
    return OneCompartmentRegressor.from_population(drug, **settings)


TIMES, Y = [3.0, 11.0, 20.0, 47.0], [15.0, 9.0, 14.0, 11.0]
DOSES = {"time": [0.0, 12.0, 24.0], "amount": 1000.0, "duration": 1.0}


def test_a_population_that_follows_covariates_over_time_is_the_one_that_does_not_where_they_stay():
    plain, changing = fitted(n_doses=3), fitted(n_doses=3, time_varying={"crcl": "nocb", "weight": "locf"})
    stays = Regimen(**DOSES, covariates={"crcl": 60.0, "weight": 80.0})
    same = Regimen(**DOSES, covariates={"crcl": TimeVarying([0, 20, 60], [60.0] * 3), "weight": 80.0})
    expected = plain.adapt(plain.rows(stays, TIMES), Y, guard=False)
    # where covariates change, constants are those at the reference values of the formulas
    factors = np.array([1 + 0.01 * (60 - 80), 80 / 70])
    for regimen in (stays, same):
        patient = changing.adapt(changing.rows(regimen, TIMES), Y, guard=False)
        np.testing.assert_allclose(factors * patient.params_["value"], expected.params_["value"], rtol=1e-6)
    falling = Regimen(**DOSES, covariates={"crcl": TimeVarying([0, 20, 60], [90.0, 60.0, 30.0]), "weight": 80.0})
    other = changing.adapt(changing.rows(falling, TIMES), Y, guard=False)
    with pytest.raises(ValueError, match="follow covariates over time"):
        clearance(other)
    many = changing.adapt_many({"stays": (changing.rows(same, TIMES), Y), "falls": (changing.rows(falling, TIMES), Y)})
    assert many["falls"].params_.loc["clearance", "value"] == pytest.approx(
        other.params_.loc["clearance", "value"], rel=1e-6
    )


def test_a_model_of_records_takes_patients_with_any_records():
    model, plain = fitted(records=True), fitted(n_doses=3)
    covariates = {"crcl": 60.0, "weight": 80.0}
    steady = Regimen([24.0], 1000.0, 1.0, covariates, interval=12.0, steady=1)
    many = Regimen(24.0 - 12.0 * np.arange(3)[::-1], 1000.0, 1.0, covariates)
    np.testing.assert_allclose(
        model.predict(model.rows(many, TIMES)), plain.predict(plain.rows(many, TIMES)), rtol=1e-9
    )
    assert model.predict(model.rows(steady, [36.0]))[0] > model.predict(model.rows(many, [36.0]))[0]
    patients = (one.adapt(one.rows(many, TIMES), Y, guard=False) for one in (model, plain))
    doses = [dose_for(patient, Regimen.repeated(1.0, 12.0, 4), target_trough=9.0).value for patient in patients]
    assert doses[0] == pytest.approx(doses[1], rel=1e-6)
    with pytest.raises(TaskError, match="there is a column 'dose_interval_1', .* records=True"):
        plain.predict(plain.rows(steady, [36.0]))


def test_a_covariate_that_changes_needs_a_word_on_how():
    model = fitted()
    regimen = Regimen(**DOSES, covariates={"crcl": TimeVarying([0, 20], [90.0, 60.0]), "weight": 80.0})
    with pytest.raises(TaskError):
        model.predict(model.rows(regimen, TIMES))
    tasks = TaskSet.from_arrays(regimen.rows(TIMES), Y, ["A", "A", "B", "B"])
    with pytest.raises(ValueError, match="'crcl' changes over time .* time_varying={'crcl': 'locf'}"):
        OneCompartmentRegressor(route="iv").fit(tasks)
    with pytest.raises(ValueError, match="no constant follows it"):
        OneCompartmentRegressor(route="iv", time_varying={"crcl": "locf"}).fit(tasks)
    with pytest.raises(ValueError, match="must be one of 'locf', 'nocb', got 'linear'"):
        OneCompartmentRegressor(route="iv", time_varying={"crcl": "linear"}).fit(tasks)
    with pytest.raises(ValueError, match="has no columns age_1, age_time_1|no columns age_1"):
        OneCompartmentRegressor(route="iv", time_varying={"crcl": "locf", "age": "locf"}).fit(tasks)


def test_rows_of_one_patient_hold_the_same_values_over_time():
    model = fitted(time_varying={"crcl": "locf"})
    regimen = Regimen(**DOSES, covariates={"crcl": TimeVarying([0, 20], [90.0, 60.0]), "weight": 80.0})
    X = model.rows(regimen, TIMES)
    X.loc[2, "crcl_2"] = 50.0
    with pytest.raises(TaskError, match="the values of 'crcl' or their times .* are others in row 2 than in row 0"):
        model.adapt(X, Y, guard=False)


def test_models_refuse_compartments_that_they_lack_and_fields_that_they_do_not_understand():
    model = fitted(records=True)
    regimen = Regimen([0.0], 1000.0, covariates={"crcl": 60.0, "weight": 80.0}, compartment=2)
    with pytest.raises(TaskError, match="a dose enters compartment 2, and this model has 1: 1 is the central one"):
        model.predict(model.rows(regimen, [3.0]))
    rows = Regimen([0.0], 100.0, interval=12.0, steady=1).rows([1.0, 2.0])
    with pytest.raises(ValueError, match="'dose_interval_1', and MichaelisMentenRegressor understands doses by time"):
        MichaelisMentenRegressor().fit(TaskSet.from_arrays(rows, [1.0, 2.0], ["A", "B"]))


def test_a_model_that_follows_covariates_over_time_is_read_from_its_file(tmp_path):
    model = fitted(time_varying={"crcl": "nocb", "weight": "locf"})
    path = TimeVarying([0, 20], [90.0, 60.0])
    X = model.rows(Regimen(**DOSES, covariates={"crcl": path, "weight": 80.0}), TIMES)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), model.predict(X))
    np.testing.assert_array_equal(clone(model).fit([]).predict(X), model.predict(X))


def test_a_learned_coefficient_of_a_covariate_over_time_is_found():
    rng, model = np.random.default_rng(0), fitted(time_varying={"crcl": "locf", "weight": "locf"})
    regimens = [
        Regimen(**DOSES, covariates={"crcl": TimeVarying([0, 18], rng.uniform(40, 120, 2)), "weight": 70.0})
        for _ in range(20)
    ]
    at = [1.5, 6.0, 11.5, 14.0, 20.0, 23.5, 36.0, 48.0]
    y = [model.simulate(model.rows(regimen, at), 1, random_state=i)[0] for i, regimen in enumerate(regimens)]
    X = pd.concat([regimen.rows(at).drop(columns="weight") for regimen in regimens], ignore_index=True)
    learned = OneCompartmentRegressor(
        route="iv", time_varying={"crcl": "locf"}, covariates={"clearance": ["crcl"]}, noise="proportional"
    ).fit(X, np.concatenate(y), groups=np.repeat(np.arange(20), len(at)))
    row = learned.population_.loc["clearance_by_crcl"]
    scale = learned.equation_.changing.coefficients[0].scale
    # the linear formula of the population, 1 % a unit about 80, is nearly an exponential
    assert row["value"] / scale == pytest.approx(0.01, abs=0.003)
    assert row["between_task_sd"] == 0
    assert not learned.compiled_
    with pytest.raises(ValueError, match="learned to follow covariates over time"):
        learned.to_population()
    assert model.to_population().covariates == model.prior.covariates
