"""Every model of the catalogues gives its population away and keeps it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from metaest import Population
from metaest_domains.kinetics import JMAKArrheniusRegressor, JMAKRegressor, NonIsothermalJMAKRegressor
from metaest_domains.physiology import OneCompartmentRegressor, TwoCompartmentRegressor

TIMES = np.linspace(0.5, 12, 8)


def transformed(rng, columns=()):
    k, n = 0.2 * np.exp(0.3 * rng.normal()), 2.0 * np.exp(0.1 * rng.normal())
    rows = np.column_stack([TIMES, *(np.full(len(TIMES), value) for value in columns)])
    return rows, np.clip(1 - np.exp(-((k * TIMES) ** n)) + 0.01 * rng.normal(size=len(TIMES)), 0, 1)


def named(names, rng, n, *, of_task=lambda i: ()):
    tasks = {}
    for i in range(n):
        X, y = transformed(rng, of_task(i))
        tasks[f"task {i}"] = (pd.DataFrame(X, columns=names), y)
    return tasks


def doses(rng, n):
    tasks = {}
    for i in range(n):
        clearance, volume = np.exp(0.3 * rng.normal(size=2)) * [4, 40]
        y = 300 / volume * np.exp(-clearance / volume * TIMES) * (1 + 0.05 * rng.normal(size=len(TIMES)))
        tasks[f"patient {i}"] = (pd.DataFrame({"time": TIMES, "dose": 300.0}), y)
    return tasks


CASES = {
    "JMAKRegressor": (JMAKRegressor(), lambda rng: named(["time"], rng, 12)),
    "JMAKArrheniusRegressor": (
        JMAKArrheniusRegressor(random=["k_ref", "n"]),
        lambda rng: named(["time", "temperature"], rng, 12, of_task=lambda i: (600.0 + i,)),
    ),
    "NonIsothermalJMAKRegressor": (
        NonIsothermalJMAKRegressor(random=["k_ref"], fixed={"E": 150e3}),
        lambda rng: named(["time", "start", "rate"], rng, 12, of_task=lambda i: (600.0, 0.01)),
    ),
    "OneCompartmentRegressor": (OneCompartmentRegressor(route="iv", noise="proportional"), lambda rng: doses(rng, 12)),
}


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning", "ignore::metaest.IdentifiabilityWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_model_and_its_population_adapt_alike(name, tmp_path):
    model, make = CASES[name]
    tasks = make(np.random.default_rng(0))
    model.fit(tasks)
    X, y = tasks["task 0"] if "task 0" in tasks else tasks["patient 0"]
    model.to_population().to_json(tmp_path / "population.json")
    again = type(model).from_population(Population.from_json(tmp_path / "population.json"))
    one, other = (m.adapt(X[:3], y[:3], guard=False) for m in (model, again))
    np.testing.assert_allclose(one.params_["value"], other.params_["value"], rtol=1e-6)
    np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-7)
    assert type(model).from_population(again.to_population()).population_.equals(again.population_)


def test_ranges_are_those_of_patients_and_not_of_their_times_and_doses():
    model, make = CASES["OneCompartmentRegressor"]
    tasks = {
        name: (frame.assign(weight=60.0 + i), y)
        for i, (name, (frame, y)) in enumerate(make(np.random.default_rng(0)).items())
    }
    assert model.fit(tasks).to_population().provenance.ranges == {"weight": (60.0, 71.0)}


def test_a_population_of_another_model_is_refused():
    model, make = CASES["OneCompartmentRegressor"]
    population = model.fit(make(np.random.default_rng(0))).to_population()
    with pytest.raises(ValueError, match="belongs to OneCompartmentRegressor, and not to TwoCompartmentRegressor"):
        TwoCompartmentRegressor.from_population(population)
    with pytest.raises(ValueError, match="route='oral', but the constants of the population belong to route='iv'"):
        OneCompartmentRegressor.from_population(population, route="oral")


def test_a_reference_that_nothing_states_is_asked_for():
    model, make = CASES["JMAKArrheniusRegressor"]
    content = model.fit(make(np.random.default_rng(0))).to_population().to_dict()
    del content["settings"]
    with pytest.raises(ValueError, match="'reference' has to be given"):
        JMAKArrheniusRegressor.from_population(Population.from_dict(content))


def test_a_setting_that_the_population_does_not_state_is_the_usual_one():
    model, make = CASES["OneCompartmentRegressor"]
    population = model.fit(make(np.random.default_rng(0))).to_population()
    content = {**population.to_dict(), "columns": {**population.columns, "weight": "kg"}}
    with pytest.raises(ValueError, match="allometric='weight', but .* allometric=None"):
        OneCompartmentRegressor.from_population(Population.from_dict(content), allometric="weight")
    with pytest.raises(ValueError, match="belongs to rout='iv', and OneCompartmentRegressor has no such setting"):
        OneCompartmentRegressor.from_population(Population.from_dict({**content, "settings": {"rout": "iv"}}))


def test_a_clone_has_room_for_as_many_doses():
    population = CASES["OneCompartmentRegressor"][0].fit(doses(np.random.default_rng(0), 12)).to_population()
    population = replace(population, columns={"time": "h", "dose": "mg", "weight": "kg"})
    model = OneCompartmentRegressor.from_population(population, n_doses=2)
    expected = [
        "time",
        "dose_1",
        "dose_2",
        "dose_time_1",
        "dose_time_2",
        "dose_duration_1",
        "dose_duration_2",
        "weight",
    ]
    for kept in (model, clone(model).fit([])):
        assert kept.feature_names_in_.tolist() == expected
    assert list(model.to_population().columns.values()) == ["h", "mg", "mg", "h", "h", "h", "h", "kg"]
