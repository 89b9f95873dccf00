"""A model that keeps a published population, and never saw a task, is served as any other."""

import numpy as np
import pytest

from http_client import Client
from metaest import Parameter, Population
from metaest.population import Block, NoiseModel, Power
from metaest.scorers import few_shot_rmse
from metaest.server import create_app
from metaest_domains.physiology import OneCompartmentRegressor, Regimen

DRUG = Population(
    {"clearance": Parameter(4.0, lower=0, unit="L/h"), "volume": Parameter(60.0, lower=0, unit="L")},
    Block(cv={"clearance": 0.3, "volume": 0.2}),
    NoiseModel("proportional", cv=0.1),
    covariates={"clearance": Power("weight", 0.75, reference=70)},
    columns={"time": "h", "dose": "mg", "weight": "kg"},
    settings={"route": "iv"},
    equation="OneCompartmentRegressor",
)
ROWS = [{"time": time, "dose": 500.0, "weight": 80.0} for time in (2.0, 9.0)]


@pytest.fixture(scope="module")
def model():
    return OneCompartmentRegressor.from_population(DRUG, random_state=0)


def test_a_population_answers_as_in_this_process(model):
    with Client(create_app(model)) as client:
        before = client.post("/predict", {"X": ROWS}).json()
        answer = client.post("/adapt", {"X": ROWS, "y": [7.1, 4.9], "predict": ROWS, "constants": True}).json()
        refused = client.post("/adapt", {"X": [{**ROWS[0], "weight": -1.0}], "y": [7.1], "predict": ROWS})
    X = [[2.0, 500.0, 80.0], [9.0, 500.0, 80.0]]
    patient = model.adapt(X, [7.1, 4.9])
    np.testing.assert_allclose(before["predictions"], model.predict(X))
    np.testing.assert_allclose(answer["predictions"], patient.predict(X))
    assert answer["constants"]["clearance"]["unit"] == "L/h"
    assert "guard" not in answer
    assert refused.status_code == 422
    assert "'weight' is -1" in refused.text


def test_scorers_ask_no_guard_that_nothing_taught(model):
    design = model.rows(Regimen.repeated(500.0, interval=12, n=1, weight=80.0), [2.0, 5.0, 9.0])
    assert 0 < few_shot_rmse(1)(model, model.simulate_tasks(design, 6, random_state=0)) * -1 < 2
