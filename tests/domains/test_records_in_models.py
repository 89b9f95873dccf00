"""What records say is what models compute: resets, steady states, compartments, covariates that change."""

import numpy as np
import pandas as pd
import pytest

from metaest import Parameter, Population, TaskError
from metaest.population import Block, NoiseModel, Power
from metaest_domains.physiology import OneCompartmentRegressor, read_patients

POPULATION = Population(
    {"clearance": Parameter(4.0, lower=0), "volume": Parameter(40.0, lower=0), "absorption": Parameter(1.0, lower=0)},
    Block(sd={"clearance": 0.3, "volume": 0.2}),
    NoiseModel("proportional", cv=0.1),
    columns={"time": "h", "dose": "mg"},
    settings={"route": "oral"},
)


def curve(frame, **columns):
    """Return what the population predicts at the observations of records."""
    tasks = read_patients(frame, **columns)
    model = OneCompartmentRegressor.from_population(POPULATION, n_doses=300, records=True)
    wide = read_patients(frame, n_doses=300, **columns)
    X = pd.DataFrame(wide.X, columns=wide.feature_names)
    lacking = {name: 0.0 for name in model.feature_names_in_ if name not in X}
    full = pd.concat([X, pd.DataFrame(lacking, index=X.index)], axis=1)[list(model.feature_names_in_)]
    assert len(tasks.y) == len(full)
    return model.predict(full)


def records(rows):
    """Return records of one patient from (time, amount, event, further columns)."""
    return pd.DataFrame(rows).fillna(0.0).assign(ID=1, DV=1.0)


def test_a_reset_makes_two_patients_of_one():
    first = records([{"TIME": 0.0, "AMT": 300, "EVID": 1}, {"TIME": 2.0}, {"TIME": 9.0}])
    second = records([{"TIME": 0.0, "AMT": 500, "EVID": 1}, {"TIME": 1.0}, {"TIME": 8.0}]).assign(ID=2)
    apart = curve(pd.concat([first, second]))
    for start in (0.0, 9.0, 30.0):  # the clock starts anew, or goes on
        later = second.assign(TIME=second["TIME"] + start, EVID=second["EVID"].replace(1, 4), ID=1)
        np.testing.assert_allclose(curve(pd.concat([first, later])), apart, rtol=1e-12)
    washed_out = second.assign(TIME=second["TIME"] + 2000.0, ID=1)
    np.testing.assert_allclose(curve(pd.concat([first, washed_out])), apart, rtol=1e-12)


def test_a_steady_state_is_that_of_many_doses():
    at = [{"TIME": 2400.0 + t} for t in (0.5, 3.0, 11.0)]
    many = records([{"TIME": 0.0, "AMT": 300, "EVID": 1, "ADDL": 200, "II": 12}, *at])
    steady = records([{"TIME": 2400.0, "AMT": 300, "EVID": 1, "SS": 1, "II": 12}, *at])
    np.testing.assert_allclose(curve(steady), curve(many), rtol=1e-10)
    added = records([{"TIME": 0.0, "AMT": 300, "EVID": 1, "ADDL": 200, "II": 12},
                     {"TIME": 2400.0, "AMT": 100, "EVID": 1, "SS": 2, "II": 24}, *at])  # fmt: skip
    alone = records([{"TIME": 2400.0, "AMT": 100, "EVID": 1, "SS": 1, "II": 24}, *at])
    np.testing.assert_allclose(curve(added), curve(many) + curve(alone), rtol=1e-10)


def test_doses_enter_the_compartment_that_cmt_names():
    at = [{"TIME": t, "CMT": 2} for t in (1.0, 6.0)]
    both = records(
        [{"TIME": 0.0, "AMT": 300, "EVID": 1, "CMT": 1}, {"TIME": 0.0, "AMT": 100, "EVID": 1, "CMT": 2}, *at]
    )
    oral = records([{"TIME": 0.0, "AMT": 300, "EVID": 1, "CMT": 1}, *at])
    bolus = 100 / 40 * np.exp(-4 / 40 * np.array([1.0, 6.0]))
    np.testing.assert_allclose(curve(both), curve(oral) + bolus, rtol=1e-10)


def test_a_new_patient_whose_compartments_have_other_numbers_is_refused():
    model = OneCompartmentRegressor.from_population(POPULATION, n_doses=1)
    frame = records([{"TIME": 0.0, "AMT": 300, "EVID": 1, "CMT": 2}, {"TIME": 1.0, "CMT": 2}])
    with pytest.raises(TaskError, match="all doses enter compartment 2, and those of the fit entered the usual one of"):
        model.read(frame)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_a_new_patient_is_read_with_covariates_that_change():
    vein = Population(
        {"clearance": Parameter(4.0, lower=0), "volume": Parameter(40.0, lower=0)},
        Block(sd={"clearance": 0.3, "volume": 0.2}),
        NoiseModel("proportional", cv=0.1),
        columns={"time": "h", "dose": "mg", "crcl": "mL/min"},
        covariates={"clearance": [Power("crcl", 1.0, 80.0)]},
        settings={"route": "iv", "time_varying": {"crcl": "nocb"}},
    )
    model = OneCompartmentRegressor.from_population(vein, n_doses=2)
    frame = pd.DataFrame({
        "ID": 7, "TIME": [0.0, 6, 24, 30, 30, 36], "AMT": [400.0, 0, 400, 0, 0, 0], "EVID": [1, 0, 1, 0, 2, 0],
        "DV": [0.0, 6, 0, 7, 0, 4], "crcl": [90.0, 90, 60, 50, 40, 40],
    })  # fmt: skip
    X, y = model.read(frame)
    assert y.tolist() == [6, 7, 4]
    falling = model.adapt(X, y, guard=False)
    steady = model.adapt(*model.read(frame.assign(crcl=80.0)), guard=False)
    assert falling.params_.loc["clearance", "value"] != pytest.approx(steady.params_.loc["clearance", "value"])
    expected = 400 / 40 * np.exp(-4 * 90 / 80 / 40 * 6)
    np.testing.assert_allclose(model.predict(X)[0], expected, rtol=1e-10)
