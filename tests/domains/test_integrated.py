"""Integrated models: accuracy at any time, derivatives, rows that do not see each other, units, and failure."""

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.special import wrightomega

from metaest import TaskError
from metaest_domains.physiology import (
    MichaelisMentenRegressor,
    Regimen,
    insulin_rows,
    radau,
    read_patients,
)
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.integrated import SaturableEquation
from metaest_domains.physiology.minimal_model import MinimalModel, _ramp_response

pytestmark = pytest.mark.filterwarnings(
    "ignore::metaest.IdentifiabilityWarning",
    "ignore::metaest.UnlikelyTaskWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)

INSULIN = ([3.0, 4.0, 20.0, 60.0, 180.0], [10.0, 90.0, 40.0, 0.0, 10.0])
BASAL = (90.0, 10.0)


def rows_of(regimen, times):
    return torch.from_numpy(np.array(regimen.rows(times), dtype=np.float64))


def saturable(n, oral):
    number = np.arange(1, n + 1)
    return SaturableEquation(Doses(0, tuple(number), tuple(n + number), tuple(2 * n + number)), None, {}, oral)


def concentrations(regimen, times, constants):
    equation = saturable(len(regimen.time), "absorption" in constants)
    of_patient = {name: torch.tensor(value, dtype=torch.float64) for name, value in constants.items()}
    return equation(rows_of(regimen, times), **of_patient).numpy()


def by_lsoda(regimen, times, constants):
    """Return concentrations from event to event, and the highest one."""
    volume = constants["volume"]
    capacity = constants["capacity"]
    affinity = constants["affinity"]
    absorption = constants.get("absorption", 0.0)
    events = np.unique(np.concatenate([regimen.time, regimen.time + regimen.duration]))
    values = np.zeros(len(times))
    state = np.zeros(2)
    peak = 0.0
    tiny = 1e-13 * np.array([regimen.amount.max(), regimen.amount.max() / volume])
    for begin, end in zip(events, [*events[1:], np.inf], strict=True):
        state[0 if absorption else 1] += regimen.amount[(regimen.time == begin) & (regimen.duration == 0)].sum() / (
            1 if absorption else volume
        )
        runs = (regimen.duration > 0) & (regimen.time <= begin) & (begin < regimen.time + regimen.duration)
        inflow = (regimen.amount[runs] / regimen.duration[runs]).sum()

        def slope(t, s, inflow=inflow):
            taken = absorption * s[0]
            return [-taken, (taken + inflow - capacity * s[1] / (affinity + abs(s[1]))) / volume]

        here = (times >= begin) & (times < end)
        last = end if np.isfinite(end) else max(begin + 1.0, times.max())
        close = begin + (last - begin) * np.linspace(0, 1, 60) ** 4  # to see the peak
        grid = np.unique([begin, last, *times[here], *close])
        run = solve_ivp(slope, (begin, last), state, t_eval=grid, method="LSODA", rtol=1e-10, atol=tiny)
        values[here] = run.y[1][np.searchsorted(grid, times[here])]
        state = run.y[:, -1].copy()
        peak = max(peak, run.y[1].max())
    return values, peak


def random_patient(rng):
    """Constants over orders of magnitude, oral, intravenous or infused, and times up to 1,000 terminal half-lives."""
    route = rng.choice(["oral", "iv", "infusion"])
    n = int(rng.integers(1, 6))
    volume, affinity, rate = np.exp(rng.normal([3, 1, -2], [1, 2, 1.5]))
    constants = {"volume": volume, "capacity": rate * volume * affinity, "affinity": affinity}
    if route == "oral":
        constants["absorption"] = np.exp(rng.normal(0, 1.5))
    dose = affinity * volume * np.exp(rng.normal(0, 2))
    start = np.sort(rng.choice([0.0, 12.0, 24.0, 48.0, 168.0, 336.0], n, replace=False))
    duration = rng.choice([0.5, 2.0, 30.0], n) if route == "infusion" else np.zeros(n)
    late = 1000 * np.log(2) / rate * rng.uniform(0, 1, 3) ** 3
    return Regimen(start, dose * rng.uniform(0.5, 2, n), duration), np.sort([*rng.uniform(0, 400, 8), *late]), constants


@pytest.mark.parametrize("n", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_saturable_elimination_equals_lsoda_at_any_time(n):
    rng = np.random.default_rng(n)
    for _ in range(n):
        regimen, times, constants = random_patient(rng)
        expected, peak = by_lsoda(regimen, times, constants)
        np.testing.assert_allclose(concentrations(regimen, times, constants), expected, rtol=0, atol=1e-6 * peak)


@pytest.mark.parametrize("affinity", [1e-6, 0.5, 1e6])
@pytest.mark.parametrize("rate", [1e-3, 30.0])
def test_a_dose_into_the_vein_has_the_closed_form(affinity, rate):
    # x + log x = x0 + log x0 - k t with x = C / K_m
    constants = {"volume": 10.0, "capacity": rate * 10.0 * affinity, "affinity": affinity}
    start = 50.0 / affinity
    times = (start + 1) / rate * np.array([0.0, 1e-3, 0.3, 0.9, 1.0, 1.1, 3.0, 700.0])
    expected = wrightomega(np.log(start) + start - rate * times)
    values = concentrations(Regimen.repeated(500.0), times, constants)
    np.testing.assert_allclose(values, affinity * expected, rtol=0, atol=1e-6 * 50)


def test_a_long_infusion_comes_to_its_plateau():
    constants = {"volume": 10.0, "capacity": 8.0, "affinity": 2.0}
    regimen = Regimen([0.0, 1e5], [5e5, 1.0], [1e5, 0.0])
    plateau = 2.0 * 5 / (8 - 5)
    values = concentrations(regimen, [9e4, 99_999.0, 2e5], constants)
    np.testing.assert_allclose(values, [plateau, plateau, 0.0], rtol=1e-7, atol=1e-6)


def glucose(times, constants):
    rows = torch.from_numpy(np.array(insulin_rows(times, *INSULIN, *BASAL), dtype=np.float64))
    return MinimalModel(len(INSULIN[0]))(
        rows, *(torch.tensor(constant, dtype=torch.float64) for constant in constants)
    ).numpy()


def glucose_by_lsoda(times, constants):
    effectiveness, sensitivity, action, start = constants

    def slope(t, s):
        insulin = np.interp(t, *INSULIN)
        return [effectiveness * (BASAL[0] - s[0]) - s[1] * s[0], action * (sensitivity * (insulin - BASAL[1]) - s[1])]

    values = np.zeros(len(times))
    state = np.array([start, 0.0])
    knots = [0.0, *INSULIN[0], max(1e3, times.max()) + 1]
    for begin, end in pairwise(knots):
        here = (times >= begin) & (times < end)
        grid = np.unique([begin, *times[here], end])
        tiny = [1e-13 * start, 1e-13 * max(effectiveness, 90 * sensitivity)]
        run = solve_ivp(slope, (begin, end), state, t_eval=grid, method="LSODA", rtol=1e-10, atol=tiny)
        values[here] = run.y[0][np.searchsorted(grid, times[here])]
        state = run.y[:, -1]
    return values


@pytest.mark.parametrize("n", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_the_minimal_model_equals_lsoda_at_any_time(n):
    rng = np.random.default_rng(n)
    for _ in range(n):
        constants = np.array([0.02, 5e-4, 0.03, 260.0]) * np.exp(rng.normal(size=4) * [1, 1, 1.5, 0.3])
        times = np.sort([*rng.uniform(0, 180, 8), *1000 * np.log(2) / constants[0] * rng.uniform(0, 1, 3) ** 3])
        expected = glucose_by_lsoda(times, constants)
        np.testing.assert_allclose(glucose(times, constants), expected, rtol=0, atol=1e-6 * expected.max())


def test_the_response_to_a_ramp_is_smooth_where_its_series_ends():
    for z in (1e-3, 0.3, 0.499, 0.501, 4.0):
        around = np.array([z - 1e-5, z, z + 1e-5])
        for lower, higher in zip(_ramp_response(around)[:2], _ramp_response(around)[1:], strict=True):
            assert (lower[2] - lower[0]) / 2e-5 == pytest.approx(higher[1], rel=1e-6)
    np.testing.assert_allclose([derivative[0] for derivative in _ramp_response(np.zeros(1))], [0, 1 / 2, -1 / 3])


DERIVED = {
    "oral": (
        Regimen([0.0, 5.0, 5.0, 9.0], [100.0, 50.0, 20.0, 0.0], [0.0] * 4),
        {"volume": 10.0, "capacity": 8.0, "affinity": 2.0, "absorption": 1.0, "lag": 0.3},
    ),
    "slow absorption": (
        Regimen([0.0], [100.0], [0.0]),
        {"volume": 10.0, "capacity": 200.0, "affinity": 2.0, "absorption": 0.05},
    ),
    "infusions": (
        Regimen([0.0, 5.0, 6.0], [100.0, 50.0, 20.0], [2.0, 3.0, 0.0]),
        {"volume": 10.0, "capacity": 8.0, "affinity": 2.0},
    ),
}


@pytest.mark.parametrize("case", DERIVED)
def test_first_and_second_derivatives_of_concentrations_equal_differences(case):
    regimen, constants = DERIVED[case]
    X = rows_of(regimen, [0.0, 0.5, 4.0, 5.0, 7.0, 20.0, 60.0])
    equation = saturable(len(regimen.time), case != "infusions")
    relative = [torch.ones((), dtype=torch.float64, requires_grad=True) for _ in constants]

    def curve(*factors):
        return equation(X, **{name: f * constants[name] for name, f in zip(constants, factors, strict=True)})

    assert torch.autograd.gradcheck(curve, relative, eps=1e-4, atol=1e-4, rtol=1e-5)
    assert torch.autograd.gradgradcheck(curve, relative, eps=1e-4, atol=1e-3, rtol=1e-4)


def test_first_and_second_derivatives_of_glucose_equal_differences():
    X = torch.from_numpy(np.array(insulin_rows([0, 2.0, 5.0, 18, 70.0, 180, 900], *INSULIN, *BASAL), dtype=np.float64))
    relative = [torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(4)]

    def curve(*factors):
        return MinimalModel(5)(X, *(f * c for f, c in zip(factors, (0.02, 5e-4, 0.03, 260.0), strict=True)))

    assert torch.autograd.gradcheck(curve, relative, eps=1e-4, atol=1e-4, rtol=1e-5)
    assert torch.autograd.gradgradcheck(curve, relative, eps=1e-4, atol=1e-3, rtol=1e-4)


def test_a_row_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(5)
    regimen = Regimen([0.0, 12.0, 24.0], [100.0, 50.0, 80.0], [0.0] * 3)
    X = rows_of(regimen, np.sort(rng.uniform(0, 500, 30)))
    equation = saturable(3, True)
    constants = {
        name: torch.from_numpy(value * np.repeat(np.exp(rng.normal(size=10)), 3))
        for name, value in {"volume": 10.0, "capacity": 8.0, "affinity": 2.0, "absorption": 1.0}.items()
    }
    together = equation(X, **constants)
    alone = [equation(X[i : i + 1], **{name: own[i : i + 1] for name, own in constants.items()})[0] for i in range(30)]
    np.testing.assert_allclose(together, alone, rtol=1e-13, atol=0)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
@pytest.mark.parametrize("what", ["amount", "time", "volume"])
def test_units_do_not_matter(unit, what):
    amount, time, volume = (unit if what == dimension else 1.0 for dimension in ("amount", "time", "volume"))
    times = np.array([0.5, 3.0, 9.0, 15.0, 40.0, 300.0])
    constants = {"volume": 10.0, "capacity": 8.0, "affinity": 2.0, "absorption": 1.0}
    scale = {"volume": volume, "capacity": amount / time, "affinity": amount / volume, "absorption": 1 / time}
    here = concentrations(Regimen([0.0, 12.0], [100.0, 50.0], [0.0] * 2), times, constants)
    there = concentrations(
        Regimen([0.0, 12.0 * time], [100.0 * amount, 50.0 * amount], [0.0] * 2),
        times * time,
        {name: value * scale[name] for name, value in constants.items()},
    )
    np.testing.assert_allclose(there * volume / amount, here, rtol=1e-9, atol=1e-9 * here.max())


def test_nothing_is_there_before_the_first_dose():
    constants = {"volume": 10.0, "capacity": 8.0, "affinity": 2.0, "absorption": 1.0, "lag": 1.0}
    late = Regimen([5.0, 8.0], [100.0, 0.0], [0.0] * 2)
    values = concentrations(late, [0.0, 5.0, 5.9, 6.0, 6.1], constants)
    np.testing.assert_allclose(values[:4], 0, atol=1e-14)
    assert values[4] > 0


def clinic(times, n=4, seed=0, extra=()):
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(n):
        constants = {"volume": 30.0 * np.exp(0.2 * rng.normal()), "capacity": 12.0, "affinity": 3.0, "absorption": 1.5}
        seen = concentrations(Regimen.repeated(300.0), np.array([*times, *extra]), constants)
        seen[: len(times)] *= np.exp(0.05 * rng.normal(size=len(times)))
        taken = pd.DataFrame({"time": [*times, *extra], "concentration": seen})
        frames.append(pd.concat([pd.DataFrame({"time": [0.0], "dose": [300.0]}), taken]).assign(patient=f"P{i}"))
    return read_patients(pd.concat(frames, ignore_index=True))


@pytest.fixture(scope="module")
def fitted():
    settings = {"fixed": {"affinity": 3.0, "absorption": 1.5}, "random": ["volume"], "noise": "additive", "max_iter": 2}
    patients = [clinic([1.0, 4.0, 12.0, 24.0], extra=extra) for extra in ((), (168.0, 2000.0))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [(tasks, MichaelisMentenRegressor(**settings).fit(tasks)) for tasks in patients]


def test_late_samples_do_not_move_a_fit(fitted):
    (_, without), (_, model) = fitted
    assert model.batching_ == "rows"
    np.testing.assert_allclose(model.population_["value"], without.population_["value"], rtol=0.02)
    constants = {**model.population_["value"].to_dict(), "affinity": 3.0, "absorption": 1.5}
    times = np.array([24.0, 168.0, 1e4])
    expected, peak = by_lsoda(Regimen.repeated(300.0), times, constants)
    predicted = model.predict(model.rows(Regimen.repeated(300.0), times))
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-6 * peak)


def test_doses_beyond_those_of_the_fit_count_from_their_own_times(fitted):
    _, model = fitted[1]
    regimen = Regimen([0.0, 12.0, 30.0], [300.0, 150.0, 450.0])
    times = np.array([5.0, 12.0, 20.0, 31.0, 60.0])
    constants = {**model.population_["value"].to_dict(), "affinity": 3.0, "absorption": 1.5}
    expected, peak = by_lsoda(regimen, times, constants)
    rows = model.rows(regimen, times)
    assert "dose_3" in rows.columns
    assert "dose_3" not in model.feature_names_in_
    np.testing.assert_allclose(model.predict(rows), expected, rtol=0, atol=1e-6 * peak)
    # a fit of one dose at time 0 has no column of its time
    further = np.array([[150.0, 12.0, 0.0, 450.0, 30.0, 0.0]]).repeat(5, axis=0)
    X = torch.from_numpy(np.column_stack([times, np.full(5, 300.0), further]))
    of_patient = {name: torch.tensor(value, dtype=torch.float64) for name, value in constants.items()}
    values = SaturableEquation(Doses(0, (1,), (), (), 2), None, {}, True)(X, **of_patient).numpy()
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6 * peak)


def test_a_tolerance_that_is_not_met_is_an_error(fitted, monkeypatch):
    patients, model = fitted[1]
    many = model.adapt_many(patients)
    early = model.predict(model.rows(Regimen.repeated(300.0), [1.0]))
    one = model.adapt(*(part[:4] for part in (patients[0].X, patients[0].y)), guard=False)
    rows = model.rows(Regimen.repeated(300.0), [1.0, 2000.0])
    monkeypatch.setattr(radau, "MOST_ATTEMPTS", 8)
    monkeypatch.setattr(radau, "GROW", 1.0)
    message = r"the concentration at time 2000 \(row 1\) cannot be integrated to the tolerance"
    for predict in (model.predict, one.predict, lambda X: one.predict(X, return_std=True)):
        with pytest.raises(TaskError, match=f"predict: {message}"):
            predict(rows)
    with pytest.raises(TaskError, match=rf"task 'P0': {message}"):
        many.predict(rows)
    with pytest.raises(TaskError, match="task 'P0': the concentration at time"):
        many.predict(patients)
    with pytest.raises(TaskError, match="adapt: the concentration at time"):
        model.adapt(patients[0].X, patients[0].y, guard=False)
    np.testing.assert_allclose(model.predict(rows[:1]), early, rtol=1e-6)


def test_an_equation_that_is_integrated_cannot_be_mapped():
    X = rows_of(Regimen.repeated(100.0), [1.0, 5.0])
    equation = saturable(1, False)
    volumes = torch.tensor([10.0, 20.0], dtype=torch.float64)

    def curve(volume):
        return equation(X, volume=volume, capacity=torch.tensor(8.0).double(), affinity=torch.tensor(2.0).double())

    with pytest.raises(NotImplementedError, match="depend on the values"):
        torch.vmap(curve)(volumes)
