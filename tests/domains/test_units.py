"""The catalogues know no units: amounts, concentrations and times multiplied by numbers, and constants follow."""

import warnings

import numpy as np
import pandas as pd
import pytest

from metaest import TaskSet
from metaest_domains.kinetics import (
    AustinRickettRegressor,
    FirstOrderConversionRegressor,
    JMAKArrheniusRegressor,
    JMAKRegressor,
    LogisticGrowthRegressor,
    MichaelisMentenRegressor,
    NonIsothermalJMAKRegressor,
    NthOrderConversionRegressor,
    ParallelJMAKRegressor,
)
from metaest_domains.physiology import (
    OneCompartmentRegressor,
    TwoCompartmentRegressor,
    clearance,
    read_patients,
)

pytestmark = pytest.mark.filterwarnings("ignore")
T = np.linspace(0.2, 5, 12)
R = 8.314462618e-3


def avrami(a, b, time):
    return 1 - np.exp(-((a * T) ** (2 * b)))


def austin(a, b, time):
    power = (a * T) ** (2 * b)
    return power / (1 + power)


def two_steps(a, b, time):
    return (1 - 0.2 * b) * (1 - np.exp(-((a * T) ** 2))) + 0.2 * b * (1 - np.exp(-0.2 * T))


def growing(a, b, time):
    return 3 * a / (1 + np.exp(-2 * (T - 2 * b)))


def saturating(a, b, time):
    return 3 * a * T / (2 * b + T)


def heated(a, b, time):
    """Heated from 400 K by 30 K per unit of time."""
    s = np.linspace(0, T, 400)
    k = a * np.exp(-100 * b / R * (1 / (400 + 30 * s) - 1 / 475))
    return 1 - np.exp(-np.trapezoid(k, s, axis=0))


# powers of the units of y and time in every constant, and whether y has a unit at all
ONE = (0, 1)
RATE = (0, -1)
NONE = (0, 0)
KINETICS = {
    "JMAK": (JMAKRegressor(), avrami, {"k": RATE, "n": NONE}, False),
    "incubation": (JMAKRegressor(optional=["incubation"]), avrami, {"k": RATE, "n": NONE, "incubation": ONE}, False),
    "Arrhenius": (JMAKArrheniusRegressor(fixed={"E": 100.0}), avrami, {"k_ref": RATE, "n": NONE}, False),
    "Austin-Rickett": (AustinRickettRegressor(), austin, {"k": RATE, "n": NONE}, False),
    "parallel": (ParallelJMAKRegressor(random=["w"]), two_steps, {"k": RATE, "n": NONE, "w": NONE, "k_2": RATE}, False),
    "growth": (LogisticGrowthRegressor(), growing, {"K": (1, 0), "r": RATE, "midpoint": ONE}, True),
    "saturation": (MichaelisMentenRegressor(), saturating, {"Vmax": (1, 0), "Km": ONE}, True),
    "first order": (FirstOrderConversionRegressor(), heated, {"k_ref": RATE, "E": NONE}, False),
    "order n": (NthOrderConversionRegressor(random=["k_ref"]), heated, {"k_ref": RATE, "E": NONE, "order": NONE}, False),
    "along a ramp": (NonIsothermalJMAKRegressor(random=["k_ref"]), heated, {"k_ref": RATE, "E": NONE, "n": NONE}, False),
}  # fmt: skip


def curves(name, unit, time):
    truth = KINETICS[name][1]
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(8):
        a, b = np.exp(0.1 * rng.standard_normal(2))
        columns = [time * T]
        if truth is heated:
            columns += [np.full(12, 400.0), np.full(12, 30.0 / time)]
        if name == "Arrhenius":
            columns.append(np.full(12, 600.0))
        pairs.append((np.column_stack(columns), unit * (truth(a, b, time) + 0.01 * rng.standard_normal(12))))
    return TaskSet(pairs)


def kinetic_answers(name, unit, time):
    model, _, powers, _ = KINETICS[name]
    tasks = curves(name, unit, time)
    model.fit(tasks[:7])
    adapted = model.adapt(tasks[7].X[:4], tasks[7].y[:4])
    of = np.array([unit**power * time**other for power, other in powers.values()])
    assert list(model.population_.index) == list(powers)
    return {
        "constants": model.population_["value"].to_numpy() / of,
        "standard errors": model.population_["standard_error"].to_numpy() / of,
        "log-likelihood": model.log_likelihood_ + len(tasks[:7].X) * np.log(unit),
        "adapted": adapted.params_["value"].to_numpy() / of,
        "interval": np.stack(adapted.predict_interval(tasks[7].X)) / unit,
    }, model.batching_


def same(got, expected, tolerance=1e-6):
    assert got[1] == expected[1]
    for what, values in expected[0].items():
        size = np.nanmax(np.abs(np.where(np.isfinite(values), values, np.nan)))
        np.testing.assert_allclose(got[0][what], values, rtol=tolerance, atol=tolerance * size, err_msg=what)


@pytest.mark.parametrize(
    "name", ["JMAK", "incubation", "Arrhenius", "Austin-Rickett", "growth", "saturation", "order n"]
)
def test_kinetics(name):
    unit = 1e-9 if KINETICS[name][3] else 1.0
    same(kinetic_answers(name, unit, 1e-12), kinetic_answers(name, 1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINETICS)
def test_kinetics_everywhere(name):
    expected = kinetic_answers(name, 1.0, 1.0)
    for time in (1e-12, 1e-6, 1e6, 1e12):
        for unit in (1e-12, 1e12) if KINETICS[name][3] else (1.0,):
            same(kinetic_answers(name, unit, time), expected)


def patients(amount, volume, time, slow):
    rng = np.random.default_rng(0)
    at = np.array([0.5, 1, 2, 4, 8, 24.0])
    records = []
    for i in range(10):
        cl = 3 * np.exp(0.2 * rng.normal())
        v = 30 * np.exp(0.2 * rng.normal())
        ka = 1.2
        c = 300 * ka / v / (ka - cl / v) * (np.exp(-cl / v * at) - np.exp(-ka * at))
        c = (c + slow * (np.exp(-0.02 * at) - np.exp(-ka * at))) * np.exp(0.08 * rng.normal(size=6))
        records += [(f"P{i}", 0.0, 300.0 * amount, np.nan)]
        records += [(f"P{i}", t * time, np.nan, value * amount / volume) for t, value in zip(at, c, strict=True)]
    return read_patients(pd.DataFrame(records, columns=["patient", "time", "dose", "concentration"]))


def clinical_answers(model, amount, volume, time):
    tasks = patients(amount, volume, time, 2.0 if isinstance(model, TwoCompartmentRegressor) else 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(random_state=0).fit(tasks[:9])  # the guard draws rows
        adapted = model.adapt(tasks[9].X[:3], tasks[9].y[:3])
    flow = volume / time
    per_time = 1 / time
    units = {"clearance": flow, "exchange": flow, "elimination": per_time, "absorption": per_time}
    of = np.array([units.get(name, volume) for name in model.population_.index])
    return {
        "constants": model.population_["value"].to_numpy() / of,
        "standard errors": model.population_["standard_error"].to_numpy() / of,
        "noise": float(model.noise_.iloc[0]) / (amount / volume),
        "log-likelihood": model.log_likelihood_ + len(tasks[:9].X) * np.log(amount / volume),
        "clearance": clearance(adapted).value / flow,
    }, model.batching_


MODELS = {
    "one compartment": OneCompartmentRegressor(),
    "rates": OneCompartmentRegressor(parametrization="rate"),
    "two compartments": TwoCompartmentRegressor(random=["clearance"]),
}


def test_pharmacokinetics():
    """Milligrams, litres and hours; millimoles, picolitres and seconds."""
    model = MODELS["one compartment"]
    same(clinical_answers(model, 1 / 300, 1e-9, 3600.0), clinical_answers(model, 1.0, 1.0, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_pharmacokinetics_everywhere(name):
    expected = clinical_answers(MODELS[name], 1.0, 1.0, 1.0)
    for amount in (1e-12, 1e12):
        for volume in (1e-12, 1e12):
            for time in (1e-12, 1e12):
                # two compartments are hardly told apart by six samples: their evidence is flat
                same(clinical_answers(MODELS[name], amount, volume, time), expected, 1e-4 if "two" in name else 1e-6)
