"""Where the search for a population could end wrongly without a word: side valleys, aliases, kinks, branches, outliers."""

import warnings

import numpy as np
import pytest
import torch

from equations import decay
from metaest import EquationRegressor, Parameter, TaskError, UnlikelyTaskWarning


def simulated(equation, draw, n_tasks, x_of, noise, seed):
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(n_tasks):
        X, constants = x_of(rng)[:, None], draw(rng)
        tensors = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in constants.items()}
        y = equation(torch.from_numpy(X), **tensors).numpy()
        tasks.append((X, y + noise * rng.standard_normal(len(y))))
    return tasks


def wave(X, A, w, p):
    return A * torch.sin(w * X[:, 0] + p)


@pytest.mark.parametrize(("seed", "initial"), [(2, 5.0), (2, 4.0), (4, 5.0)])
def test_frequencies_and_phases(seed, initial):
    """Twenty rows over eight periods, frequencies that differ by a third: every curve has dozens of valleys."""

    def draw(rng):
        return {
            "A": 2 * np.exp(0.2 * rng.standard_normal()),
            "w": 5 * np.exp(0.3 * rng.standard_normal()),
            "p": 0.5 * rng.standard_normal(),
        }

    tasks = simulated(wave, draw, 40, lambda rng: np.sort(rng.uniform(0, 10, 20)), 0.2, seed)
    constants = {"A": Parameter(2.0, lower=0), "w": Parameter(initial, lower=0), "p": Parameter(0.0)}
    model = EquationRegressor(wave, constants).fit(tasks)
    assert model.noise_["sd"] == pytest.approx(0.2, rel=0.1)
    assert model.population_.loc["w", "value"] == pytest.approx(5, rel=0.15)


@pytest.mark.parametrize("seed", [3, 4, 8])
@pytest.mark.parametrize("initial", [2.0, 3.0])
def test_of_aliases_the_one_nearest_to_the_users_value(seed, initial):
    """On a regular grid a frequency beyond half the sampling rate fits exactly as well as its alias."""

    def damped(X, A, w, g):
        return A * torch.exp(-g * X[:, 0]) * torch.cos(w * X[:, 0])

    def draw(rng):
        size = np.exp([0.2, 0.2, 0.3] * rng.standard_normal(3))
        return dict(zip("Awg", size * [5, 3, 0.2], strict=True))

    tasks = simulated(damped, draw, 30, lambda rng: np.linspace(0, 10, 25), 0.2, seed)
    constants = {"A": Parameter(3.0, lower=0), "w": Parameter(initial, lower=0), "g": Parameter(0.1, lower=0)}
    assert EquationRegressor(damped, constants).fit(tasks).population_.loc["w", "value"] == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_kink_is_no_failure(seed):
    """A lag lets posteriors have corners, where no step of a smooth search gains anything."""

    def lagged(X, A, k, L):
        return A * (1 - torch.exp(-k * torch.clamp(X[:, 0] - L, min=0)))

    def draw(rng):
        return {
            "A": 5 * np.exp(0.2 * rng.standard_normal()),
            "k": 0.6 * np.exp(0.3 * rng.standard_normal()),
            "L": 2 + 0.4 * rng.standard_normal(),
        }

    tasks = simulated(lagged, draw, 30, lambda rng: np.sort(rng.uniform(0, 10, 12)), 0.1, seed)
    model = EquationRegressor(lagged, {"A": Parameter(3.0, lower=0), "k": Parameter(1.0, lower=0), "L": 1.0}).fit(tasks)
    assert (model.task_params_["status"] == "converged").all()
    np.testing.assert_allclose(model.population_["value"], [5, 0.6, 2], rtol=0.2)


def test_an_equation_that_branches_on_a_constant_found_on_the_way():
    """The probe near the user's values sees one branch; together, one task's constant would switch all."""

    def switched(X, k, a):
        return a * torch.exp(-k * X[:, 0]) + (5.0 if (k > 2.6).any() else 0.0)

    def draw(rng):
        return {"k": np.exp(0.5 * rng.standard_normal()), "a": 3 * np.exp(0.2 * rng.standard_normal())}

    tasks = simulated(switched, draw, 14, lambda rng: np.sort(rng.uniform(0, 3, 4)), 0.05, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = EquationRegressor(switched, {"k": Parameter(1.0, lower=0), "a": Parameter(3.0, lower=0)}, max_iter=5)
        model.fit(tasks)
    assert model.batching_ == "loop"


def test_a_guard_in_the_equation_is_no_error():
    def guarded(X, k, a):
        if (k <= 0).any():
            return torch.full_like(X[:, 0], torch.nan)
        return a * torch.exp(-k * X[:, 0])

    def draw(rng):
        return {"k": 1 + 0.1 * rng.standard_normal(), "a": 3 + 0.3 * rng.standard_normal()}

    tasks = simulated(decay, draw, 20, lambda rng: np.sort(rng.uniform(0, 3, 6)), 0.05, 0)
    model = EquationRegressor(guarded, {"k": 1.0, "a": 1.0}).fit(tasks)
    np.testing.assert_allclose(model.population_["value"], [1, 3], rtol=0.1)


def decays(seed=0):
    def draw(rng):
        return {"k": np.exp(0.3 * rng.standard_normal()), "a": 5 * np.exp(0.2 * rng.standard_normal())}

    return simulated(decay, draw, 30, lambda rng: np.sort(rng.uniform(0, 3, 10)), 0.1, seed)


CONSTANTS = {"k": Parameter(0.5, lower=0), "a": Parameter(1.0)}


@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")
@pytest.mark.parametrize("factor", [10, 100])
def test_a_mistyped_value_is_named(factor):
    tasks = decays()
    tasks[4][1][3] *= factor
    with pytest.warns(UnlikelyTaskWarning, match="fit: row 3 of task 4 lies .* standard deviations of the noise"):
        EquationRegressor(decay, CONSTANTS).fit(tasks)


@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")
def test_a_task_in_other_units_is_named():
    tasks = decays()
    tasks[7] = (tasks[7][0], 30 * tasks[7][1])
    with pytest.warns(UnlikelyTaskWarning, match="fit: task 7 has a value of 'a' unlike all others"):
        EquationRegressor(decay, CONSTANTS).fit(tasks)


def test_healthy_tasks_raise_no_alarm():
    for seed in range(3):
        EquationRegressor(decay, CONSTANTS).fit(decays(seed))


def test_rows_of_one_dimension():
    with pytest.raises(TaskError, match=r"task 0: X has one dimension; a column is wanted, of shape \(n_rows, 1\)"):
        EquationRegressor(decay, CONSTANTS).fit([(np.arange(3.0), np.arange(3.0))] * 3)
