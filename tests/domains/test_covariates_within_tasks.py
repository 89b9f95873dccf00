"""Covariates that differ between the rows of a task: taken by isothermal kinetics, refused where rows remember."""

import numpy as np
import pandas as pd
import pytest

from equations import AVRAMI, avrami
from metaest import EquationRegressor, Task, TaskError, TaskSet
from metaest_domains.kinetics import JMAKRegressor, NonIsothermalJMAKRegressor
from metaest_domains.physiology import OneCompartmentRegressor

FOLLOWS = {"covariates": {"k": ["load"]}, "time_varying": ["load"]}


def tasks_of(frame_of_task, n=6):
    rng = np.random.default_rng(0)
    return TaskSet([Task(i, *frame_of_task(rng, rng.uniform(0.1, 2, 8), rng.normal(0, 1, 8))) for i in range(n)])


def test_specimens_at_their_own_loads_are_the_equation_of_a_user():
    def specimens(rng, t, load):
        k = np.exp(0.3 * load + 0.1 * rng.normal())
        return pd.DataFrame({"time": t, "load": load}), 1 - np.exp(-((k * t) ** 2)) + rng.normal(0, 0.01, 8)

    tasks = tasks_of(specimens, 20)
    catalogue = JMAKRegressor(**FOLLOWS).fit(tasks)
    by_hand = EquationRegressor(avrami, AVRAMI, **FOLLOWS).fit(tasks)
    assert catalogue.log_likelihood_ == pytest.approx(by_hand.log_likelihood_, abs=1e-4)
    np.testing.assert_allclose(catalogue.coefficients_["coefficient"], by_hand.coefficients_["coefficient"], rtol=1e-3)
    assert abs(catalogue.coefficients_["coefficient"][0] - 0.3) < 3 * catalogue.coefficients_["standard_error"][0]


def test_a_temperature_history_remembers():
    def ramps(rng, t, load):
        X = pd.DataFrame({"time": t, "start": 600.0, "rate": 10.0, "load": load})
        return X, np.clip(t / 2 + rng.normal(0, 0.01, 8), 0, 1)

    with pytest.raises(TaskError, match="'load' is a covariate .* an integral along the temperatures before its row"):
        NonIsothermalJMAKRegressor(covariates={"k_ref": ["load"]}).fit(tasks_of(ramps))


def test_an_amount_in_a_body_remembers():
    def patients(rng, t, load):
        X = pd.DataFrame({"time": np.sort(t), "dose": 100.0, "load": load})
        return X, 10 * np.exp(-np.sort(t)) + rng.normal(0, 0.1, 8)

    with pytest.raises(
        TaskError, match="'load' is a covariate .* what a constant was at all times before it"
    ) as raised:
        OneCompartmentRegressor(route="iv", covariates={"clearance": ["load"]}).fit(tasks_of(patients))
    assert "TimeVarying" in str(raised.value)
