"""Clinical quantities agree with densely evaluated curves and with answers that are put back."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from agreement import assert_agree
from metaest import TaskError
from metaest_domains.physiology import (
    MichaelisMentenRegressor,
    OneCompartmentRegressor,
    Regimen,
    TwoCompartmentRegressor,
    absorption_rate,
    auc,
    clearance,
    dose_for,
    half_life,
    load_published,
    next_sample,
    peak,
    read_patients,
    time_above,
    trough,
    volume,
)
from metaest_domains.physiology.course import Course, Given
from metaest_domains.physiology.courses import SaturableCourses, _solved
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.integrated import SaturableEquation

pytestmark = pytest.mark.filterwarnings(
    "ignore::metaest.IdentifiabilityWarning",
    "ignore::metaest.UnlikelyTaskWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


def single_doses(curve, n=12, dose=300.0, at=(1.0, 3.0, 8.0, 20.0), duration=0.0, seed=0):
    """Patients with one dose at time 0, weights and four samples."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(n):
        weight = rng.uniform(50, 90)
        factor = np.exp(0.25 * rng.normal(size=2)) * [(weight / 70) ** 0.75, weight / 70]
        seen = curve(np.array(at), dose, *factor) * np.exp(0.05 * rng.normal(size=len(at)))
        records.append((f"P{i}", 0.0, dose, np.nan, weight, duration))
        records += [(f"P{i}", t, np.nan, c, weight, np.nan) for t, c in zip(at, seen, strict=True)]
    return pd.DataFrame(records, columns=["patient", "time", "dose", "concentration", "weight", "hours"])


def bolus(t, dose, cl, v):
    return dose / (25 * v) * np.exp(-2.5 * cl / (25 * v) * t)


def oral(t, dose, cl, v):
    ke = 2.5 * cl / (25 * v)
    ka = 1.1
    return dose * ka / (25 * v) / (ka - ke) * (np.exp(-ke * t) - np.exp(-ka * t))


@pytest.fixture(scope="module")
def iv():
    frame = single_doses(bolus).drop(columns="hours")
    patients = read_patients(frame, covariates=["weight"])
    model = OneCompartmentRegressor(route="iv", allometric="weight", noise="proportional").fit(patients)
    return model, model.adapt(patients[0].X[:2], patients[0].y[:2], guard=False), frame


@pytest.fixture(scope="module")
def by_mouth():
    frame = single_doses(oral).drop(columns=["hours", "weight"])
    patients = read_patients(frame)
    model = OneCompartmentRegressor(noise="proportional", random=["clearance", "volume"]).fit(patients)
    return model, model.adapt(patients[1].X, patients[1].y, guard=False), frame


@pytest.fixture(scope="module")
def infused():
    frame = single_doses(lambda *own: bolus(*own) * 0.9, duration=1.0, n=8).drop(columns="weight")
    patients = read_patients(frame, duration="hours")
    settings = {"noise": "proportional", "random": ["clearance"], "fixed": {"exchange": 4.0, "peripheral": 30.0}}
    model = TwoCompartmentRegressor(route="iv", max_iter=20, **settings).fit(patients)
    return model, model.adapt(patients[2].X, patients[2].y, guard=False)


def curve_of(patient, model, regimen, times):
    if "weight" in patient.feature_names_in_ and not regimen.covariates:
        regimen = replace(regimen, covariates={"weight": float(patient.X_support_[0, -1])})
    return patient.predict(model.rows(regimen, times))


def test_the_first_dose_of_a_patient_without_samples(iv):
    model, _, _ = iv
    regimen = Regimen.repeated(200.0, interval=8.0, n=4, weight=58.0)
    answer = dose_for(model, regimen, target_trough=3.0)
    at_end = model.predict(model.rows(regimen, [32.0]))[0]
    assert answer.value == pytest.approx(200 * 3 / at_end)
    # as wide as the population: of 2,000 simulated patients 90 % would need a dose inside
    expected = clearance(model, covariates={"weight": 58.0})
    assert expected.value == pytest.approx(model.population_.loc["clearance", "value"] * (58 / 70) ** 0.75)
    omega = model.population_.loc["clearance", "omega"]
    assert np.log(expected.upper / expected.lower) >= 2 * 1.6448 * omega * 0.98
    assert answer.upper / answer.lower > np.exp(omega)
    assert volume(model, covariates={"weight": 58.0}).value == pytest.approx(
        model.population_.loc["volume", "value"] * 58 / 70
    )
    # the same as of the patient adapted on no rows
    nobody = model.adapt([], [])
    assert_agree(dose_for(nobody, regimen, target_trough=3.0), answer, "float64")
    assert_agree(peak(nobody, regimen, until=32.0), peak(model, regimen, until=32.0), "float64")
    said = model.adapt([], [], covariates={"weight": 58.0})
    assert_agree(clearance(said), expected, "float64")
    assert_agree(dose_for(said, Regimen.repeated(200.0, interval=8.0, n=4), target_trough=3.0), answer, "float64")
    assert next_sample(model, regimen, [1.0, 7.9, 31.0]).shape == (1,)


def test_covariates_are_heeded_or_refused(iv):
    model, patient, _ = iv
    doses = {"interval": 8.0, "n": 4}
    for question in (
        lambda who, regimen: dose_for(who, regimen, target_trough=3.0),
        lambda who, regimen: dose_for(who, regimen, target_peak=30.0),
        lambda who, regimen: peak(who, regimen, until=10.0),
        lambda who, regimen: trough(who, regimen),
        lambda who, regimen: time_above(who, regimen, 4.0, until=10.0),
        lambda who, regimen: auc(who, regimen),
        lambda who, regimen: next_sample(who, regimen, [1.0, 2.0]),
    ):
        with pytest.raises(ValueError, match="fitted on the covariate 'weight'"):
            question(model, Regimen.repeated(200.0, **doses))
        with pytest.raises(ValueError, match="'age', which the model was not fitted on"):
            question(patient, Regimen.repeated(200.0, **doses, age=4.0))
        with pytest.raises(ValueError, match="weights must be above 0"):
            question(patient, Regimen.repeated(200.0, **doses, weight=0.0))
    with pytest.raises(ValueError, match=r"pass its value for this patient, covariates=\{'weight': \.\.\.\}"):
        clearance(model)
    with pytest.raises(ValueError, match="covariates has 'age', which the model was not fitted on"):
        clearance(patient, covariates={"age": 4.0})
    weight = patient.X_support_[0, -1]
    usual, lighter = (Regimen.repeated(200.0, **doses, weight=kg) for kg in (weight, weight / 2))
    assert trough(patient, usual) == trough(patient, Regimen.repeated(200.0, **doses))
    assert trough(patient, lighter).value == pytest.approx(curve_of(patient, model, lighter, [32.0])[0])
    assert clearance(patient, covariates={"weight": weight / 2}).value == pytest.approx(
        clearance(patient).value * 0.5**0.75
    )


REGIMENS = [
    Regimen.repeated(300.0),
    Regimen.repeated(300.0, interval=6.0, n=5),
    Regimen([0.0, 3.0, 3.5, 30.0], [100.0, 250.0, 40.0, 10.0], 0.0),
]


@pytest.mark.parametrize("regimen", REGIMENS)
def test_the_peak_is_that_of_the_curve_however_far_is_looked(by_mouth, regimen):
    model, patient, _ = by_mouth
    for until in (0.4, 3.2, 24.0):
        times = np.linspace(0, until, 20_001)
        curve = curve_of(patient, model, regimen, times)
        top = peak(patient, regimen, until=until)["value"]
        assert top["concentration"] == pytest.approx(curve.max(), rel=1e-6)
        assert top["time"] == pytest.approx(times[curve.argmax()], abs=until / 5000)
    answers = [peak(patient, regimen, until=until) for until in (40.0, 168.0, 5000.0, None)]
    for other in answers[1:]:
        np.testing.assert_allclose(answers[0], other, rtol=1e-6)


def test_peaks_of_infusions_are_at_their_ends(infused):
    model, patient = infused
    regimen = Regimen([0.0, 10.0], [300.0, 500.0], [1.0, 2.5])
    top = peak(patient, regimen, until=700.0)["value"]
    assert top["time"] == pytest.approx(12.5)
    assert top["concentration"] == pytest.approx(curve_of(patient, model, regimen, [12.5])[0])
    # a fast infusion after a slow one: the peak before the second ends
    times = np.linspace(0, 11, 11_001)
    assert peak(patient, regimen, until=11.0)["value"]["concentration"] == pytest.approx(
        curve_of(patient, model, regimen, times).max(), rel=1e-7
    )


def test_slow_absorption_and_a_lag():
    equation_of = {"clearance": 1.0, "volume": 30.0, "lag": 2.0}
    frame = single_doses(oral, n=8).drop(columns=["hours", "weight"])
    patients = read_patients(frame)
    model = OneCompartmentRegressor(lag=True, fixed=equation_of, noise="proportional", max_iter=5).fit(patients)
    regimen = Regimen.repeated(300.0, interval=24.0, n=2)
    top = peak(model, regimen, until=3000.0)["value"]
    times = np.concatenate([np.linspace(0, 200, 2001), np.linspace(top["time"] - 0.1, top["time"] + 0.1, 20_001)])
    curve = model.predict(model.rows(regimen, times))
    assert top["concentration"] == pytest.approx(curve.max(), rel=1e-7)
    assert peak(model, regimen, until=1.9)["value"].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="no dose of this regimen reaches 1: none of it is in the blood by 1.5"):
        dose_for(model, regimen, target_trough=1.0, time=1.5)


def test_a_trough_at_the_time_of_a_dose_is_before_it(iv):
    model, patient, _ = iv
    regimen = Regimen.repeated(300.0, interval=0.1 * 3, n=4)  # times that rounding tells apart
    before = Regimen.repeated(300.0, interval=0.3, n=2)
    answer = trough(patient, regimen, time=0.6)
    assert answer.value == pytest.approx(curve_of(patient, model, before, [0.6])[0])
    assert trough(patient, regimen, time=0.3 + 0.3 + 0.3).value == pytest.approx(
        curve_of(patient, model, Regimen.repeated(300.0, interval=0.3, n=3), [0.9])[0]
    )
    dose = dose_for(patient, regimen, target_trough=9.0, time=0.6).value
    assert trough(patient, regimen.scaled(dose / 300), time=0.6).value == pytest.approx(9.0)
    assert trough(patient, regimen).value == pytest.approx(curve_of(patient, model, regimen, [1.2])[0])


@pytest.mark.parametrize("which", ["iv", "by_mouth", "infused"])
def test_doses_given_stay_and_doses_to_choose_reach_the_target(which, request):
    _, patient, *_ = request.getfixturevalue(which)
    lasting = 1.0 if which == "infused" else 0.0
    given = Regimen([0.0, 12.0, 24.0], [320.0, 100.0, 320.0], lasting)
    to_come = Regimen([36.0, 48.0, 60.0], [50.0, 25.0, 25.0], lasting)
    now = trough(patient, to_come, given=given, time=36.5).value
    answer = dose_for(patient, to_come, given=given, target_trough=6.0)
    scaled = to_come.scaled(answer.value / 50)
    whole = Regimen(*(np.concatenate([getattr(given, name), getattr(scaled, name)])
                      for name in ("time", "amount", "duration")))  # fmt: skip
    assert trough(patient, whole).value == pytest.approx(6.0)
    assert answer.lower < answer.value < answer.upper
    # from scratch it takes more
    assert dose_for(patient, Regimen([0.0, 12, 24], [50.0, 25, 25], lasting), target_trough=6.0).value > answer.value
    target = 1.5 * now
    answer = dose_for(patient, to_come, given=given, target_peak=target)
    top = peak(patient, to_come.scaled(answer.value / 50), given=given, until=72.0)
    assert top.loc["concentration", "value"] == pytest.approx(target, rel=1e-7)
    with pytest.warns(UserWarning, match="without a further dose: the dose for this target is 0"):
        nothing = dose_for(patient, to_come, given=given, target_peak=0.5 * now)
    assert nothing.value == 0
    with pytest.warns(UserWarning, match="the dose for this target is 0"):
        assert dose_for(patient, to_come, given=given, target_trough=1e-9, time=37.0).value == 0


def test_what_was_given_before_has_to_be_said(iv):
    _, patient, _ = iv
    late = Regimen([36.0, 48.0], [300.0, 300.0], 0.0)
    for question in (
        lambda: dose_for(patient, late, target_trough=5.0),
        lambda: peak(patient, late, until=60.0),
        lambda: trough(patient, late),
        lambda: time_above(patient, late, 3.0, until=60.0),
        lambda: auc(patient, late),
        lambda: next_sample(patient, late, [37.0]),
    ):
        with pytest.raises(
            ValueError, match="begins at 36, .* hold 1 dose up to 0: pass all previous doses as given=Regimen"
        ):
            question()
    with pytest.raises(TypeError, match="given must be a Regimen"):
        trough(patient, late, given=300.0)
    with pytest.raises(ValueError, match="given has the covariate 'weight' = 70 and the regimen 60"):
        trough(patient, Regimen([36.0, 48.0], 300.0, 0.0, {"weight": 60.0}), given=Regimen.repeated(300.0, weight=70.0))


def test_a_model_of_single_doses_takes_any_number(by_mouth, iv):
    model, patient, _ = by_mouth
    regimen = Regimen([0.0, 7.0, 20.0], [300.0, 100.0, 200.0], 0.0)
    times = np.array([3.0, 15.0, 40.0])
    parts = [curve_of(patient, model, Regimen.repeated(dose), np.maximum(times - start, 0)) * (times > start)
             for start, dose in zip(regimen.time, regimen.amount, strict=True)]  # fmt: skip
    rows = model.rows(regimen, times)
    np.testing.assert_allclose(patient.predict(rows), np.sum(parts, axis=0))
    assert np.shape(patient.predict_interval(rows)) == (2, 3)
    # it adapts to patients with more doses, and a different number in what follows
    three = model.adapt(rows, [9.0, 7.0, 5.0], guard=False)
    step = model.adapt(rows[:1], [9.0], guard=False).partial_adapt(rows[1:], [7.0, 5.0])
    np.testing.assert_allclose(step.predict(rows), three.predict(rows))
    one = model.rows(Regimen.repeated(300.0), [2.0])
    mixed = model.adapt(one, [9.0], guard=False).partial_adapt(model.rows(regimen, [5.0]).assign(dose_2=0.0), [8.0])
    assert mixed.n_features_in_ == model.n_features_in_ == 4
    again = model.adapt(model.rows(Regimen.repeated(300.0), [2.0, 5.0]), [9.0, 8.0], guard=False)
    np.testing.assert_allclose(mixed.predict(one), again.predict(one))
    guarded = model.adapt(rows, [9.0, 7.0, 5.0])
    assert guarded.guard_.n_judged == 3
    # records with more doses than the fit had
    records = pd.DataFrame({"time": [0.0, 8, 9, 16, 20], "dose": [300.0, 300, np.nan, 300, np.nan],
                            "concentration": [np.nan, np.nan, 11.0, np.nan, 9.0]})  # fmt: skip
    X, y = model.read(records)
    assert X.shape == (2, 10)
    assert model.adapt(X, y).n_features_in_ == 4
    weighted, _, _ = iv
    frame = weighted.rows(Regimen.repeated(300.0, 8.0, 3, weight=70.0), [20.0])
    with pytest.raises(TaskError, match="no 'dose_time_2'"):
        weighted.predict(frame.drop(columns="dose_time_2"))
    with pytest.raises(TaskError, match="unseen at fit time"):
        weighted.predict(frame.assign(height=1.7))
    with pytest.raises(TaskError, match="NaN"):
        weighted.predict(frame.assign(dose_2=np.nan))


@pytest.mark.parametrize("which", ["iv", "by_mouth", "infused"])
def test_areas_and_times_above_a_threshold(which, request):
    model, patient, *_ = request.getfixturevalue(which)
    regimen = Regimen([0.0, 8.0, 16.0], [300.0, 300.0, 200.0], 0.5 if which == "infused" else 0.0)
    times = np.linspace(0, 40, 80_001)
    curve = curve_of(patient, model, regimen, times)
    for threshold in (0.5, 4.0, 9.0, 100.0):
        for start, until in ((0.0, 40.0), (5.0, 20.0)):
            inside = (times > start) & (times <= until)
            expected = (curve[inside] > threshold).mean() * (until - start)
            answer = time_above(patient, regimen, threshold, until=until, start=start)
            assert answer.value == pytest.approx(expected, abs=3e-3)
            assert answer.lower <= answer.value + 1e-9
    # a trapezium across each dose given at once is wrong by its step: the area by Riemann sums from the right
    assert auc(patient, regimen, start=1.0, end=30.0).value == pytest.approx(
        np.trapezoid(curve[(times >= 1) & (times <= 30)], dx=times[1]), rel=1e-4
    )
    assert auc(patient, regimen).value == pytest.approx(800 / clearance(patient).value)
    assert auc(patient, regimen).lower == pytest.approx(auc(patient, 800.0).lower)
    later = Regimen([24.0], [100.0], 0.0)
    assert auc(patient, later, given=regimen, start=0.0).value == pytest.approx(900 / clearance(patient).value)


def test_the_rate_of_absorption_is_reported(by_mouth, iv):
    model, patient, _ = by_mouth
    ka = absorption_rate(patient)
    assert patient.derived_.loc["absorption_rate", "value"] == pytest.approx(ka.value)
    population = model.population_["value"]
    ke = population["clearance"] / population["volume"]
    assert model.derived_.loc["absorption_rate", "value"] == pytest.approx(population["absorption"] + ke)
    assert model.derived_.loc["absorption_rate", "value"] == pytest.approx(1.1, rel=0.2)
    assert model.derived_.loc["half_life", "value"] == pytest.approx(np.log(2) / ke)
    assert half_life(patient).value == pytest.approx(patient.derived_.loc["half_life", "value"])
    assert "absorption_rate" in model.summary()
    assert "absorption_rate" not in iv[0].derived_.index
    with pytest.raises(TypeError, match="no absorption"):
        absorption_rate(iv[0], covariates={"weight": 70.0})


def test_summaries_are_printed(iv, by_mouth, infused):
    for (model, *_), name in ((iv, "OneCompartment"), (by_mouth, "OneCompartment"), (infused, "TwoCompartments")):
        text = model.summary()
        assert text.startswith(f"{name}(X, ")
        assert all(word in text for word in (*model.population_.index, *model.derived_.index, "omega", "cv"))


def test_wrong_questions(iv):
    _, patient, _ = iv
    one = Regimen.repeated(300.0)
    two = Regimen.repeated(300.0, 8.0, 2)
    with pytest.raises(ValueError, match="one dose has no interval"):
        trough(patient, one)
    with pytest.raises(ValueError, match="not after the first dose"):
        dose_for(patient, two, target_trough=3.0, time=0.0)
    with pytest.raises(ValueError, match="until must be after the first dose"):
        peak(patient, two, until=0.0)
    with pytest.raises(ValueError, match="time_above: until: a finite number is wanted"):
        time_above(patient, two, 3.0, until=np.inf)
    with pytest.raises(ValueError, match="end must be after start"):
        auc(patient, two, start=5.0, end=5.0)
    with pytest.raises(ValueError, match="require a Regimen"):
        auc(patient, 300.0, end=5.0)
    with pytest.raises(TypeError, match="an adapted patient of a pharmacokinetic model"):
        clearance(42)
    with pytest.raises(TypeError, match="regimen must be a Regimen"):
        peak(patient, 300.0, until=3.0)


@pytest.mark.parametrize("mouth", [False, True])
def test_saturable_elimination_is_solved(mouth):
    constants = {"volume": 30.0, "capacity": 25.0, "affinity": 4.0, **({"absorption": 0.8} if mouth else {})}
    of_patients = {
        name: torch.tensor([[value], [1.3 * value]], dtype=torch.float64) for name, value in constants.items()
    }
    equation = SaturableEquation(Doses(0, (1,), (2,), (3,)), None, {}, mouth)

    def doses(*given):
        return Given(*(torch.tensor(part, dtype=torch.float64) for part in zip(*given, strict=True)))

    hours = 0.0 if mouth else 1.5
    given = doses((0.0, 400.0, 0.0), (8.0, 200.0, hours))
    to_come = doses((12.0, 100.0, 0.0), (20.0, 100.0, hours))
    courses = SaturableCourses(equation, of_patients, given, to_come)
    times = torch.linspace(12, 40, 281, dtype=torch.float64)
    curve = courses._at(times[:, None].expand(-1, 2), 1.0)
    # what is solved by mouth is slow: one end and one target
    for until in (28.0,) if mouth else (28.0, 40.0):
        top, when = courses.peak(12.0, until)
        best = curve[times <= until].max(dim=0)
        np.testing.assert_allclose(top, best.values, rtol=2e-3)
        assert (top >= best.values * (1 - 1e-4)).all()
        np.testing.assert_allclose(when, times[best.indices], atol=0.2)
    np.testing.assert_allclose(courses.before(20.0), courses._at(torch.full((2,), 20.0).double(), 1.0), rtol=1e-6)
    for target in (7.0,) if mouth else (7.0, 30.0):
        factor = courses.factor_before(target, 28.0)
        np.testing.assert_allclose(courses.before(28.0, factor), target, rtol=1e-6)
        factor = courses.factor_of_peak(target + 20, 12.0, 28.0)
        np.testing.assert_allclose(courses.peak(12.0, 28.0, factor)[0], target + 20, rtol=1e-6)
    assert courses.factor_before(1e-12, 28.0).tolist() == [0.0, 0.0]


def test_a_dose_is_not_a_number_where_concentrations_are_none():
    zero = torch.zeros(2, dtype=torch.float64)
    np.testing.assert_allclose(_solved(lambda factor: torch.where(factor > 100, torch.nan, factor), 5.0, zero), 5.0)
    assert _solved(lambda factor: torch.where(factor > 100, torch.nan, factor), 300.0, zero).isnan().all()
    assert _solved(lambda factor: 1 - torch.exp(-factor), 2.0, zero).isinf().all()
    assert _solved(lambda factor: 3 + factor, 2.0, zero).tolist() == [0.0, 0.0]
    jump = _solved(lambda factor: torch.where(factor > 7, factor + 1e-3, factor), 7.0005, zero)
    np.testing.assert_allclose(jump, 7.0, rtol=1e-6)


def test_the_area_to_infinity_of_absorption_as_fast_as_elimination():
    rate = torch.full((2,), 0.3, dtype=torch.float64)
    ones = torch.ones(1, dtype=torch.float64)
    course = Course.of([(torch.ones_like(rate), rate)], rate, None, Given(0 * ones, 100 * ones, 0 * ones))
    np.testing.assert_allclose(course.area(0.0, np.inf), 100 / 0.3)
    np.testing.assert_allclose(course.peak(0.0, np.inf)[1], 1 / 0.3, rtol=1e-6)


def test_times_that_are_time_differences_are_refused(iv):
    _, patient, _ = iv
    regimen = Regimen.repeated(300.0, 12.0, 2, weight=70.0)
    day = pd.Timedelta("1D")
    answers = (
        lambda: next_sample(patient, regimen, pd.to_timedelta([2, 6], unit="h")),
        lambda: peak(patient, regimen, until=day),
        lambda: time_above(patient, regimen, 1.0, until=day.to_numpy()),
        lambda: auc(patient, regimen, end=day),
        lambda: dose_for(patient, regimen, target_trough=1.0, time=day),
    )
    for answer in answers:
        with pytest.raises(TaskError, match="time differences were passed, and a?.*number"):
            answer()


@pytest.mark.slow
def test_a_saturable_model_answers_what_it_can():
    frame = single_doses(bolus, n=5, at=(1.0, 4.0)).drop(columns=["hours", "weight"])
    fixed = {"volume": 25.0, "affinity": 20.0}
    model = MichaelisMentenRegressor(route="iv", fixed=fixed, noise="proportional", max_iter=3).fit(
        read_patients(frame)
    )
    regimen = Regimen.repeated(300.0, interval=8.0, n=2)
    dose = dose_for(model, regimen, target_trough=4.0).value
    assert trough(model, regimen.scaled(dose / 300)).value == pytest.approx(4.0, rel=1e-6)
    assert peak(model, regimen, until=16.0).loc["time", "value"] == 8.0
    for question in (clearance, half_life):
        with pytest.raises(TypeError, match="elimination saturates"):
            question(model)
    with pytest.raises(TypeError, match="elimination saturates"):
        time_above(model, regimen, 3.0, until=9.0)
    with pytest.raises(ValueError, match="until is required"):
        peak(model, regimen)
    assert "MichaelisMenten" in model.summary() or "SaturableEquation" in model.summary()


def test_a_dose_for_an_area_gives_that_area():
    at = {"crcl": 80.0, "weight": 70.0}
    given = Regimen([0.0], 1000.0, 1.0, at)
    model = OneCompartmentRegressor.from_population(load_published("vancomycin", "buelga-2005"))
    patient = model.adapt(model.rows(given, [2.0, 10.0]), [12.0, 7.0], guard=False)
    for start, end in ((24.0, 48.0), (10.0, None)):
        planned = Regimen([24.0, 36.0], [100.0, 150.0], 1.0, at)
        dose = dose_for(patient, planned, target_auc=120.0, start=start, time=end, given=given)
        area = auc(patient, planned.scaled(dose.value / 100.0), start=start, end=end or 48.0, given=given)
        assert area.value == pytest.approx(120.0, rel=1e-10)
    with pytest.raises(ValueError, match="start= is where the interval of target_auc or target_time_above begins"):
        dose_for(patient, planned, target_auc=120.0, given=given)
    with pytest.raises(ValueError, match="start= is where the interval of target_auc or target_time_above begins"):
        dose_for(patient, planned, target_peak=12.0, start=24.0, given=given)
    with pytest.raises(ValueError, match="the interval has to end after its start; got 50 to 48"):
        dose_for(patient, planned, target_auc=120.0, start=50.0, given=given)
    with pytest.warns(UserWarning, match="the dose for this target is 0"):
        assert dose_for(patient, planned, target_auc=1e-3, start=0.0, given=given).value == 0
