"""log_likelihood: three methods against exact integrals, published numbers, and each other."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from equations import AVRAMI, avrami, avrami_tasks, decay, line
from metaest import EquationRegressor, Parameter, TaskError, TaskSet
from metaest.estimators.equations.batches import whole
from metaest.functional import Noise, PopulationParameters

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")

HOME = Path(os.environ.get("METAEST_DATA_HOME", "")) / "nlmixr2data" / "Wang2007.csv"
METHODS = ("laplace", "importance", "quadrature")


def decays(n_tasks=8, n_rows=6, seed=0, noise=0.1):
    """Exponential decays with SD 0.5 of ln k, a weight and an error of the measurement in a column of X."""
    rng = np.random.default_rng(seed)
    k = np.exp(0.5 * rng.standard_normal(n_tasks))
    t = np.sort(rng.uniform(0.1, 3, (n_tasks, n_rows)), axis=1)
    y = np.abs(2 * np.exp(-k[:, None] * t) + noise * rng.standard_normal(t.shape))
    X = np.column_stack([t.reshape(-1), rng.uniform(0.01, 0.1, t.size)])
    names = np.repeat([f"vessel {i}" for i in range(n_tasks)], n_rows)
    weight = rng.uniform(0.5, 2, t.size)
    return TaskSet.from_arrays(X, y.reshape(-1), names, feature_names=["t", "sd"]), weight


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(1)
    t = rng.uniform(-1, 1, (9, 5))
    y = 1 + rng.standard_normal((9, 1)) + (2 + 0.5 * rng.standard_normal((9, 1))) * t
    y = y + 0.3 * rng.standard_normal(t.shape)
    tasks = TaskSet.from_arrays(t.reshape(-1, 1), y.reshape(-1), np.repeat(np.arange(9), 5))
    return EquationRegressor(line, {"a": 1.0, "b": 1.0}, compile=False).fit(tasks), tasks


def test_all_methods_are_exact_for_a_linear_equation(linear):
    model, tasks = linear
    exact = []
    for task in tasks:
        Z = np.column_stack([np.ones(len(task.X)), task.X[:, 0]])
        covariance = Z @ model.covariance_.to_numpy() @ Z.T + model.noise_["sd"] ** 2 * np.eye(len(Z))
        mean = Z @ model.population_["value"].to_numpy()
        exact.append(multivariate_normal(mean, covariance).logpdf(task.y))
    for method in METHODS:
        answer = model.log_likelihood(tasks, method, random_state=0)
        tolerance = 4 * answer.tasks["standard_error"].to_numpy() + 1e-8
        assert (np.abs(answer.tasks["log_likelihood"].to_numpy() - exact) < tolerance).all()
        assert answer.value == pytest.approx(sum(exact), abs=4 * answer.standard_error + 1e-7)
        assert answer.method == method
    assert model.log_likelihood(tasks, "quadrature", n_nodes=1).value == pytest.approx(sum(exact), abs=1e-5)
    assert model.log_likelihood(tasks).value == pytest.approx(model.log_likelihood_, abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"noise": "proportional"},
        {"noise": "combined"},
        {"noise": "power"},
        {"noise": "lognormal"},
        {"limit": 0.3},
        {"measurement_sd": "sd"},
        {"noise_correlation": "car1", "correlation_time": "t"},
        {"covariates": {"a": ["z"]}},
        "weight",
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_whatever_the_rows_are_the_integral_is_that_of_a_fine_grid(settings):
    tasks, weight = decays()
    if settings == "weight":
        settings, further = {}, {"sample_weight": weight}
    else:
        further = {}
    if "covariates" in settings:
        z = np.repeat(np.linspace(-1, 1, len(tasks)), tasks.sizes)
        names = np.repeat(tasks.names, tasks.sizes)
        X = np.column_stack([tasks.X, z])
        tasks = TaskSet.from_arrays(X, tasks.y, names, feature_names=["t", "sd", "z"])
    if "limit" in settings:
        y = np.where(tasks.y < 0.3, 0.15, tasks.y)
        tasks = TaskSet.from_arrays(tasks.X, y, np.repeat(tasks.names, tasks.sizes), feature_names=["t", "sd"])
    constants = {"k": Parameter(1.0, lower=0), "a": Parameter(2.0, lower=0)}
    model = EquationRegressor(decay, constants, random=["k"], compile=False, **settings).fit(tasks, **further)
    fitted, step = model._fitted, 0.002
    prepared = TaskSet(list(model._prepared(tasks)))
    if further:
        prepared = TaskSet.from_arrays(
            tasks.X, tasks.y, np.repeat(tasks.names, tasks.sizes), feature_names=["t", "sd"], sample_weight=weight
        )
    point, observations = fitted.point(fitted.design_of_tasks(prepared)), whole(prepared)
    u = torch.arange(-8, 8, step, dtype=torch.float64)[None]
    with torch.no_grad():
        loss = fitted.model.losses_at(*point, observations, u)
    exact = (torch.logsumexp(-loss - 0.5 * u.square(), dim=1) + np.log(step) - 0.5 * np.log(2 * np.pi)).numpy()
    answer = model.log_likelihood(tasks, "quadrature", n_nodes=31, **further).tasks
    np.testing.assert_allclose(answer["log_likelihood"], exact, atol=2e-3)
    answer = model.log_likelihood(tasks, "importance", random_state=3, **further).tasks
    assert (np.abs(answer["log_likelihood"] - exact) < 4.5 * answer["standard_error"]).all()
    assert model.log_likelihood(tasks, **further).value == pytest.approx(model.log_likelihood_, abs=1e-5)


def test_the_monte_carlo_error_is_that_of_the_draws():
    tasks, _, _ = avrami_tasks(60, n_rows=4)
    model = EquationRegressor(avrami, AVRAMI, compile=False).fit(tasks)
    exact = model.log_likelihood(tasks, "quadrature", n_nodes=25)
    drawn = model.log_likelihood(tasks, "importance", n_samples=1000, random_state=0)
    z = (drawn.tasks["log_likelihood"] - exact.tasks["log_likelihood"]) / drawn.tasks["standard_error"]
    assert 0.75 < np.sqrt(np.square(z).mean()) < 1.25
    assert abs(drawn.value - exact.value) < 3 * drawn.standard_error
    more = model.log_likelihood(tasks, "importance", n_samples=16000, random_state=0)
    assert more.standard_error == pytest.approx(drawn.standard_error / 4, rel=0.2)
    again = model.log_likelihood(tasks, "importance", n_samples=1000, random_state=0)
    assert again.value == drawn.value
    pd.testing.assert_frame_equal(again.tasks, drawn.tasks)


def test_a_second_mode_is_in_the_likelihood():
    """The sign of a constant that enters by its square: half of the integral lies around the other root."""
    rng = np.random.default_rng(0)
    b = rng.standard_normal(10)
    t = rng.uniform(0.5, 1.5, (10, 5))
    y = np.square(b)[:, None] * t + 0.1 * rng.standard_normal(t.shape)
    tasks = TaskSet.from_arrays(t.reshape(-1, 1), y.reshape(-1), np.repeat(np.arange(10), 5))

    def parabola(X, b):
        return b**2 * X[:, 0]

    model = EquationRegressor(parabola, {"b": 0.3}, compile=False).fit(tasks)
    factor = torch.ones(1, 1, dtype=torch.float64)
    center = torch.zeros(1, dtype=torch.float64)
    sigma = torch.full((1,), np.log(0.1), dtype=torch.float64)
    model._fitted = replace(model._fitted, population=PopulationParameters(center, factor, sigma), flat=())
    u = torch.arange(-8, 8, 0.0005, dtype=torch.float64)[None]
    with torch.no_grad():
        loss = model._fitted.model.losses_at(center[:, None].expand(1, 10), factor, sigma, whole(tasks), u)
    exact = torch.logsumexp(-loss - 0.5 * u.square(), dim=1) + np.log(0.0005) - 0.5 * np.log(2 * np.pi)
    with pytest.warns(ConvergenceWarning):  # the second mode, which only draws of the population reach
        answer = model.log_likelihood(tasks, "importance", n_samples=4000, random_state=0)
    assert abs(answer.value - float(exact.sum())) < 3 * answer.standard_error
    assert model.log_likelihood(tasks).value < float(exact.sum()) - 3


def test_what_cannot_be_asked_is_refused(linear):
    model, tasks = linear
    with pytest.raises(ValueError, match="method must be 'laplace', 'importance' or 'quadrature', got 'exact'"):
        model.log_likelihood(tasks, "exact")
    with pytest.raises(ValueError, match="n_samples must be a whole number from 20"):
        model.log_likelihood(tasks, "importance", n_samples=3)
    with pytest.raises(ValueError, match="n_nodes must be a whole number from 1"):
        model.log_likelihood(tasks, "quadrature", n_nodes=0)
    with pytest.raises(ValueError, match="random_state"):
        model.log_likelihood(tasks, "importance", random_state=-1)
    with pytest.raises((TaskError, ValueError), match="log_likelihood"):
        model.log_likelihood([(np.ones((3, 2)), np.ones(3))])


def test_quadrature_is_for_three_constants():
    def cubic(X, a, b, c, d):
        x = X[:, 0]
        return a + b * x + c * x**2 + d * x**3

    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, (12, 8))
    c = rng.standard_normal((4, 12, 1))
    y = sum(c[i] * t**i for i in range(4)) + 0.05 * rng.standard_normal(t.shape)
    tasks = TaskSet.from_arrays(t.reshape(-1, 1), y.reshape(-1), np.repeat(np.arange(12), 8))
    model = EquationRegressor(cubic, dict.fromkeys("abcd", 0.1), covariance="diagonal", compile=False).fit(tasks)
    with pytest.raises(ValueError, match=r"4 do \(a, b, c, d\); take method='importance'"):
        model.log_likelihood(tasks, "quadrature")
    answer = model.log_likelihood(tasks, "importance", random_state=0)
    assert abs(answer.value - model.log_likelihood_) < 4 * answer.standard_error


def test_too_few_draws_or_nodes_are_warned_of():
    tasks, _ = decays(n_rows=2, noise=0.5)
    model = EquationRegressor(
        decay, {"k": Parameter(1.0, lower=0), "a": Parameter(2.0, lower=0)}, random=["k"], compile=False
    )
    model.fit(tasks)
    with pytest.warns(ConvergenceWarning, match="the draws of task 'vessel .*' are worth"):
        model.log_likelihood(tasks, "importance", n_samples=20, random_state=0)
    with pytest.warns(ConvergenceWarning, match="with 1 nodes in place of 3"):
        model.log_likelihood(tasks, "quadrature", n_nodes=3)


@pytest.mark.skipif(not HOME.is_file(), reason="METAEST_DATA_HOME holds no nlmixr2data")
@pytest.mark.parametrize(
    ("noise", "expected", "second", "exact"),
    [
        ("additive", -2.059, -1.936, -1.990),
        ("proportional", 39.458, 39.227, 39.355),
        ("combined", 39.735, 39.516, 39.635),
        ("combined1", 43.554, 43.359, 43.443),
    ],
)
def test_wang_2007(noise, expected, second, exact):
    """NONMEM's FOCEI and Laplace, and the exact -2 ln L, without N ln 2 pi; variances .1, .1 f^2, .1 + .1 f^2 and .1 (1 + f)^2.

    Wang (2007), :doi:`10.1007/s10928-007-9060-6`, has the first three; the last was checked with a second program.
    """
    table = pd.read_csv(HOME)
    tasks = TaskSet.from_arrays(table[["Time"]].to_numpy(float), table["Y"].to_numpy(float), table["ID"].to_numpy())

    def curve(X, k):
        return 10 * torch.exp(-k * X[:, 0])

    model = EquationRegressor(curve, {"k": Parameter(0.5, lower=0)}, noise=noise, compile=False).fit(tasks)
    fitted = model._fitted
    log_sigma = torch.full((1 + noise.startswith("combined"),), 0.5 * np.log(0.1), dtype=torch.float64)
    beta = torch.tensor([np.log(0.5)], dtype=torch.float64)
    population = PopulationParameters(beta, torch.full((1, 1), 0.2, dtype=torch.float64), log_sigma)
    model._fitted = replace(fitted, population=population, model=replace(fitted.model, noise=Noise(noise)))
    constant = len(table) * np.log(2 * np.pi)
    assert -2 * model.log_likelihood(tasks).value - constant == pytest.approx(expected, abs=6e-4)
    one = model.log_likelihood(tasks, "quadrature", n_nodes=1)
    assert -2 * one.value - constant == pytest.approx(second, abs=6e-4)
    assert -2 * model.log_likelihood(tasks, "quadrature").value - constant == pytest.approx(exact, abs=6e-4)
    drawn = model.log_likelihood(tasks, "importance", random_state=0)
    assert -2 * drawn.value - constant == pytest.approx(exact, abs=6 * drawn.standard_error)
