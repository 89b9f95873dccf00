"""A published population updated by tasks: between what was published and what the tasks say alone."""

import numpy as np
import pytest
import torch

from metaest import CorrelatedResidualsWarning, EquationRegressor, Parameter, Population, TaskError, UnlikelyTaskWarning
from metaest.estimators.equations.updating import TaskPrior
from metaest.functional import PopulationParameters
from metaest.population import Block, NoiseModel, Power

TIMES = np.array([[0.5], [2.0], [5.0], [9.0]])


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def published(rate=0.2, **changes):
    parts = {
        "constants": {"start": Parameter(10.0, lower=0), "rate": Parameter(rate, lower=0)},
        "between_tasks": Block(sd={"start": 0.3, "rate": 0.2}),
        "noise": NoiseModel("combined", sd=0.1, cv=0.05),
        "columns": {"time": "h"},
    }
    return Population(**{**parts, **changes})


def tasks_of(population, n, seed=0, X=TIMES):
    return EquationRegressor.from_population(decay, population).simulate_tasks(X, n, random_state=seed)


def updated(population, tasks, weight, **settings):
    return EquationRegressor.from_population(decay, population, prior_weight=weight, **settings).fit(tasks)


def test_the_prior_is_least_at_what_was_published_and_has_the_slopes_of_differences():
    fitted = EquationRegressor.from_population(decay, published(standard_errors={"rate": 0.05}))._fitted
    prior = TaskPrior.of(fitted, np.array([4.0, 2.0]), 4.0, 5.0)
    origin = fitted.population
    parts = [origin.beta, origin.factor[[0, 1], [0, 1]], origin.log_sigma]

    def loss(vector):
        beta, diagonal, log_sigma = vector.split([len(part) for part in parts])
        return prior.loss(PopulationParameters(beta, torch.diag(diagonal), log_sigma))

    at = torch.cat(parts)
    assert float(loss(at)) == pytest.approx(0, abs=1e-12)
    away = (at + torch.tensor([0.1, -0.2, 0.05, 0.1, 0.3, -0.2])).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(away), away)
    steps = 1e-6 * torch.eye(6, dtype=torch.float64)
    with torch.no_grad():
        differences = torch.stack([(loss(away + step) - loss(away - step)) / 2e-6 for step in steps])
        assert all(float(loss(at + 1e3 * sign * step)) > 0 for step in steps for sign in (1, -1))
    torch.testing.assert_close(gradient, differences, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("compile", [False, "auto"])
def test_a_great_weight_keeps_and_a_small_one_lets_tasks_speak(compile):
    tasks = tasks_of(published(rate=0.3), 40)
    alone = EquationRegressor(
        decay, published().constants, covariance="diagonal", noise="combined", compile=compile
    ).fit(tasks)
    much, little, some = (updated(published(), tasks, weight, compile=compile) for weight in (1e7, 1e-4, 20.0))
    np.testing.assert_allclose(much.population_["value"], [10.0, 0.2], rtol=1e-3)
    np.testing.assert_allclose(much.population_["omega"], [0.3, 0.2], rtol=1e-2)
    np.testing.assert_allclose(little.population_["value"], alone.population_["value"], rtol=2e-3)
    np.testing.assert_allclose(little.population_["omega"], alone.population_["omega"], rtol=2e-2)
    assert 0.2 < some.population_["value"]["rate"] < alone.population_["value"]["rate"]
    assert some.population_["standard_error"]["rate"] < alone.population_["standard_error"]["rate"]


def test_typical_values_are_weighed_by_their_precisions():
    """Of tasks whose constants are known exactly there are n, beside w published ones."""
    exact = {"noise": NoiseModel("additive", sd=1e-4)}
    tasks = tasks_of(published(rate=0.3, **exact), 10)
    rates = -np.log(tasks.y.reshape(10, 4)[:, 3] / tasks.y.reshape(10, 4)[:, 0]) / (TIMES[3, 0] - TIMES[0, 0])
    model = updated(published(**exact), tasks, 10.0)
    precisions = 10 / 0.2**2, 10 / model.population_["omega"]["rate"] ** 2
    expected = np.average([np.log(0.2), np.log(rates).mean()], weights=precisions)
    assert np.log(model.population_["value"]["rate"]) == pytest.approx(expected, abs=1e-4)


def test_auto_trusts_a_population_that_fits_more_than_one_that_does_not():
    tasks = tasks_of(published(), 15)
    right, wrong = (updated(published(rate=rate), tasks, "auto") for rate in (0.2, 0.4))
    assert right.prior_weights_["rate"] > 5 > wrong.prior_weights_["rate"]
    assert wrong.prior_weights_["start"] > 5  # which both have right
    assert wrong.population_["value"]["rate"] < 0.3


def test_one_task_is_enough_and_none_keeps_the_population():
    one = updated(published(), tasks_of(published(rate=0.3), 1), 5.0)
    assert one.n_tasks_ == 1
    assert (one.population_["omega"] > 0.1).all()
    none = EquationRegressor.from_population(decay, published(), prior_weight="auto")
    assert none.to_population() == published()
    assert np.isinf(none.prior_weights_).all()


def test_formulas_and_constants_known_exactly_stay_as_published():
    formula = {
        "covariates": {"rate": Power("weight", -0.25, reference=70)},
        "columns": {"time": "h", "weight": "kg"},
        "between_tasks": Block(sd={"rate": 0.2}),
    }
    designs = [np.column_stack([TIMES, np.full(4, weight)]) for weight in (50.0, 70.0, 90.0)]
    tasks = tasks_of(published(rate=0.3, **formula), 12, X=designs)
    model = updated(published(**formula), tasks, 2.0)
    assert model.population_["value"]["start"] == pytest.approx(10.0, rel=1e-12)
    assert model.population_["value"]["rate"] > 0.25
    rows = np.column_stack([TIMES, np.full(4, 35.0)])
    expected = model.population_["value"]["rate"] * 0.5**-0.25
    assert model.adapt([], [], covariates={"weight": 35.0}).params_["value"]["rate"] == pytest.approx(expected)
    again = EquationRegressor.from_population(decay, model.to_population())
    np.testing.assert_allclose(again.predict(rows), model.predict(rows), rtol=1e-10)


def test_the_same_update_twice_is_the_same():
    tasks = tasks_of(published(rate=0.3), 5)
    one, other = (updated(published(), tasks, "auto") for _ in range(2))
    assert one.population_.equals(other.population_)
    assert "Updated from a population" in one.summary()


def test_an_update_warns_of_what_a_fit_warns_of():
    tasks = tasks_of(published(), 8)
    y = tasks.y.copy()
    y[2] *= 20
    mistyped = {f"task {i}": (TIMES, y[4 * i : 4 * i + 4]) for i in range(8)}
    near = pytest.warns(UnlikelyTaskWarning, match="no curve of this population comes near .* 1 of 8 tasks")
    with near, pytest.warns(UnlikelyTaskWarning, match="task 'task 0' has a value of 'start' unlike all others"):
        updated(published(), mistyped, 50.0)


@pytest.mark.parametrize("weight", [np.inf, 3.0, "auto"])
def test_tasks_in_another_unit_are_warned_of_and_two_targets_refused(weight):
    tasks = tasks_of(published(), 4)
    with pytest.warns(UnlikelyTaskWarning, match="fit: no curve of this population comes near the rows of 4 of 4"):
        updated(published(), [(task.X, 1000 * task.y) for task in tasks], weight)
    with pytest.raises(TaskError, match="y has 2 targets; an equation gives one value a row"):
        updated(published(), [(task.X, np.column_stack([task.y, task.y])) for task in tasks], weight)


def test_the_remedy_for_correlated_rows_is_none_that_a_prior_refuses():
    times = np.linspace(0.2, 9, 40)[:, None]
    slow = 0.3 * np.sin(times[:, 0])
    tasks = {f"task {i}": (times, 10 * np.exp(-0.2 * times[:, 0]) + slow * (-1) ** i) for i in range(6)}
    with pytest.warns(CorrelatedResidualsWarning, match=r"without it \(prior=None\) can learn the correlation"):
        updated(published(noise=NoiseModel("combined", sd=0.3, cv=0.05)), tasks, 5.0)


@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")  # starts vary in the tasks
def test_weights_are_those_of_constants_that_vary():
    known = published(between_tasks=Block(sd={"rate": 0.2}), standard_errors={"start": 0.5})
    model = updated(known, tasks_of(published(), 10), 4.0)
    assert model.prior_weights_.to_dict() == {"rate": 4.0, "covariance and noise": 4.0}
    assert model.population_["value"]["start"] != 10.0  # within its published standard error


@pytest.mark.parametrize("weight", [0, -1.0, np.nan, "published", None, True])
def test_weights_that_are_none_are_refused(weight):
    with pytest.raises(ValueError, match="prior_weight"):
        updated(published(), tasks_of(published(), 2), weight)


def test_power_noise_without_a_floor_is_updated_in_machine_code_as_by_torch():
    power = published(noise=NoiseModel("power", sd_at_1=0.1, power=0.5))
    tasks = tasks_of(power, 6)
    one, other = (updated(power, tasks, 5.0, compile=compile) for compile in ("auto", False))
    assert one.compiled_
    np.testing.assert_allclose(one.noise_, other.noise_, rtol=1e-5)
