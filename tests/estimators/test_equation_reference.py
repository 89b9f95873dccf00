"""EquationRegressor against published fits, the exact mixed model, and simulated tasks whose constants are known."""

import numpy as np
import pytest
from scipy.stats import norm

from equations import THEOPHYLLINE, absorption, avrami, avrami_tasks, line
from metaest import EquationRegressor, Parameter, Task
from metaest_datasets import load_sleepstudy, load_theophylline

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")

AVRAMI = {"k": Parameter(1.0, lower=0, unit="1/h"), "n": Parameter(1.5, lower=0)}


@pytest.fixture(scope="module")
def theophylline():
    return EquationRegressor(absorption, THEOPHYLLINE).fit(load_theophylline())


@pytest.fixture(scope="module")
def sleep():
    return EquationRegressor(line, {"a": 250.0, "b": 10.0}).fit(load_sleepstudy())


def test_theophylline_agrees_with_nlme(theophylline):
    """Pinheiro and Bates (2000), chapter 8: R's nlme, all three constants random, 132 rows."""
    scaled = theophylline.population_["scaled_value"]
    for name, value, error in (("Ke", -2.433, 0.064), ("Ka", 0.451, 0.196), ("Cl", -3.214, 0.081)):
        assert scaled[name] == pytest.approx(value, abs=error / 4)
    assert theophylline.noise_["sd"] == pytest.approx(0.682, rel=0.02)
    assert theophylline.log_likelihood_ == pytest.approx(-173.3, abs=1)
    np.testing.assert_allclose(theophylline.population_["scaled_sd"], [0.131, 0.638, 0.251], rtol=0.03)
    assert theophylline.correlation_.loc["Ke", "Cl"] == pytest.approx(0.995, abs=0.005)
    assert theophylline.aic_ == pytest.approx(367, abs=1)
    assert theophylline.bic_ == pytest.approx(395, abs=1)
    assert "Ke and Cl vary together" in theophylline.summary()


def test_a_diagonal_covariance_lets_one_variation_vanish_and_says_so():
    model = EquationRegressor(absorption, THEOPHYLLINE, covariance="diagonal").fit(load_theophylline())
    assert model.population_.loc["Ke", "between_task_sd"] == 0
    assert model.log_likelihood_ == pytest.approx(-177, abs=1)
    assert "Ke shows no between-task variation" in model.summary()
    np.testing.assert_allclose(model.population_["scaled_sd"][["Ka", "Cl"]], [0.644, 0.167], rtol=0.03)


def test_the_start_does_not_matter():
    """Constants a thousand times off, and on the wrong side of each other."""
    far = {"Ke": Parameter(40.0, lower=0), "Ka": Parameter(50.0, lower=0), "Cl": Parameter(30.0, lower=0)}
    model = EquationRegressor(absorption, far).fit(load_theophylline())
    assert model.log_likelihood_ == pytest.approx(-173.244, abs=0.01)


def test_sleepstudy_agrees_with_lme4(sleep):
    """lme4 and MixedModels.jl, maximum likelihood."""
    population = sleep.population_
    np.testing.assert_allclose(population["value"], [251.405, 10.467], rtol=1e-4)
    np.testing.assert_allclose(population["standard_error"], [6.6323, 1.50224], rtol=5e-3)
    np.testing.assert_allclose(population["between_task_sd"], [23.7807, 5.71684], rtol=5e-3)
    assert sleep.correlation_.loc["a", "b"] == pytest.approx(0.0813, rel=5e-3)
    assert sleep.noise_["sd"] == pytest.approx(25.592, rel=5e-3)
    assert sleep.log_likelihood_ == pytest.approx(-875.96967, abs=0.01)
    assert (sleep.aic_, sleep.bic_) == (pytest.approx(1763.94, abs=0.02), pytest.approx(1783.1, abs=0.1))


def test_a_linear_equation_gives_the_exact_mixed_model(sleep):
    """Best linear unbiased prediction and its error, from Henderson's equations of all tasks together."""
    tasks = load_sleepstudy()
    A = [np.column_stack([np.ones(len(task)), task.X[:, 0]]) for task in tasks]
    psi, sigma = sleep.covariance_.to_numpy(), sleep.noise_["sd"]
    blocks = np.linalg.inv(psi)
    n = len(tasks)
    left = np.zeros((2 + 2 * n, 2 + 2 * n))
    right = np.zeros(2 + 2 * n)
    for i, (Ai, task) in enumerate(zip(A, tasks, strict=True)):
        block = slice(2 + 2 * i, 4 + 2 * i)
        cross = Ai.T @ Ai / sigma**2
        left[:2, :2] += cross
        left[:2, block] = left[block, :2] = cross
        left[block, block] = cross + blocks
        right[:2] += Ai.T @ task.y / sigma**2
        right[block] = Ai.T @ task.y / sigma**2
    solution, covariance = np.linalg.solve(left, right), np.linalg.inv(left)
    np.testing.assert_allclose(sleep.population_["value"], solution[:2], rtol=1e-6)
    table = sleep.task_params_
    for i in range(n):
        pick = np.zeros((2, 2 + 2 * n))
        pick[:, :2] = pick[:, 2 + 2 * i : 4 + 2 * i] = np.eye(2)
        np.testing.assert_allclose(table.iloc[i][["a", "b"]].astype(float), pick @ solution, rtol=1e-6)
        error = np.sqrt(np.diag(pick @ covariance @ pick.T))
        # Henderson's errors count the task among those the population is learned from; ours take the population as given
        # by others, which is what holds for the next task: between the two lies the task's own share
        np.testing.assert_allclose(
            table.iloc[i][["a_standard_error", "b_standard_error"]].astype(float), error, rtol=0.05
        )


def test_adapting_a_linear_equation_is_the_best_linear_prediction(sleep):
    task = load_sleepstudy()[3]
    rows = [0, 4, 7]
    adapted = sleep.adapt(task.X[rows], task.y[rows])
    A = np.column_stack([np.ones(3), task.X[rows, 0]])
    psi, sigma = sleep.covariance_.to_numpy(), sleep.noise_["sd"]
    beta = sleep.population_["value"].to_numpy()
    V = A @ psi @ A.T + sigma**2 * np.eye(3)
    gain = psi @ A.T @ np.linalg.inv(V)
    expected = beta + gain @ (task.y[rows] - A @ beta)
    np.testing.assert_allclose(adapted.params_["value"], expected, rtol=1e-10)
    deviation = psi - gain @ A @ psi
    K = np.eye(2) - gain @ A
    se = sleep.population_["standard_error"].to_numpy()
    B = np.linalg.inv(
        sum(
            Ai.T @ np.linalg.inv(Ai @ psi @ Ai.T + sigma**2 * np.eye(len(Ai))) @ Ai
            for Ai in (np.column_stack([np.ones(len(t)), t.X[:, 0]]) for t in load_sleepstudy())
        )
    )
    np.testing.assert_allclose(np.sqrt(np.diag(B)), se, rtol=1e-6)
    covariance = deviation + K @ B @ K.T
    np.testing.assert_allclose(adapted.params_["standard_error"], np.sqrt(np.diag(covariance)), rtol=1e-6)
    np.testing.assert_allclose(adapted.params_["shrinkage"], np.diag(deviation) / np.diag(psi), rtol=1e-8)
    X = np.array([[2.0], [9.0]])
    F = np.column_stack([np.ones(2), X[:, 0]])
    curve, std = adapted.predict(X, return_std=True)
    np.testing.assert_allclose(curve, F @ expected, rtol=1e-10)
    variance = np.einsum("ij,jk,ik->i", F, covariance, F)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-6)
    for of, sd in (("curve", std), ("observation", np.sqrt(variance + sigma**2))):
        low, high = adapted.predict_interval(X, level=0.8, of=of)
        np.testing.assert_allclose(low, curve + norm.ppf(0.1) * sd, rtol=0, atol=0.02 * sd.max())
        np.testing.assert_allclose(high, curve + norm.ppf(0.9) * sd, rtol=0, atol=0.02 * sd.max())


def test_known_constants_are_found_and_covered():
    """Avrami curves, noise SD 0.02, 5 points a task."""
    tasks, _, _ = avrami_tasks(150, seed=0)
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    population = model.population_
    for name, truth in (("k", 0.0), ("n", np.log(2))):
        assert abs(population.loc[name, "scaled_value"] - truth) < 3 * population.loc[name, "scaled_standard_error"]
    np.testing.assert_allclose(population["scaled_sd"], [0.3, 0.2], rtol=0.2)
    assert model.noise_["sd"] == pytest.approx(0.02, rel=0.1)
    new, k, n = avrami_tasks(500, seed=1)
    adapted = model.adapt_many(new)
    inside = {"k": 0, "n": 0}
    for i, single in enumerate(adapted):
        table = single.params_
        for name, truth in (("k", k[i]), ("n", n[i])):
            inside[name] += table.loc[name, "lower_90"] <= truth <= table.loc[name, "upper_90"]
    for count in inside.values():
        assert 0.87 <= count / 500 <= 0.93


def test_intervals_of_observations_cover():
    tasks, _, _ = avrami_tasks(150, seed=0)
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    new, _, _ = avrami_tasks(300, n_rows=8, seed=2)
    support = [Task(task.name, task.X[:3], task.y[:3], feature_names=["t"]) for task in new]
    adapted = model.adapt_many(support)
    inside = []
    for single, task in zip(adapted, new, strict=True):
        low, high = single.predict_interval(task.X[3:], level=0.9)
        inside.append((low <= task.y[3:]) & (task.y[3:] <= high))
    assert 0.87 <= np.mean(inside) <= 0.94
    low, high = model.predict_interval(new.X, level=0.9)
    assert 0.86 <= np.mean((low <= new.y) & (new.y <= high)) <= 0.94


def test_suggested_points_beat_random_and_equally_spaced_ones():
    tasks, _, _ = avrami_tasks(100, seed=0)
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    rng = np.random.default_rng(5)
    n_tasks = 200
    k, n = np.exp(0.3 * rng.standard_normal(n_tasks)), 2 * np.exp(0.2 * rng.standard_normal(n_tasks))
    t = np.linspace(0.125, 2.5, 20)
    y = 1 - np.exp(-((k[:, None] * t) ** n[:, None])) + 0.02 * rng.standard_normal((n_tasks, 20))
    plans = {"suggested": [], "random": [], "equal": []}
    for i in range(n_tasks):
        first = int(rng.integers(20))
        others = np.delete(np.arange(20), first)
        adapted = model.adapt(t[[first], None], y[i, [first]])
        plans["suggested"].append([first, *others[adapted.suggest(t[others, None], n=3)]])
        plans["random"].append([first, *rng.choice(others, 3, replace=False)])
        plans["equal"].append([first, 4, 9, 14])
    error = {}
    for plan, rows in plans.items():
        params = model.adapt_many([(t[r, None], y[i, r]) for i, r in enumerate(rows)]).params_
        error[plan] = np.array(
            [np.abs(np.log(params["k"]) - np.log(k)).mean(), np.abs(np.log(params["n"]) - np.log(n)).mean()]
        )
    assert (error["suggested"] < 0.75 * error["random"]).all()
    assert (error["suggested"] < error["equal"]).all()
