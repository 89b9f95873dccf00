"""Linear compartments of any structure: what closed forms and fine integrations give; what does not go together."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from metaest import Parameter, Population, TaskError, TaskSet, load, save
from metaest.population import Block, NoiseModel, OutputNoiseModel
from metaest_domains.physiology import (
    LinearCompartmentRegressor,
    OneCompartmentRegressor,
    Regimen,
    TwoCompartmentRegressor,
    clearance,
)

ONE = {"clearance": 4.0, "volume": 60.0}
TWO = {**ONE, "exchange": 6.0, "peripheral": 40.0}
THREE = {**TWO, "exchange_2": 0.5, "peripheral_2": 200.0}
NOISE = NoiseModel("proportional", cv=0.1, floor=0.01)
TIMES = np.array([0.3, 1.0, 3.5, 9.0, 12.0, 13.0, 20.0, 60.0])
DOSES = Regimen([0.0, 12.0], [100.0, 60.0])


def model_of(constants, cls=LinearCompartmentRegressor, noise=NOISE, columns=(), **settings):
    """Return a model that keeps these constants, of which the clearance varies."""
    drug = Population(
        {
            name: Parameter(value, lower=0, **({"upper": 1} if name == "bioavailability" else {}))
            for name, value in constants.items()
        },
        Block(cv={"clearance": 0.3}), noise, columns={"time": "h", "dose": "mg", **dict.fromkeys(columns, "")},
    )  # fmt: skip
    return cls.from_population(drug, records=True, **settings)


def predicted(model, regimen=DOSES, times=TIMES, **columns):
    return model.predict(model.rows(regimen, times).assign(**columns))


def integrated(matrix, doses, into, times=TIMES):
    """Return amounts at times by fine integration of x' = A x, with doses at once into a state."""
    x, now, amounts = np.zeros(len(matrix)), 0.0, []
    stops = sorted({*(float(t) for t in times), *(t for t, _ in doses)})
    for stop in stops:
        if stop > now:
            answer = solve_ivp(lambda t, x: matrix @ x, (now, stop), x, "DOP853", rtol=1e-11, atol=1e-13)
            x, now = answer.y[:, -1], stop
        if stop in times:
            # a dose at the time of a row counts, and no row is at one of a central dose here
            amounts.append(x.copy())
        x = x + np.eye(len(matrix))[into] * sum(amount for t, amount in doses if t == stop)
    return np.array(amounts)


def flows(n, between, out):
    matrix = np.zeros((n, n))
    for (i, j), rate in between.items():
        matrix[i, j] += rate
        matrix[j, j] -= rate
    for j, rate in out.items():
        matrix[j, j] -= rate
    return matrix


@pytest.mark.parametrize("route", ["oral", "iv"])
def test_one_and_two_compartments_are_those_of_their_own_estimators(route):
    absorbed = {"absorption_rate": 1.3} if route == "oral" else {}
    for n, cls, constants in ((1, OneCompartmentRegressor, ONE), (2, TwoCompartmentRegressor, TWO)):
        general = model_of(constants | absorbed, compartments=n, route=route)
        closed = model_of(constants | absorbed, cls, route=route, **({"absorption": "rate"} if absorbed else {}))
        np.testing.assert_allclose(predicted(general), predicted(closed), rtol=1e-10)
        y = 1.2 * predicted(closed)
        patients = (model.adapt(model.rows(DOSES, TIMES), y, guard=False) for model in (general, closed))
        values = [patient.params_["value"].to_numpy() for patient in patients]
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_three_compartments_equal_a_fine_integration_and_two_where_the_third_is_hardly_there():
    model = model_of(THREE | {"absorption_rate": 1.3}, compartments=3)
    V = THREE["volume"]
    between = {
        (1, 0): 1.3, (2, 1): 6.0 / V, (1, 2): 6.0 / 40, (3, 1): 0.5 / V, (1, 3): 0.5 / 200
    }  # fmt: skip
    expected = integrated(flows(4, between, {1: 4.0 / V}), [(0.0, 100.0), (12.0, 60.0)], 0)[:, 1] / V
    np.testing.assert_allclose(predicted(model), expected, rtol=1e-8)
    nearly = model_of(THREE | {"exchange_2": 1e-9}, compartments=3, route="iv")
    np.testing.assert_allclose(predicted(nearly), predicted(model_of(TWO, compartments=2, route="iv")), rtol=1e-8)


@pytest.mark.parametrize("n", [1, 4])
def test_transit_compartments_equal_a_fine_integration(n):
    model = model_of(ONE | {"absorption_rate": 1.3, "transit_time": 2.5}, uptake="transit", n_transit=n)
    passing = (n + 1) / 2.5
    between = {(i + 1, i): passing for i in range(n + 1)} | {(n + 2, n + 1): 1.3}
    matrix = flows(n + 3, between, {n + 2: 4.0 / 60.0})
    expected = integrated(matrix, [(0.0, 100.0), (12.0, 60.0)], 0)[:, -1] / 60.0
    np.testing.assert_allclose(predicted(model), expected, rtol=1e-7)


def test_absorption_of_zero_order_is_an_infusion_of_that_duration():
    model = model_of(ONE | {"absorption_time": 5.0, "lag": 0.4}, uptake="zero-order", lag=True)
    vein = model_of(ONE, OneCompartmentRegressor, route="iv")
    infusions = Regimen([0.4, 12.4], [100.0, 60.0], 5.0)
    np.testing.assert_allclose(predicted(model), predicted(vein, infusions), rtol=1e-10)
    steady = Regimen([0.0], 100.0, interval=4.0, steady=1)  # shorter than the absorption
    many = Regimen(4.0 * np.arange(200), 100.0)
    np.testing.assert_allclose(predicted(model, steady), predicted(model, many, 796.0 + TIMES), rtol=1e-8)


def test_bioavailability_is_that_of_oral_doses():
    model = model_of(ONE | {"absorption_rate": 1.3, "bioavailability": 0.4}, bioavailability=True)
    whole = model_of(ONE | {"absorption_rate": 1.3})
    np.testing.assert_allclose(predicted(model), 0.4 * predicted(whole), rtol=1e-12)
    central = Regimen([0.0, 12.0], [100.0, 60.0], compartment=2)
    np.testing.assert_allclose(predicted(model, central), predicted(whole, central), rtol=1e-12)


def metabolite(**settings):
    noise = OutputNoiseModel("cmt", {2: NOISE, 3: NOISE})
    constants = ONE | {"absorption_rate": 1.3, "metabolite_clearance": 2.5, "metabolite_volume": 50.0}
    return model_of(constants, noise=noise, columns=["cmt"], metabolite=True, output="cmt", **settings)


def test_a_metabolite_equals_a_fine_integration():
    model = metabolite(fixed={"formation": 0.7})
    matrix = flows(3, {(1, 0): 1.3, (2, 1): 0.7 * 4 / 60}, {1: 0.3 * 4 / 60, 2: 2.5 / 50})
    amounts = integrated(matrix, [(0.0, 100.0), (12.0, 60.0)], 0)
    X = rows_in(2.0)
    np.testing.assert_allclose(model.predict(X), amounts[:, 1] / 60, rtol=1e-8)
    np.testing.assert_allclose(model.predict(X.assign(cmt=3.0)), amounts[:, 2] / 50, rtol=1e-8)
    with pytest.raises(TaskError, match="column 'cmt' is 4 in row 0: rows are measured in compartment 2 .* or 3"):
        model.predict(X.assign(cmt=4.0))
    whole = metabolite()
    np.testing.assert_allclose(whole.predict(X.assign(cmt=3.0)), amounts[:, 2] / 0.7 / 50, rtol=1e-8)


def rows_in(cmt):
    return Regimen(DOSES.time, DOSES.amount, covariates={"cmt": cmt}).rows(TIMES)


def test_samples_of_a_metabolite_teach_of_its_parent(tmp_path):
    model = metabolite(fixed={"formation": 0.7})
    X = pd.concat([rows_in(2.0)[2:4], rows_in(3.0)[2:6]], ignore_index=True)
    truth = metabolite(fixed={"formation": 0.7})
    truth = truth.predict(X)
    patient = model.adapt(X, truth, guard=False)
    assert patient.params_.loc["clearance", "value"] == pytest.approx(4.0, rel=0.05)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), truth)


def test_a_fit_finds_what_made_its_patients():
    model = model_of(ONE | {"absorption_time": 3.0}, uptake="zero-order")
    at = np.array([1.0, 2.5, 4.0, 9.0, 14.0, 20.0])
    X = Regimen([0.0, 12.0], [100.0, 60.0]).rows(at)
    y = [model.simulate(model.rows(DOSES, at), 1, random_state=i)[0] for i in range(12)]
    patients = TaskSet.from_arrays(pd.concat([X] * 12), np.concatenate(y), np.repeat(np.arange(12), len(at)))
    learned = LinearCompartmentRegressor(uptake="zero-order", random=["clearance"], noise="proportional").fit(patients)
    for name, value in {"volume": 60.0, "absorption_time": 3.0}.items():
        row = learned.population_.loc[name]
        assert abs(row["value"] - value) < 3 * row["standard_error"]
    kept = LinearCompartmentRegressor.from_population(learned.to_population())
    np.testing.assert_allclose(kept.predict(X), learned.predict(X), rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"compartments": 4}, "compartments must be 1, 2 or 3, got 4"),
        ({"uptake": "slow"}, "uptake must be one of 'first-order', 'zero-order', 'transit', got 'slow'"),
        ({"n_transit": 0}, "n_transit must be a whole number from 1 to 30, got 0"),
        ({"bioavailability": 1}, "bioavailability must be True or False, got 1"),
        ({"route": "iv", "uptake": "transit"}, "uptake and bioavailability are of oral doses"),
        ({"metabolite": True}, "metabolite=True and output= go together"),
        ({"fixed": {"formation": 0.5}}, "fixed: there is no 'formation'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
    X = DOSES.rows(TIMES)
    with pytest.raises(ValueError, match=message):
        LinearCompartmentRegressor(**settings).fit(TaskSet.from_arrays(X, TIMES, np.repeat([0, 1], 4)))


def test_quantities_that_are_not_implemented_are_refused():
    with pytest.raises(TypeError, match="not implemented for a LinearCompartmentRegressor"):
        clearance(model_of(ONE, route="iv"))
