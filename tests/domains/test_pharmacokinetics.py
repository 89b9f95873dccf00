"""Doses and concentrations: closed forms, superposition, integration, what clinicians ask, and bad input."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import solve_ivp

from metaest import TaskError, TaskSet
from metaest_domains.physiology import (
    MichaelisMentenRegressor,
    MinimalModelRegressor,
    OneCompartmentRegressor,
    Regimen,
    TwoCompartmentRegressor,
    auc,
    clearance,
    dose_for,
    half_life,
    insulin_rows,
    next_sample,
    peak,
    read_patients,
    volume,
)
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.integrated import SaturableEquation
from metaest_domains.physiology.minimal_model import MinimalModel
from metaest_domains.physiology.pharmacokinetics import OneCompartment, TwoCompartments

pytestmark = pytest.mark.filterwarnings(
    "ignore::metaest.IdentifiabilityWarning",
    "ignore::metaest.UnlikelyTaskWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

TIMES = [0.0, 0.3, 1.0, 2.5, 6.0, 11.9, 12.0, 13.0, 20.0, 24.5, 30.0, 60.0]
ONE = {"clearance": 3.0, "volume": 20.0, "absorption": 0.9}
TWO = {**ONE, "exchange": 5.0, "peripheral": 40.0}


def doses(n):
    number = np.arange(1, n + 1)
    return Doses(0, tuple(number), tuple(n + number), tuple(2 * n + number))


def concentrations(equation, regimen, times, constants):
    X = torch.from_numpy(np.array(regimen.rows(times), dtype=np.float64))
    own = {name: torch.tensor(value, dtype=torch.float64) for name, value in constants.items()}
    return equation(doses(len(regimen.time)), None, {}, "absorption" in constants)(X, **own).numpy()


def integrated(regimen, times, constants, two):
    """The same by scipy, from dose to dose."""
    cl = constants["clearance"]
    v = constants["volume"]
    q, v2 = (constants["exchange"], constants["peripheral"]) if two else (0.0, 1.0)
    slow = cl / v
    if two:
        k10 = cl / v
        k12 = q / v
        k21 = q / v2
        slow = np.sort(np.roots([1, k10 + k12 + k21, k10 * k21]).real)[::-1][0] * -1
    ka = slow + constants.get("absorption", 0.0)

    def rates(t, a):
        flow = sum(d / w for s, d, w in zip(regimen.time, regimen.amount, regimen.duration, strict=True)
                   if w > 0 and s <= t < s + w)  # fmt: skip
        gut, c, p = a
        return [-ka * gut, ka * gut + flow - (cl + q) / v * c + q / v2 * p, q / v * c - q / v2 * p]

    found = []
    for time in times:
        state = np.zeros(3)
        now = 0.0
        events = sorted({*regimen.time, *(regimen.time + regimen.duration), time})
        for event in [own for own in events if own <= time]:
            if event > now:
                state = solve_ivp(rates, (now, event - 1e-12), state, rtol=1e-10, atol=1e-12).y[:, -1]
            now = event
            at_once = regimen.amount[(regimen.time == event) & (regimen.duration == 0)].sum()
            state[0 if "absorption" in constants else 1] += at_once
        found.append(state[1] / v)
    return np.array(found)


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize(("oral", "duration"), [(True, 0.0), (False, 0.0), (False, 1.5)])
def test_superposition_equals_integration(two, oral, duration):
    constants = dict(TWO if two else ONE)
    if not oral:
        del constants["absorption"]
    if not two:
        constants = {name: value for name, value in constants.items() if name not in ("exchange", "peripheral")}
    regimen = Regimen([0.0, 12.0, 20.0], [100.0, 50.0, 80.0], [duration] * 3)
    equation = TwoCompartments if two else OneCompartment
    got = concentrations(equation, regimen, TIMES, constants)
    np.testing.assert_allclose(got, integrated(regimen, TIMES, constants, two), rtol=1e-6, atol=1e-8)


def test_closed_forms():
    iv = {"clearance": 3.0, "volume": 20.0}
    single = Regimen.repeated(100.0)
    np.testing.assert_allclose(concentrations(OneCompartment, single, [0, 4], iv), [5, 5 * np.exp(-0.6)])
    # a long infusion comes to its plateau, the rate over the clearance
    infusion = Regimen.repeated(3000.0, duration=300.0)
    np.testing.assert_allclose(concentrations(OneCompartment, infusion, [200], iv), 10 / 3, rtol=1e-9)
    # steady state: what is left in a geometric series
    many = Regimen.repeated(100.0, 12.0, 40)
    r = np.exp(-0.15 * 12)
    np.testing.assert_allclose(concentrations(OneCompartment, many, [480.0], iv), 5 * r / (1 - r), rtol=1e-9)
    # equal rates: t exp(-k t)
    near = {**ONE, "absorption": 1e-9}
    t = np.array(TIMES[1:6])
    np.testing.assert_allclose(
        concentrations(OneCompartment, single, t, near), 5 * 0.15 * t * np.exp(-0.15 * t), rtol=1e-7
    )


@pytest.mark.parametrize(("oral", "duration"), [(True, 0.0), (False, 0.0), (False, 2.0)])
def test_ode_route_equals_the_closed_form(oral, duration):
    # far below its affinity, elimination that saturates is one of first order; two doses at once among them
    regimen = Regimen([0.0, 12.0, 12.0, 20.0], [100.0, 30.0, 20.0, 80.0], [duration] * 4)
    linear = dict(ONE) if oral else {"clearance": 3.0, "volume": 20.0}
    wide = {"volume": 20.0, "capacity": 3e8, "affinity": 1e8, **({"absorption": 1.05} if oral else {})}
    got = concentrations(SaturableEquation, regimen, TIMES, wide)
    expected = concentrations(OneCompartment, regimen, TIMES, linear)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_saturated_elimination_is_a_straight_line():
    high = {"volume": 10.0, "capacity": 5.0, "affinity": 1e-3}
    t = np.array([0.0, 4.0, 10.0])
    found = concentrations(SaturableEquation, Regimen.repeated(1000.0), t, high)
    np.testing.assert_allclose(found, 100 - 0.5 * t, rtol=1e-5)


@pytest.mark.parametrize("equation", [OneCompartment, TwoCompartments, SaturableEquation])
def test_slopes_equal_finite_differences(equation):
    regimen = Regimen([0.0, 5.0], [100.0, 50.0], [0.0, 0.0])
    own = {OneCompartment: ONE, TwoCompartments: TWO}.get(
        equation, {"volume": 10.0, "capacity": 8.0, "affinity": 2.0, "absorption": 1.0}
    )
    X = torch.from_numpy(np.array(regimen.rows([0.5, 4.0, 7.0, 20.0]), dtype=np.float64))
    model = equation(doses(2), None, {}, True)
    values = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in own.values()]
    assert torch.autograd.gradcheck(lambda *c: model(X, **dict(zip(own, c, strict=True))), values, rtol=1e-4)


def records(n=40, seed=0, route="oral", doses=3, spread=0.3, samples=5, weights=False):
    """Patients in one tidy frame, doses every 12 hours."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(n):
        weight = rng.uniform(50, 110)
        scale = weight / 70
        own = {"clearance": 3 * scale**0.75 * np.exp(spread * rng.normal()),
               "volume": 20 * scale * np.exp(spread * rng.normal())}  # fmt: skip
        if route == "oral":
            own["absorption"] = 0.9 * np.exp(spread * rng.normal())
        regimen = Regimen.repeated(100.0, 12.0, doses)
        times = np.sort(rng.uniform(0.5, 12 * doses + 12, samples))
        seen = concentrations(OneCompartment, regimen, times, own) * np.exp(0.1 * rng.normal(size=samples))
        given = pd.DataFrame({"time": regimen.time, "dose": regimen.amount})
        taken = pd.DataFrame({"time": times, "concentration": seen})
        frames.append(pd.concat([given, taken]).assign(patient=f"P{i}", weight=weight))
    frame = pd.concat(frames, ignore_index=True)
    return frame if weights else frame.drop(columns="weight")


@pytest.fixture(scope="module")
def clinic():
    frame = records(weights=True)
    patients = read_patients(frame, covariates=["weight"], n_doses=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = OneCompartmentRegressor(allometric="weight", noise="proportional").fit(patients[:12])
    return frame, patients, model


def test_doses_are_no_observations(clinic):
    frame, patients, model = clinic
    assert patients.sizes.tolist() == [5] * 40
    assert patients.X.shape[1] == 1 + 3 * 5 + 1
    new = frame[frame["patient"] == "P37"]
    X, y = model.read(new, covariates=["weight"])
    assert len(X) == len(y) == 5
    np.testing.assert_array_equal(X.to_numpy(), patients.task("P37").X)
    only_doses = new[new["concentration"].isna()]
    assert len(model.read(only_doses, covariates=["weight"])[0]) == 0


def test_population_is_recovered(clinic):
    _, _, model = clinic
    values = model.population_["value"]
    np.testing.assert_allclose(values[["clearance", "volume"]], [3, 20], rtol=0.15)
    assert 0.08 < model.noise_["cv"] < 0.13


def test_what_a_clinician_asks(clinic):
    frame, _, model = clinic
    new = frame[frame["patient"] == "P38"]
    patient = model.adapt(*model.read(new, covariates=["weight"]))
    assert patient.guard_ is not None
    weight = float(new["weight"].iloc[0])
    cl = clearance(patient)
    v = volume(patient)
    constants = patient.params_["value"]
    assert cl.value == pytest.approx(constants["clearance"] * (weight / 70) ** 0.75)
    assert v.value == pytest.approx(constants["volume"] * weight / 70)
    assert cl.lower < cl.value < cl.upper
    assert half_life(patient).value == pytest.approx(np.log(2) * v.value / cl.value)
    assert auc(patient, 100.0).value == pytest.approx(100 / cl.value)
    regimen = Regimen.repeated(80.0, 8.0, 4, weight=weight)
    rows = model.rows(regimen, np.linspace(0, 32, 3201))
    top = peak(patient, regimen, until=32.0)
    assert top.loc["concentration", "value"] == pytest.approx(patient.predict(rows).max(), rel=1e-3)
    assert top.loc["concentration", "lower"] < top.loc["concentration", "value"] < top.loc["concentration", "upper"]
    dose = dose_for(patient, regimen, target_trough=2.0)
    again = regimen.scaled(dose.value / 80.0)
    assert patient.predict(model.rows(again, [32.0]))[0] == pytest.approx(2.0)
    assert dose.lower < dose.value < dose.upper
    high = dose_for(patient, regimen, target_peak=6.0)
    again = regimen.scaled(high.value / 80.0)
    assert patient.predict(model.rows(again, np.linspace(0, 32, 3201))).max() == pytest.approx(6.0, rel=2e-3)
    assert next_sample(patient, regimen, [1.0, 6.0, 31.0], n=2).shape == (2,)
    assert next_sample(model, regimen, [1.0, 6.0, 31.0]).shape == (1,)
    np.testing.assert_array_equal(model.read(new)[0], model.read(new, covariates=["weight"])[0])
    pickle.loads(pickle.dumps(patient)).predict(rows)
    with pytest.raises(ValueError, match="one dose has no interval"):
        dose_for(patient, Regimen.repeated(80.0), target_trough=2.0)
    with pytest.raises(ValueError, match="one of target_trough, target_peak, target_auc and target_time_above"):
        dose_for(patient, regimen)


def test_parametrizations_are_one_model_with_full_covariance(clinic):
    _, patients, _ = clinic
    settings = {"route": "oral", "covariance": "full", "noise": "additive", "random": None}
    fits = [OneCompartmentRegressor(parametrization=own, **settings).fit(patients[:12]) for own in ("volume", "rate")]
    # a is not ka: the prior of the third constant is the same in both, so the likelihoods are
    assert fits[0].log_likelihood_ == pytest.approx(fits[1].log_likelihood_, abs=0.05)


def test_weight_scales_both_parametrizations_alike(clinic):
    _, patients, _ = clinic
    X = torch.from_numpy(np.array(patients[0].X, dtype=np.float64))
    weight = X.shape[1] - 1
    own = {"clearance": 3.0, "absorption": 0.9}
    equation = OneCompartment(doses(5), weight, {}, True)
    volume, rate = (equation(X, **{name: torch.tensor(value).double() for name, value in {**own, **rest}.items()})
                    for rest in ({"volume": 20.0}, {"elimination": 0.15}))  # fmt: skip
    np.testing.assert_allclose(volume, rate)


def test_rates_cannot_flip():
    frame = records(8, 3)
    model = OneCompartmentRegressor(parameters={"absorption": 0.05}).fit(read_patients(frame))
    with pytest.raises(ValueError, match="there is no 'ka'"):
        OneCompartmentRegressor(parameters={"ka": 1.0}).fit(read_patients(frame))
    assert (model.task_params_["absorption"] > 0).all()


def test_two_compartments_recovered_from_infusions():
    rng = np.random.default_rng(1)
    frames = []
    for i in range(25):
        own = {name: TWO[name] * np.exp(0.2 * rng.normal()) for name in ("clearance", "volume")}
        own |= {"exchange": 5.0, "peripheral": 40.0}
        regimen = Regimen.repeated(100.0, 24.0, 2, duration=1.0)
        times = np.array([0.5, 1.1, 2, 4, 8, 20, 25.1, 30, 47])
        seen = concentrations(TwoCompartments, regimen, times, own) * np.exp(0.05 * rng.normal(size=len(times)))
        given = pd.DataFrame({"time": regimen.time, "dose": regimen.amount, "hours": regimen.duration})
        frames.append(pd.concat([given, pd.DataFrame({"time": times, "concentration": seen})]).assign(patient=i))
    patients = read_patients(pd.concat(frames, ignore_index=True), duration="hours")
    model = TwoCompartmentRegressor(route="iv", random=["clearance", "volume"], noise="proportional").fit(patients)
    np.testing.assert_allclose(model.population_["value"], [3, 20, 5, 40], rtol=0.2)
    assert half_life(model.adapt(patients[0].X, patients[0].y)).value > np.log(2) * 20 / 3


@pytest.mark.slow
def test_saturable_elimination_is_fitted():
    rng = np.random.default_rng(2)
    frames = []
    for i in range(12):
        own = {"volume": 10 * np.exp(0.1 * rng.normal()), "capacity": 8 * np.exp(0.2 * rng.normal()), "affinity": 3.0}
        times = np.array([0.5, 2, 5, 9, 13, 18, 24, 30])
        regimen = Regimen.repeated(150.0)
        seen = concentrations(SaturableEquation, regimen, times, own) + 0.1 * rng.normal(size=len(times))
        given = pd.DataFrame({"time": [0.0], "dose": [150.0]})
        frames.append(pd.concat([given, pd.DataFrame({"time": times, "concentration": seen})]).assign(patient=i))
    patients = read_patients(pd.concat(frames, ignore_index=True))
    model = MichaelisMentenRegressor(route="iv", random=["volume", "capacity"], noise="additive").fit(patients)
    np.testing.assert_allclose(model.population_["value"], [10, 8, 3], rtol=0.25)
    assert model.batching_ == "rows"
    with pytest.raises(TypeError, match="elimination saturates"):
        clearance(model.adapt(patients[0].X, patients[0].y))


def glucose_test(times, constants):
    measured = [0.0, 4.0, 20.0, 60.0, 180.0]
    level = [10.0, 90.0, 40.0, 20.0, 10.0]
    rows = insulin_rows(times, measured, level, 90.0, 10.0)
    sg, si, p2, g0 = constants

    def rates(t, s):
        return [sg * (90 - s[0]) - s[1] * s[0], p2 * (si * (np.interp(t, measured, level) - 10) - s[1])]

    found = solve_ivp(rates, (0, 180), [g0, 0.0], t_eval=times, rtol=1e-10, atol=1e-12, max_step=1.0)
    return rows, found.y[0]


def test_minimal_model_equals_scipy():
    times = [2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 120.0, 180.0]
    constants = (0.02, 5e-4, 0.03, 260.0)
    rows, expected = glucose_test(times, constants)
    X = torch.from_numpy(np.array(rows, dtype=np.float64))
    got = MinimalModel(5)(X, *(torch.tensor(c, dtype=torch.float64) for c in constants))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.slow
def test_minimal_model_is_fitted():
    times = [2.0, 5.0, 10.0, 20.0, 40.0, 70.0, 120.0, 180.0]
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(12):
        own = (0.02, 5e-4 * np.exp(0.4 * rng.normal()), 0.03, 260.0 * np.exp(0.1 * rng.normal()))
        rows, glucose = glucose_test(times, own)
        pairs.append((rows, glucose + 2 * rng.normal(size=len(times))))
    model = MinimalModelRegressor(random=["sensitivity", "start"]).fit(pairs)
    assert model.population_.loc["sensitivity", "value"] == pytest.approx(5e-4, rel=0.3)


def test_the_minimal_model_prints_its_summary_and_adapts_on_no_rows():
    tests = [glucose_test([2.0, 10.0, 40.0], (0.02, sensitivity, 0.03, 260.0)) for sensitivity in (3e-4, 5e-4, 8e-4)]
    pairs = [(rows, glucose + np.array([2.0, -3.0, 1.0])) for rows, glucose in tests]
    model = MinimalModelRegressor(random=["sensitivity"], max_iter=1).fit(pairs)
    assert "effectiveness" in model.summary()
    np.testing.assert_allclose(model.adapt([], []).predict(tests[0][0]), model.predict(tests[0][0]))


@pytest.mark.slow
def test_units_do_not_matter_to_the_minimal_model():
    """Minutes, mg/dL and uU/mL; hours, mmol/L and pmol/L."""
    columns = ["effectiveness", "sensitivity", "action", "start"]
    fitted = []
    for time, glucose, insulin in ((1.0, 1.0, 1.0), (1 / 60, 1 / 18, 6.0)):
        pairs = []
        for own in (3e-4, 5e-4, 8e-4):
            rows, y = glucose_test([2.0, 10.0, 40.0], (0.02, own, 0.03, 260.0))
            size = [time if "time" in name else glucose if "glucose" in name else insulin for name in rows.columns]
            pairs.append((rows * size, glucose * (y + np.array([2.0, -3.0, 1.0]))))
        model = MinimalModelRegressor(random=["sensitivity"], max_iter=2).fit(pairs)
        units = np.array([1 / time, 1 / time / insulin, 1 / time, glucose])
        fitted.append([*model.population_.loc[columns, "value"] / units, model.log_likelihood_ + 9 * np.log(glucose)])
    np.testing.assert_allclose(fitted[1], fitted[0], rtol=1e-6)


@pytest.mark.parametrize(("of_y", "of_basal"), [(1 / 18, 1.0), (1.0, 1 / 18)])
def test_glucose_in_two_units_is_refused(of_y, of_basal):
    rows, y = glucose_test([2.0, 10.0, 40.0], (0.02, 5e-4, 0.03, 260.0))
    pairs = [(rows.assign(basal_glucose=of_basal * rows["basal_glucose"]), of_y * y)] * 3
    with pytest.raises(
        TaskError, match="task 0: the median of glucose is .* and basal_glucose is .*; use the same unit"
    ):
        MinimalModelRegressor().fit(pairs)


def test_what_the_minimal_model_refuses():
    rows, glucose = glucose_test([2.0, 10.0], (0.02, 5e-4, 0.03, 260.0))
    with pytest.raises(ValueError, match="columns of insulin_rows"):
        MinimalModelRegressor().fit([(rows.to_numpy(), glucose)] * 3)
    mixed = pd.concat([rows[:1], rows[1:].assign(insulin_2=50.0)])
    with pytest.raises(TaskError, match="task 1: the insulin or a basal value in row 1 differs from that in row 0"):
        MinimalModelRegressor().fit([(rows, glucose), (mixed, glucose), (rows, glucose)])
    times = pd.to_timedelta([0, 5], unit="min")
    for arguments, message in (
        (([1.0], [0, 0], [1, 1], 90, 10), "rising times"),
        (([1.0], [0, 5], [1, 1, 1], 90, 10), "got 2 times and 3 values"),
        (([1.0], times, [1, 1], 90, 10), "insulin_times: time differences were passed"),
        ((times, [0, 5], [1, 1], 90, 10), "times: time differences were passed"),
        (([-1.0], [0, 5], [1, 1], 90, 10), "times must be numbers of at least 0, got -1 at 0"),
        (([1.0], [0, 5], [1, np.nan], 90, 10), "insulin: value 1 is missing"),
        (([1.0], [0, 5], [1, 1], [90, 95], 10), "basal_glucose: one number of at least 0 is wanted"),
    ):
        with pytest.raises(ValueError, match=message):
            insulin_rows(*arguments)


def frame_of(**columns):
    return pd.DataFrame({"patient": "A", **columns})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"time": [0, -1.0], "dose": [100, None], "concentration": [None, 3]}, "column 'time' is -1 in row 1"),
        ({"time": [0, 1], "dose": [-5, None], "concentration": [None, 3]}, "column 'dose' is -5 in row 0"),
        ({"time": [0, None], "dose": [5, None], "concentration": [None, 3]}, "column 'time' is missing in row 1"),
        ({"time": [0, 1], "dose": [None, None], "concentration": [2, 3]}, "column 'dose' has no dose above 0"),
        ({"time": [0, 1], "dose": [100, 100], "concentration": [None, 3]}, "row 1 has a dose and a concentration"),
        (
            {"time": [0, 1], "dose": ["x", None], "concentration": [None, 3]},
            "holds 'x' in row 0, which is not a number",
        ),
        (
            {"time": [0, 1], "dose": pd.date_range("2026-01-01", periods=2), "concentration": [None, 3]},
            "column 'dose' holds dates",
        ),
        ({"time": [0, 1], "dose": [100, None], "concentration": [None, np.inf]}, "it must be finite"),
    ],
)
def test_bad_records(columns, message):
    with pytest.raises(TaskError, match=message) as caught:
        read_patients(frame_of(**columns))
    assert "task 'A'" in str(caught.value)


def test_no_records():
    with pytest.raises(TaskError, match="no column 'concentration'; the frame has"):
        read_patients(frame_of(time=[0, 1], dose=[100, None]))
    with pytest.raises(TaskError, match="the frame has no records"):
        read_patients(frame_of(time=[0], dose=[1], concentration=[None]).iloc[:0])


def test_records_in_any_order():
    frame = records(1)
    shuffled = frame.sample(frac=1, random_state=0)
    np.testing.assert_array_equal(
        read_patients(frame).X, read_patients(shuffled).X[np.argsort(read_patients(shuffled).X[:, 0])]
    )


def test_a_sample_above_its_dose_was_taken_before_it():
    before = frame_of(time=[0, 12, 12], dose=[100, None, 100], concentration=[None, 3.0, None])
    after = frame_of(time=[0, 12, 12], dose=[100, 100, None], concentration=[None, None, 3.0])
    assert read_patients(before).X[0, 1:3].tolist() == [100, 0]
    assert read_patients(after).X[0, 1:3].tolist() == [100, 100]


def test_patients_with_doses_only_and_with_one_observation(clinic):
    frame, _, model = clinic
    one = frame[frame["patient"] == "P3"]
    doses_only = one[one["concentration"].isna()].assign(patient="Q")
    with pytest.warns(UserWarning, match="1 patient has doses but no concentration and is left out: 'Q'"):
        assert read_patients(pd.concat([one, doses_only]), covariates=["weight"]).names.tolist() == ["P3"]
    with pytest.warns(UserWarning, match="left out"), pytest.raises(TaskError, match="no patient has a value"):
        read_patients(doses_only, covariates=["weight"])
    single = pd.concat([one[one["concentration"].isna()], one[one["concentration"].notna()][:1]])
    patient = model.adapt(*model.read(single, covariates=["weight"]))
    assert len(patient.X_support_) == 1
    assert patient.guard_.n_judged == 0


def test_all_below_the_limit():
    frame = records(10)
    low = frame.assign(concentration=frame["concentration"].where(frame["concentration"].isna(), 0.0))
    with pytest.raises(TaskError, match="all 50 observations lie below limit"):
        OneCompartmentRegressor(limit=0.5).fit(read_patients(low))
    model = OneCompartmentRegressor(limit=0.5).fit(read_patients(frame))
    patient = model.adapt(*model.read(low[low["patient"] == "P0"]), guard=False)
    X = patient.X_support_
    assert (patient.predict(X) < model.predict(X)).all()


def test_other_bad_input(clinic):
    frame, patients, model = clinic
    with pytest.raises(ValueError, match="fitted on the covariate 'weight', and no value is given"):
        model.rows(Regimen.repeated(10.0), [1.0])
    with pytest.raises(ValueError, match="covariate 'height', which the model was not fitted on"):
        model.rows(Regimen.repeated(10.0, weight=70.0, height=1.7), [1.0])
    with pytest.raises(ValueError, match="times must be at least 0"):
        Regimen.repeated(10.0).rows([-1.0])
    with pytest.raises(ValueError, match="interval above 0"):
        Regimen.repeated(10.0, n=2)
    with pytest.raises(ValueError, match="needs at least one dose above 0"):
        Regimen.repeated(0.0)
    X, y = model.read(frame[frame["patient"] == "P1"], covariates=["weight"])
    with pytest.raises(TaskError, match="time is -3 in row 0"):
        model.adapt(X.assign(time=[-3.0, 1, 2, 3, 4]), y)
    with pytest.raises(TaskError, match="weights must be above 0"):
        model.adapt(X.assign(weight=0.0), y)
    with pytest.raises(TaskError, match="no row has a dose above 0"):
        model.adapt(X.assign(**{f"dose_{i}": 0.0 for i in range(1, 6)}), y)
    with pytest.raises(TaskError, match=r"adapt: column 'weight' .* is 70 in row 0 and 7 in row 2: correct it"):
        model.adapt(X.assign(weight=[70.0, 70, 7, 70, 70]), y)
    patient = model.adapt(X, y)
    heavier = X.assign(weight=[70.0, 75, 80, 85, 90])  # rows to be predicted may ask what if
    alone = [patient.predict(heavier[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(patient.predict(heavier), alone)
    with pytest.raises(
        TaskError, match="column 'dose_1' is 0 in row 0, and 100 in another row: every row after time 0"
    ):
        model.adapt(X.assign(dose_1=[0.0, 100, 100, 100, 100]), y)
    with pytest.raises(TaskError, match="dose in column 'dose_1' differs between the rows"):
        model.adapt(X.assign(dose_1=[50.0, 100, 100, 100, 100]), y)
    for settings, message in (
        ({"allometric": True}, "allometric must be the column of the weight, got True"),
        ({"route": "rectal"}, "route must be"),
        ({"lag": True, "route": "iv"}, "lag=True needs"),
        ({"allometric": "height"}, "no column 'height'"),
        ({"allometric": 99}, "99 is not a column of X"),
        ({"fixed": {"volume": -1}}, "not inside its bounds"),
        ({"parametrization": "x"}, "parametrization must be"),
    ):
        with pytest.raises(ValueError, match=message):
            OneCompartmentRegressor(**settings).fit(patients)
    with pytest.raises(ValueError, match="has no rate of elimination"):
        MichaelisMentenRegressor(parametrization="rate").fit(patients)
    infused = records(5)
    infused["hours"] = infused["dose"] / 100
    with pytest.raises(TaskError, match="a dose has a duration"):
        OneCompartmentRegressor().fit(read_patients(infused, duration="hours"))
    changing = frame[frame["patient"] == "P1"].assign(weight=np.arange(8.0) + 60)
    with pytest.raises(TaskError, match="is a property of the patient but changes"):
        read_patients(changing, covariates=["weight"])


def test_columns_time_and_dose():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(12):
        times = np.array([0.5, 1, 2, 4, 8, 16.0])
        own = {name: value * np.exp(0.2 * rng.normal()) for name, value in ONE.items()}
        seen = concentrations(OneCompartment, Regimen.repeated(100.0), times, own)
        X = np.column_stack([times, np.full(6, 100.0)])
        pairs.append((X, seen + 0.05 * rng.normal(size=6)))
    model = OneCompartmentRegressor(noise="additive").fit(pairs)
    assert model.population_.loc["clearance", "value"] == pytest.approx(3, rel=0.2)
    single = Regimen.repeated(100.0)
    assert next_sample(model, single, [1.0, 8.0]).shape == (1,)
    assert next_sample(model.adapt(*pairs[0]), single, [1.0, 8.0]).shape == (1,)
    np.testing.assert_allclose(
        model.predict(model.rows(Regimen.repeated(100.0, 12.0, 3), [30.0])),
        model.predict([[30.0, 100.0], [18.0, 100.0], [6.0, 100.0]]).sum(),
    )
    with pytest.raises(ValueError, match="one column; it must have columns for time and dose"):
        OneCompartmentRegressor().fit([(X[:, :1], seen)] * 3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["time", "dose", "addl"], r"X has the column 'addl' .number of further doses"),
        (["time", "dose", "dose_1"], "has a column 'dose' and columns 'dose_1'"),
        (["time", "dose_1", "dose_3"], "X has 2 columns of doses, but no 'dose_2'"),
        (["time", "dose_1", "dose_time_2"], "X has 1 columns of doses, but no 'dose_time_1'"),
        (["time", "dose", "dose_duration_1"], "X has the column 'dose_duration_1' but no 'dose_1'"),
        (["hours", "dose", "x"], "X has no column 'time'"),
    ],
)
def test_columns_that_no_model_reads_are_refused(columns, message):
    X = pd.DataFrame([[1.0, 100.0, 2.0], [2.0, 100.0, 2.0]], columns=columns)
    tasks = TaskSet.from_arrays(pd.concat([X] * 3), [5.0, 4.0] * 3, ["A", "A", "B", "B", "C", "C"])
    with pytest.raises(ValueError, match=message):
        OneCompartmentRegressor().fit(tasks)


def test_a_weight_that_changes_within_a_patient_is_refused_in_fits(clinic):
    _, patients, _ = clinic
    X = np.array(patients[:12].X)
    weight = patients.feature_names.index("weight")
    X[7, weight] *= 10
    wrong = TaskSet.from_arrays(X, patients[:12].y, np.repeat(np.arange(12), 5), feature_names=patients.feature_names)
    with pytest.raises(
        TaskError, match="task 1: column 'weight' .the weight of allometric=. is .* in row 0 and .* in row 2"
    ):
        OneCompartmentRegressor(allometric="weight").fit(wrong)


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")  # absorption differs, and is shared here
def test_lag_and_fixed_constants():
    frame = records(15, 4, doses=1, samples=6)
    patients = read_patients(frame)
    model = OneCompartmentRegressor(lag=True, fixed={"volume": 20.0}, random=["clearance"]).fit(patients)
    assert list(model.population_.index) == ["clearance", "absorption", "lag"]
    assert volume(model.adapt(patients[0].X, patients[0].y)).value == 20


def test_weights_in_grams_are_refused(clinic):
    frame, _, model = clinic
    rows = model.rows(Regimen.repeated(320.0, weight=7.2), [1.0])
    with pytest.raises(TaskError, match="column 'weight' is 7200, which looks like grams; divide it by 1000"):
        model.predict(rows.assign(weight=7200.0))
    in_grams = read_patients(frame.assign(weight=1000 * frame["weight"]), covariates=["weight"])
    with pytest.raises(TaskError, match="which looks like grams"):
        OneCompartmentRegressor(allometric="weight").fit(in_grams)


def test_what_is_no_regimen_or_number_is_said(clinic):
    _, patients, model = clinic
    with pytest.raises(TypeError, match=r"regimen must be a Regimen, such as Regimen.repeated\(320.0\), got list"):
        model.rows([320.0], [1.0])
    with pytest.raises(ValueError, match="fixed: volume: a finite number is wanted, got '30'"):
        OneCompartmentRegressor(fixed={"volume": "30"}).fit(patients[:3])
