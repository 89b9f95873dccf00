"""Records that contradict themselves, each other or the model are refused, and never answered all the same."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaest import Parameter, Population, TaskError
from metaest.population import Block, NoiseModel, OutputNoiseModel
from metaest_domains.physiology import (
    LinearCompartmentRegressor,
    OneCompartmentRegressor,
    Regimen,
    read_patients,
    trough,
)

pytestmark = pytest.mark.filterwarnings("ignore:adapt.* rows cannot tell")

POPULATION = Population(
    {"clearance": Parameter(4.0, lower=0), "volume": Parameter(30.0, lower=0)},
    Block(sd={"clearance": 0.3, "volume": 0.2}),
    NoiseModel("proportional", cv=0.1),
    settings={"route": "iv"},
)
COLUMNS = {"time": "h", "dose": "mg"}
STEADY = {
    "TIME": [0.0, 3.0, 6.0],
    "AMT": [500.0, None, None],
    "DV": [None, 14.0, 10.0],
    "SS": [1, 0, 0],
    "II": [12, 0, 0],
}
FIELDS = ["dose_steady_1", "dose_interval_1", "dose_duration_1", "dose_reset_1", "dose_compartment_1", "dose_rate_1"]


@pytest.fixture
def model():
    return OneCompartmentRegressor.from_population(POPULATION, records=True)


@pytest.fixture
def steady(model):
    X, y = model.read(pd.DataFrame(STEADY))
    return X.reindex(columns=list(model.feature_names_in_), fill_value=0.0), y


@pytest.mark.parametrize("name", FIELDS)
def test_rows_of_one_patient_agree_in_all_fields_of_a_dose(model, steady, name):
    X, y = steady
    model.adapt(X, y, guard=False)
    changed = X.copy()
    changed.loc[1, name] = 1.0 - X.loc[1, name] if name != "dose_interval_1" else 6.0
    with pytest.raises(TaskError, match="another field of the dose in column 'dose_1' differs between the rows"):
        model.adapt(changed, y, guard=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dose_steady_1": 3.0}, "dose_steady of the dose at 0 is 3 in row 0: it must be one of 0, 1, 2"),
        ({"dose_reset_1": 0.5}, "dose_reset of the dose at 0 is 0.5 in row 0"),
        ({"dose_interval_1": 0.0}, "dose_interval of the dose at 0 is 0 in row 0: a steady state needs the interval"),
        ({"dose_interval_1": -6.0}, "dose_interval .* is -6 in row 0: it cannot be negative"),
        ({"dose_rate_1": -2.0}, "dose_rate .* is -2 in row 0: it cannot be negative"),
        ({"dose_rate_1": 100.0, "dose_duration_1": 1.0}, "dose_rate .* has a duration as well"),
        ({"dose_compartment_1": 0.5}, "dose_compartment .* it must be a whole number"),
    ],
)
def test_fields_that_cannot_be_are_refused_in_rows_as_in_regimens(model, steady, values, message):
    with pytest.raises(TaskError, match=message):
        model.predict(steady[0].assign(**values))


def test_the_compartment_of_a_reset_alone_means_nothing(model):
    frame = pd.DataFrame({
        "TIME": [0.0, 5.0, 6.0, 8.0], "AMT": [500.0, 0, 300, 0], "EVID": [1, 3, 1, 0], "CMT": [1, 2, 1, 1], "DV": 1.0
    })  # fmt: skip
    expected = 10.0 * np.exp(-4 / 30 * 2.0)
    np.testing.assert_allclose(model.predict(model.read(frame)[0]), [expected], rtol=1e-12)
    with pytest.raises(TaskError, match="a dose enters compartment 2"):
        model.predict(model.read(frame.assign(CMT=[2, 1, 1, 1]))[0])


def test_doses_given_before_that_leave_out_a_steady_state_are_warned_of(model, steady):
    patient, plan = model.adapt(*steady, guard=False), Regimen([12.0, 24.0], 500.0)
    with pytest.warns(UserWarning, match="hold doses at steady state"):
        trough(patient, plan, given=Regimen([0.0], 500.0))
    plain = model.adapt(*model.read(pd.DataFrame(STEADY).assign(SS=0, II=0)), guard=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trough(plain, plan, given=Regimen([0.0], 500.0))


def test_an_interval_needs_doses_that_come_again():
    with pytest.raises(ValueError, match="interval is 12 in record 1: no dose comes again"):
        Regimen([0.0], 500.0, interval=12.0)
    assert Regimen([0.0, 30.0], 500.0, interval=12.0, steady=[1, 0]).interval.tolist() == [12.0, 0.0]
    with pytest.raises(TypeError, match="Regimen.repeated has no 'steady'"):
        Regimen.repeated(500.0, interval=12.0, n=3, steady=1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"DATE": ["3/11/2025", "3/12/2025"], "TIME": [0.0, 24.5]}, "'TIME' is 24.5 in row 1.*from 0 to 24 .h.; drop"),
        ({"DATE": ["3/11/2025"] * 2, "TIME": [830, 1030]}, "'TIME' is 830 in row 0.*write 8:30"),
        (
            {"DATE": ["11.03.2025", "12.03.2025"], "TIME": ["8:00", "9:00"]},
            "'11.03.2025' in row 0.*rename the column DAT1",
        ),
    ],
)
def test_days_beside_times_that_are_none_of_day_are_refused(columns, message):
    frame = pd.DataFrame({"ID": 1, **columns, "AMT": [500.0, None], "DV": [None, 9.0]})
    with pytest.raises(TaskError, match=message):
        read_patients(frame)


def test_dots_and_the_end_of_a_day_are_read_where_they_are_clear():
    frame = pd.DataFrame({"ID": 1, "DAT1": ["11.03.2025", "12.03.2025"], "TIME": [24.0, 1.0], "AMT": [500.0, None]})
    assert read_patients(frame.assign(DV=[None, 9.0])).X[:, 0].tolist() == [1.0]


def test_limits_of_a_new_patient_that_the_model_does_not_know():
    model = OneCompartmentRegressor.from_population(POPULATION, n_doses=1)
    frame = pd.DataFrame({"TIME": [0.0, 4.0, 20.0], "AMT": [500.0, None, None], "DV": ["", "8", "1.2"]})
    X, y = model.read(frame)
    for limits in ({"LLOQ": 0.5}, {"ULOQ": 50.0}, {"LLOQ": 0.5, "ULOQ": 50.0}):  # beyond which nothing lies
        there, seen = model.read(frame.assign(**limits))
        pd.testing.assert_frame_equal(there, X)
        assert seen.tolist() == y.tolist()
    with pytest.raises(TaskError, match="observation 2, at time 20, .*without limit='lloq'"):
        model.read(frame.assign(LLOQ=2.0))
    with pytest.raises(TaskError, match="observation 1, at time 4, .*without upper_limit='uloq'"):
        model.read(frame.assign(DV=["", ">5", "1.2"]))


def test_a_metabolite_of_a_new_patient_is_read_by_its_compartment():
    names = ["clearance", "volume", "absorption_rate", "metabolite_clearance", "metabolite_volume"]
    drug = Population(
        {name: Parameter(2.0, lower=0) for name in names}, Block(sd={"clearance": 0.3}),
        OutputNoiseModel("dvid", {2: NoiseModel("additive", sd=0.1), 3: NoiseModel("additive", sd=0.1)}),
        columns={"time": "h", "dose": "mg", "dvid": ""},
    )  # fmt: skip
    model = LinearCompartmentRegressor.from_population(drug, metabolite=True, output="dvid")
    frame = pd.DataFrame({
        "TIME": [0.0, 2.0, 2.0], "AMT": [100.0, None, None], "CMT": [1, 2, 3], "DV": [None, 3.0, 1.0]
    })  # fmt: skip
    X, _ = model.read(frame, output="CMT")
    assert X["dvid"].tolist() == [2, 3]
    # Bateman's functions of a chain whose three rates are 2, 1 and 1 a unit of time
    e = np.exp(-2.0)
    parent, made = 200 * (e - e**2), 200 * ((2.0 - 1.0) * e + e**2)
    np.testing.assert_allclose(model.predict(X), np.array([parent, made]) / 2.0, rtol=1e-6)
    with pytest.raises(TaskError, match="several outputs: pass output="):
        model.read(frame[frame["CMT"] < 3])


def test_covariates_of_a_new_patient_have_other_names():
    weighed = replace(POPULATION, settings={"route": "iv", "allometric": "weight"}, columns={**COLUMNS, "weight": "kg"})
    model = OneCompartmentRegressor.from_population(weighed)
    frame = pd.DataFrame({"TIME": [0.0, 4.0], "AMT": [500.0, None], "conc": [None, 8.0], "weight": 60.0})
    X, y = model.read(frame, columns={"DV": "conc"})
    other = frame.rename(columns={"weight": "WT"})
    there, seen = model.read(other, columns={"DV": "conc", "weight": "WT"})
    pd.testing.assert_frame_equal(there, X)
    assert seen.tolist() == y.tolist()
    for wrong, names, message in (
        (other, {"DV": "conc"}, "no column 'weight', a covariate of the model; .*by columns={'weight': ...}"),
        (
            other,
            {"DV": "conc", "weight": "kg"},
            "'weight' is said to be the column 'kg', and the frame has no such column",
        ),
        (other.assign(weight=1.0), {"DV": "conc", "weight": "WT"}, "the frame has one of that name as well"),
    ):
        with pytest.raises(TaskError, match=message):
            model.read(wrong, columns=names)


@pytest.mark.parametrize("word", ["central", " Cent "])
def test_a_word_for_the_central_compartment_of_a_dose_is_warned_of(model, word):
    frame = pd.DataFrame({"TIME": [0.0, 1.0], "AMT": [100.0, None], "DV": [None, 3.0], "CMT": [word, "central"]})
    with pytest.warns(UserWarning, match="for doses such as in row 0.* write 2 for doses into the central compartment"):
        X, _ = model.read(frame)
    expected = model.read(frame.drop(columns="CMT"))[0]
    np.testing.assert_array_equal(model.predict(X), model.predict(expected))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.read(frame.assign(CMT=["depot", "central"]))
