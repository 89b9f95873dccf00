"""small_sample="integrate": the classical intervals where they are known, and what else a fit to few tasks must do."""

import numpy as np
import pytest
from scipy.stats import t as student

from equations import AVRAMI, avrami, avrami_tasks, line
from metaest import EquationRegressor, Parameter, TaskSet, load, save

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")


def level(X, a):
    return a + 0 * X[:, 0]


def model_of(equation, constants, **settings):
    settings = {"small_sample": "integrate", "compile": False, "covariance": "diagonal", **settings}
    return EquationRegressor(equation, constants, **settings)


def levels(n_tasks, noise, n_rows=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n_tasks, 1)) + noise * rng.standard_normal((n_tasks, n_rows))
    return TaskSet([(np.arange(n_rows)[:, None], values) for values in y])


@pytest.mark.parametrize("n_tasks", [5, 12])
def test_a_sample_without_noise_has_the_classical_intervals(n_tasks):
    """Student's: of the mean, and of the next value of a normal sample."""
    tasks = levels(n_tasks, noise=1e-3)
    model = model_of(level, {"a": 0.1}).fit(tasks)
    values = np.array([task.y.mean() for task in tasks])
    mean, sd = values.mean(), values.std(ddof=1)
    population = model.population_.loc["a"]
    assert population["value"] == pytest.approx(mean, abs=1e-4)
    assert population["omega"] == pytest.approx(sd, rel=1e-4)
    assert population["omega_standard_error"] == pytest.approx(sd / np.sqrt(2 * (n_tasks - 1)), rel=1e-3)
    quantile = student.ppf(0.95, n_tasks - 1)
    half = quantile * sd / np.sqrt(n_tasks)
    assert population[["lower_90", "upper_90"]].to_list() == pytest.approx([mean - half, mean + half], abs=0.03 * half)
    half = quantile * sd * np.sqrt(1 + 1 / n_tasks)
    ends = model.adapt([], []).params_.loc["a", ["lower_90", "upper_90"]].to_list()
    assert ends == pytest.approx([mean - half, mean + half], abs=0.03 * half)
    low, high = model.predict_interval([[0.0]], of="curve")
    assert [low[0], high[0]] == pytest.approx(ends, abs=1e-9)
    drawn = np.quantile(model.simulate([[0.0]], n=20_000, random_state=0), [0.05, 0.95])
    assert drawn == pytest.approx([mean - half, mean + half], abs=0.05 * half)


def test_the_maximum_of_the_likelihood_has_its_standard_errors():
    tasks = levels(10, noise=1e-3)
    population = model_of(level, {"a": 0.1}, small_sample="none").fit(tasks).population_.loc["a"]
    assert population["omega_standard_error"] == pytest.approx(population["omega"] / np.sqrt(20), rel=1e-3)
    half = 1.6448536 * population["standard_error"]
    expected = [population["value"] - half, population["value"] + half]
    assert population[["lower_90", "upper_90"]].to_list() == pytest.approx(expected)


def test_the_posterior_of_a_task_is_the_integral_over_all_populations():
    """Levels with noise, one new row: integrated on a grid of both standard deviations with dense formulas."""
    tasks, n = levels(6, noise=0.7, n_rows=3), 3
    model = model_of(level, {"a": 0.1}).fit(tasks)
    new = 2.5
    omega, sigma = np.meshgrid(np.exp(np.linspace(-5, 3, 81)), np.exp(np.linspace(-1.6, 1, 61)), indexing="ij")
    means = np.array([task.y.mean() for task in tasks])
    within = sum(((task.y - task.y.mean()) ** 2).sum() for task in tasks)
    v, count = omega**2 + sigma**2 / n, len(means)
    log_weight = -count * (n - 1) * np.log(sigma) - within / (2 * sigma**2)  # residual sum of squares
    log_weight -= (count - 1) / 2 * np.log(v) + ((means - means.mean()) ** 2).sum() / (2 * v)  # restricted
    log_weight += np.log(omega**2 / v)  # Jeffreys, of the logarithm of omega
    a = np.linspace(-6, 8, 401)
    prior = omega**2 + v / count
    log_density = -0.5 * (a[:, None, None] - means.mean()) ** 2 / prior - 0.5 * np.log(prior)
    log_density += -0.5 * (new - a[:, None, None]) ** 2 / sigma**2 - np.log(sigma) + log_weight
    density = np.exp(log_density - log_density.max()).sum(axis=(1, 2))
    share = density.cumsum() / density.sum()
    expected = np.interp([0.05, 0.95], share, a)
    params = model.adapt([[0.0]], [new]).params_.loc["a"]
    half = 0.5 * (expected[1] - expected[0])
    assert params[["lower_90", "upper_90"]].to_list() == pytest.approx(expected, abs=0.05 * half)


def test_with_many_tasks_nothing_changes():
    tasks, _, _ = avrami_tasks(100)
    plain, few = (model_of(avrami, AVRAMI, small_sample=setting).fit(tasks) for setting in ("none", "integrate"))
    columns = ["value", "lower_90", "upper_90", "omega", "omega_standard_error"]
    np.testing.assert_allclose(few.population_[columns], plain.population_[columns], rtol=0.05)
    X, y = [[0.5], [1.0]], [0.2, 0.6]
    for of in ("curve", "observation"):
        ends = [model.adapt(X, y).predict_interval([[0.7]], of=of) for model in (plain, few)]
        np.testing.assert_allclose(ends[1], ends[0], atol=0.01)


def test_no_variation_is_taken_as_zero():
    rng = np.random.default_rng(2)
    x = np.linspace(-1, 1, 5)
    y = 1 + rng.standard_normal((6, 1)) + x + 0.5 * rng.standard_normal((6, 5))  # slopes are equal
    tasks = TaskSet([(x[:, None], values) for values in y])
    plain, few = (
        model_of(line, {"a": 0.5, "b": 0.5}, small_sample=setting).fit(tasks) for setting in ("none", "integrate")
    )
    assert plain.population_.loc["b", "omega"] == 0
    assert np.isnan(plain.population_.loc["b", "omega_standard_error"])
    assert few.population_.loc["b", "omega"] > 0
    assert few.population_.loc["b", "omega_standard_error"] > 0
    (narrow, wide) = (model.adapt([], []).params_.loc["b"] for model in (plain, few))
    assert wide["upper_90"] - wide["lower_90"] > 1.2 * (narrow["upper_90"] - narrow["lower_90"])


def test_units_and_calls_change_nothing():
    tasks, _, _ = avrami_tasks(6, noise=0.03)
    model = model_of(avrami, AVRAMI, covariance="full").fit(tasks)
    again = model_of(avrami, AVRAMI, covariance="full").fit(tasks)
    X, y = tasks[0].X[:3], tasks[0].y[:3]
    assert model.adapt(X, y).params_.equals(again.adapt(X, y).params_)
    names = np.repeat(tasks.names, tasks.sizes)
    minutes = TaskSet.from_arrays(60 * tasks.X, tasks.y, names, feature_names=["t"])
    constants = {"k": Parameter(1 / 60, lower=0), "n": Parameter(1.5, lower=0)}
    scaled = model_of(avrami, constants, covariance="full").fit(minutes)
    columns = ["value", "lower_90", "upper_90"]
    expected = model.adapt(X, y).params_[columns].to_numpy() / [[60], [1]]
    np.testing.assert_allclose(scaled.adapt(60 * X, y).params_[columns], expected, rtol=2e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"random": ["k"]},
        {"random": []},
        {"covariance": "full"},
        {"noise": "combined"},
        {"noise": "lognormal"},
        {"limit": 0.1},
        {"covariates": {"k": ["z"]}},
        "weight",
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_whatever_the_fit_is_intervals_are_finite_and_hold_their_value(settings, tmp_path):
    tasks, _, _ = avrami_tasks(7, noise=0.05)
    names, X, y = np.repeat(tasks.names, tasks.sizes), tasks.X, tasks.y
    further, columns = {}, ["t"]
    if settings == "weight":
        settings, further = {}, {"sample_weight": np.linspace(0.5, 2, len(y))}
    if "limit" in settings:
        y = np.where(y < 0.1, 0.05, y)
    if "covariates" in settings:
        X, columns = np.column_stack([X, np.repeat(np.sin(np.arange(7.0)), tasks.sizes)]), ["t", "z"]
    tasks = TaskSet.from_arrays(X, y, names, feature_names=columns)
    model = model_of(avrami, AVRAMI, **settings).fit(tasks, **further)
    path = tmp_path / "model"
    save(model, path)
    loaded = load(path, equation=avrami)
    adapted = model.adapt(tasks[0].X[:3], tasks[0].y[:3])
    for table in (model.population_, adapted.params_):
        ends = table[["lower_90", "value", "upper_90"]].to_numpy(dtype=float)
        assert np.isfinite(ends).all()
        assert (np.diff(ends, axis=1) > 0).all()
    assert loaded.adapt(tasks[0].X[:3], tasks[0].y[:3]).params_.equals(adapted.params_)
    low, high = model.predict_interval(tasks[0].X)
    np.testing.assert_array_equal(loaded.predict_interval(tasks[0].X), (low, high))
    assert np.isfinite(low).all()


def test_settings_that_do_not_go_together_are_refused():
    tasks, _, _ = avrami_tasks(6)
    with pytest.raises(ValueError, match="small_sample"):
        EquationRegressor(avrami, AVRAMI, small_sample="reml").fit(tasks)
    with pytest.raises(ValueError, match="small_sample='integrate' needs objective='evidence'"):
        EquationRegressor(avrami, AVRAMI, small_sample="integrate", objective="query").fit(tasks)
    with pytest.raises(ValueError, match="compares no structures"):
        EquationRegressor(avrami, AVRAMI, small_sample="integrate", noise="auto").fit(tasks)
    with pytest.raises(ValueError, match=r"small_sample='integrate' needs more tasks.* covariance='diagonal'"):
        EquationRegressor(avrami, AVRAMI, small_sample="integrate").fit(tasks[:3])
    with pytest.raises(ValueError, match=r"needs more tasks: from 2 nothing can be said of how k vary; 3 are wanted"):
        EquationRegressor(avrami, AVRAMI, small_sample="integrate", covariance="diagonal", random=["k"]).fit(tasks[:2])
