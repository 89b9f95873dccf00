"""What RandomCoefficientRegressor says of its own errors: lme4, statsmodels, dense matrices, simulated tasks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from metaest import RandomCoefficientRegressor, Task, TaskSet
from metaest.estimators.gaussian.intervals import student_interval
from metaest.estimators.gaussian.random_coefficients import prior as random_prior
from metaest_datasets import load_orange, load_sleepstudy

DAYS = np.array([[0.0], [5.0], [9.0]])


def ragged(n_tasks=9, seed=0):
    """Tasks of a level and two slopes, with one to eight rows, and a column that is one number a task."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        n = 1 + i * 5 % 8
        X = np.column_stack([rng.standard_normal((n, 2)), np.full(n, rng.standard_normal())])
        b = rng.standard_normal(3) * [1.5, 0.7, 0.4]
        y = 2 + b[0] + X[:, :2] @ (1 + b[1:]) + X[:, 2] + 0.6 * rng.standard_normal(n)
        tasks.append(Task(i, X, y))
    return TaskSet(tasks)


def levels(n_tasks, rng, rows=6):
    """Tasks of one level each."""
    return [
        (X := np.zeros((rows, 1)), rng.standard_normal() + 0.5 * rng.standard_normal(len(X))) for _ in range(n_tasks)
    ]


def with_uncertainty(prior, **changes):
    """Return a prior with other uncertainties; zero where none are given."""
    nothing = {name: 0 * value for name, value in vars(prior.uncertainty).items()}
    return replace(prior, uncertainty=replace(prior.uncertainty, **{**nothing, **changes}))


@pytest.fixture(params=["full", "diagonal"])
def fitted(request):
    return RandomCoefficientRegressor("linear", random=[0, 1], covariance=request.param, restricted=True).fit(
        ragged(40)
    )


def given(n=3, seed=9):
    """Return rows of a new task, their targets, and rows to predict."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((n + 4, 2)), np.full(n + 4, 0.5)])[None]
    return X[:, :n], rng.standard_normal((1, n)), X[:, n:]


@pytest.mark.parametrize(
    ("restricted", "errors", "sd"),
    [
        (False, [6.632123, 1.502230], [35.55851, 47.27278, 65.33565]),
        (True, [6.824597, 1.545790], [36.24383, 48.28745, 67.04275]),
    ],
)
def test_standard_errors_of_lme4_on_sleepstudy(restricted, errors, sd):
    # R's lme4 1.1-31: sqrt(diag(vcov(f))) of f = lmer(Reaction ~ Days + (Days | Subject), sleepstudy), and the root of
    # z' D z + z' vcov(f) z + sigma^2 at 0, 5 and 9 days
    prior = RandomCoefficientRegressor("linear", random=["days"], restricted=restricted).fit(load_sleepstudy())._prior
    to_units = prior.scale * prior.design.in_units(prior.design.fixed)
    covariance = to_units @ prior.uncertainty.fixed @ to_units.T
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), errors, rtol=5e-5)
    certain = with_uncertainty(prior, fixed=prior.uncertainty.fixed)
    np.testing.assert_allclose(np.sqrt(certain.variance(DAYS) + prior.noise_variance), sd, rtol=5e-5)


def test_degrees_of_freedom_of_lmertest_on_sleepstudy():
    # R's lmerTest 3.1-3: 2 v^2 / (g' A g), v = z' D z + sigma^2 at 0, 5 and 9 days, A from vcov_varpar of the restricted fit
    model = RandomCoefficientRegressor("linear", random=["days"], restricted=True).fit(load_sleepstudy())
    np.testing.assert_allclose(model._prior.freedom(DAYS, noise=True), [37.66751, 30.77665, 20.96356], rtol=1e-4)
    lower, upper = model.predict_interval(DAYS, 0.8)
    sd = model.predict(DAYS, return_std=True)[1]
    np.testing.assert_allclose((upper - lower) / sd, 2 * student.ppf(0.9, [37.66751, 30.77665, 20.96356]), rtol=1e-5)


@pytest.mark.parametrize(
    ("restricted", "errors", "sd"),
    [
        (False, [9.53600536, 0.00523156], [24.9442139, 24.6592692]),
        (True, [10.42369599, 0.00532100], [27.0400347, 26.7682991]),
    ],
)
def test_standard_errors_of_lme4_on_orange_trees(restricted, errors, sd):
    # the same of lmer(circumference ~ age + (1 | Tree), Orange), at 0 and 1500 days; degrees of freedom by lmerTest
    model = RandomCoefficientRegressor("linear", restricted=restricted).fit(load_orange())
    prior, ages = model._prior, np.array([[0.0], [1500.0]])
    to_units = prior.scale * prior.design.in_units(prior.design.fixed)
    covariance = to_units @ prior.uncertainty.fixed @ to_units.T
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), errors, rtol=1e-5)
    certain = with_uncertainty(prior, fixed=prior.uncertainty.fixed)
    np.testing.assert_allclose(np.sqrt(certain.variance(ages) + prior.noise_variance), sd, rtol=1e-5)
    if restricted:
        np.testing.assert_allclose(prior.freedom(ages, noise=True), 8.40921714, rtol=0.01)


def test_the_variance_is_that_of_the_best_linear_prediction_from_all_rows(fitted):
    # the prediction is a linear function of all targets: its error has a variance that needs no formula of its own
    prior, tasks = fitted._prior, ragged(40)
    X, _, new = given()
    D, noise = prior.factor @ prior.factor.T, prior.noise_variance
    Z, C = (prior.design.columns(tasks.X, which) for which in (prior.design.random, prior.design.fixed))
    task = np.repeat(np.arange(40), tasks.sizes)
    V = np.where(task[:, None] == task, Z @ D @ Z.T, 0.0) + noise * np.eye(len(task))
    of_beta = np.linalg.solve(C.T @ np.linalg.solve(V, C), np.linalg.solve(V, C).T)
    one, other = prior.random_columns(X[0]), prior.random_columns(new[0])
    fixed_one, fixed_other = (prior.design.columns(part[0], prior.design.fixed) for part in (X, new))
    gain = other @ D @ one.T @ np.linalg.inv(one @ D @ one.T + noise * np.eye(len(one)))
    weights = (fixed_other - gain @ fixed_one) @ of_beta
    expected = other @ D @ other.T - gain @ one @ D @ other.T + weights @ V @ weights.T
    certain = with_uncertainty(prior, fixed=prior.uncertainty.fixed)
    moments = certain.condition(X, np.zeros((1, 3)), np.ones((1, 3), bool)).at(new, spread=True)
    np.testing.assert_allclose(moments.variance[0], np.diag(expected), rtol=1e-8)


def parameters(prior):
    """Return the entries of D and the variance of the noise, and a function that takes them to gain and variance."""
    i, j = prior.uncertainty.entries(3)
    X, _, new = given()
    one, other = prior.random_columns(X[0]), prior.random_columns(new[0])

    def at(values):
        D = np.zeros((3, 3))
        D[i, j] = D[j, i] = values[:-1]
        V = one @ D @ one.T + values[-1] * np.eye(len(one))
        gain = other @ D @ one.T @ np.linalg.inv(V)
        return gain, np.diag(other @ D @ other.T - gain @ one @ D @ other.T), V

    D = prior.factor @ prior.factor.T
    return np.append(D[i, j], prior.noise_variance), at


def slopes_of(prior):
    """Return finite differences of gain and variance, and the covariance of observations."""
    values, at = parameters(prior)
    steps = 1e-5 * np.eye(len(values))
    pairs = [(at(values + step), at(values - step)) for step in steps]
    gains = np.array([(up[0] - down[0]) / 2e-5 for up, down in pairs])
    variances = np.array([(up[1] - down[1]) / 2e-5 for up, down in pairs])
    return gains, variances, at(values)


def test_what_unknown_variances_add_agrees_with_finite_differences(fitted):
    prior = fitted._prior
    X, y, new = given()
    gains, slopes, (_, variance, V) = slopes_of(prior)
    A = prior.scale**4 * prior.uncertainty.variances
    lost = np.einsum("ab,arn,nm,brm->r", A, gains, V, gains)
    task = with_uncertainty(prior, variances=prior.uncertainty.variances).condition(X, y, np.ones((1, 3), bool))
    np.testing.assert_allclose(task.at(new, spread=True).variance[0], variance + 2 * lost, rtol=1e-6)
    for noise in (False, True):
        slopes[-1] += noise
        v = variance + noise * prior.noise_variance
        expected = np.maximum(2 * v**2 / np.einsum("ar,ab,br->r", slopes, A, slopes), 1)
        np.testing.assert_allclose(task.freedom(new, noise=noise)[0], expected, rtol=1e-5)
    bias = np.arange(1.0, len(A) + 1)
    biased = with_uncertainty(prior, bias=bias).condition(X, y, np.ones((1, 3), bool)).at(new, spread=True)
    slopes[-1] -= 1
    np.testing.assert_allclose(biased.variance[0], variance + prior.scale**2 * (bias @ slopes), rtol=1e-5)


def test_a_level_of_equal_tasks_has_the_uncertainty_of_textbooks():
    # analysis of variance, Searle, Casella, McCulloch, 1992, Variance Components, section 3.5, doi:10.1002/9780470316856
    rng = np.random.default_rng(1)
    n_tasks, rows = 7, 5
    model = RandomCoefficientRegressor(None, restricted=True).fit(levels(n_tasks, rng, rows))
    unit = model._prior.scale**2
    D, noise = model.covariance_.iloc[0, 0] / unit, model._prior.noise_variance / unit
    within = 2 * noise**2 / (n_tasks * (rows - 1))
    between = (2 * (noise + rows * D) ** 2 / (n_tasks - 1) + within) / rows**2
    expected = [[between, -within / rows], [-within / rows, within]]
    np.testing.assert_allclose(model._prior.uncertainty.variances, expected, rtol=1e-4)
    np.testing.assert_allclose(model._prior.uncertainty.fixed, (noise / rows + D) / n_tasks, rtol=1e-6)
    plain = RandomCoefficientRegressor(None).fit(levels(n_tasks, np.random.default_rng(1), rows))
    corrected = plain.covariance_.iloc[0, 0] + unit * plain._prior.uncertainty.bias[0]
    assert corrected == pytest.approx(model.covariance_.iloc[0, 0], rel=0.05)


def test_intervals_of_few_tasks_cover():
    inside, before = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        prior = RandomCoefficientRegressor(None).fit(levels(6, rng))._prior
        X, y = (np.stack(part) for part in zip(*levels(20, rng), strict=True))
        for k, one, hits in (
            (k, *pair) for k in (0, 2) for pair in ((prior, inside), (with_uncertainty(prior), before))
        ):
            told = one.condition(X[:, :k], y[:, :k], np.ones((20, k), bool))
            freedom = told.freedom(X[:, k:], noise=True) if one is prior else np.full((20, 6 - k), np.inf)
            lower, upper = student_interval(told.at(X[:, k:], True), prior.noise_variance, 0.9, freedom)
            hits.append(((lower <= y[:, k:]) & (y[:, k:] <= upper)).mean())
    assert 0.87 < np.mean(inside) < 0.94
    assert np.mean(before) < np.mean(inside) - 0.02


def test_many_rows_are_worked_out_some_at_a_time(fitted, monkeypatch):
    X, new = ragged(1)[0].X, ragged(30, seed=2).X
    expected = fitted.adapt(X, [1.0] * len(X)).predict(new, return_std=True)
    monkeypatch.setattr(random_prior, "CHUNK_VALUES", 50)
    np.testing.assert_allclose(fitted.adapt(X, [1.0] * len(X)).predict(new, return_std=True), expected, rtol=1e-12)


def test_one_task_does_not_tell_how_tasks_differ():
    rng = np.random.default_rng(0)
    few, many = (RandomCoefficientRegressor(None).fit(levels(n, rng)) for n in (1, 100))
    assert few._prior.freedom(np.zeros((1, 1)), noise=False)[0] == 1
    assert many._prior.freedom(np.zeros((1, 1)), noise=False)[0] > 50
    assert np.isfinite(few.predict_interval([[0.0]])).all()


@pytest.mark.parametrize("change", [
    {"fixed": np.zeros((2, 2))}, {"variances": np.zeros((3, 3))}, {"bias": np.zeros(9)}, {"bias": np.full(2, np.nan)},
    {"bias": np.zeros((2, 2))},
])  # fmt: skip
def test_an_uncertainty_that_contradicts_itself_is_noticed(change):
    prior = RandomCoefficientRegressor(None).fit(levels(5, np.random.default_rng(0)))._prior
    assert prior.fault() == ""
    assert replace(prior, uncertainty=replace(prior.uncertainty, **change)).fault()
