"""Data and equations that are hard to fit: right all the same, or a word says what is wrong."""

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from equations import AVRAMI, avrami, avrami_tasks, decay, line
from metaest import EquationRegressor, IdentifiabilityWarning, Parameter, Task, UnlikelyTaskWarning


@pytest.fixture(scope="module")
def tasks():
    return avrami_tasks(12, seed=0)[0]


@pytest.fixture(scope="module")
def model(tasks):
    return EquationRegressor(avrami, AVRAMI).fit(tasks)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_rows_unlike_the_population_are_named(model):
    """Minutes where the population was learned in hours, or per cent instead of a share."""
    with pytest.warns(UnlikelyTaskWarning, match="adapt: no curve of this population comes near these rows"):
        model.adapt([[0.5], [1.0], [1.5]], [22.0, 63.0, 90.0])
    with pytest.warns(UnlikelyTaskWarning, match="adapt_many: .* 1 of 2 tasks: task 'per cent'; check their units"):
        model.adapt_many([Task("share", [[1.0]], [0.6]), Task("per cent", [[1.0]], [60.0])])


def test_constants_that_nothing_determines(tasks):
    product = {**AVRAMI, "c": Parameter(1.0, lower=0)}
    with pytest.warns(ConvergenceWarning, match="the tasks do not determine k, c at the fitted population"):
        model = EquationRegressor(lambda X, k, n, c: avrami(X, k * c, n), product).fit(tasks)
    assert np.isinf(model.population_.loc[["k", "c"], "standard_error"]).all()
    assert np.isfinite(model.population_.loc["n", "standard_error"])
    with pytest.warns(ConvergenceWarning, match="do not determine c at"):
        unused = EquationRegressor(lambda X, k, n, c: avrami(X, k, n) + 0 * c, product).fit(tasks)
    assert np.isinf(unused.population_.loc["c", "standard_error"])
    assert np.isfinite(unused.predict(tasks.X, return_std=True)[1]).all()
    assert unused.log_likelihood_ == pytest.approx(
        EquationRegressor(avrami, AVRAMI).fit(tasks).log_likelihood_, abs=1e-3
    )


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")  # nor does the curve fit then
def test_a_constant_at_its_bound(tasks):
    """The curves want n near 2."""
    with pytest.warns(ConvergenceWarning, match="do not determine n at .* or it has run to a bound"):
        model = EquationRegressor(avrami, {"k": AVRAMI["k"], "n": Parameter(0.5, lower=0.2, upper=0.8)}).fit(tasks)
    assert model.population_.loc["n", "value"] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(("scale_x", "scale_y"), [(1e6, 1.0), (1.0, 1e8), (1e-3, 1e-8)])
def test_units_do_not_matter(scale_x, scale_y):
    rng = np.random.default_rng(1)
    tasks = []
    for i in range(15):
        t, (k, a) = rng.uniform(0, 3, (6, 1)), np.exp(0.3 * rng.standard_normal(2))
        tasks.append(Task(i, scale_x * t, scale_y * (a * np.exp(-k * t[:, 0]) + 0.02 * rng.standard_normal(6))))
    model = EquationRegressor(decay, {"k": Parameter(1.0, lower=0), "a": Parameter(1.0, lower=0)}).fit(tasks)
    value = model.population_["value"] * [scale_x, 1 / scale_y]
    np.testing.assert_allclose(value, [1.0, 1.0], rtol=0.3)
    assert model.noise_["sd"] / scale_y == pytest.approx(0.02, rel=0.3)


@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")
def test_proportional_noise_with_values_it_cannot_give(tasks):
    zero = Task("zero", tasks[0].X, np.where(np.arange(5) == 2, 0.0, np.abs(tasks[0].y) + 0.01), feature_names=["t"])
    others = [Task(t.name, t.X, np.abs(t.y) + 0.01, feature_names=["t"]) for t in tasks[1:]]
    with pytest.warns(UserWarning, match="noise='proportional', but y is 0 in row 2 of task 'zero'"):
        EquationRegressor(avrami, AVRAMI, noise="proportional").fit([zero, *others])


# without support rows nothing tells noise from variation between tasks: either may be small
@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")
def test_a_query_fit_without_support_rows_is_a_fit_to_curves_of_the_population(tasks):
    model = EquationRegressor(avrami, AVRAMI, objective="query", support_size=0, random_state=0).fit(tasks)
    assert np.square(model.predict(tasks.X) - tasks.y).mean() < 0.05


def test_gradient_steps_begin_anew_where_the_first_rates_diverge():
    """One task with far larger slopes than the others."""
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(8):
        t, (k, a) = np.sort(rng.uniform(0, 4, (8, 1)), axis=0), np.exp(0.4 * rng.standard_normal(2))
        tasks.append(Task(i, t, a * np.exp(-k * t[:, 0]) + 0.05 * rng.standard_normal(8)))
    tasks.append(Task("large", tasks[0].X, 40 * np.exp(-tasks[0].X[:, 0])))
    settings = {"objective": "query", "inner_solver": "gradient", "random_state": 0, "max_iter": 40}
    constants = {"k": Parameter(1.0, lower=0), "a": Parameter(1.0, lower=0)}
    model = EquationRegressor(decay, constants, **settings).fit(tasks)
    assert np.isfinite(model.history_["loss"]).all()
    assert model.history_["iteration"].tolist() == list(range(1, 41))


def test_a_row_at_time_zero_changes_nothing():
    """The second derivative of a power is NaN at zero in torch, and zero in truth."""
    rng = np.random.default_rng(0)
    fits = {}
    curves = list(zip(np.exp(0.3 * rng.standard_normal(15)), 2 * np.exp(0.2 * rng.standard_normal(15)), strict=True))
    noise = 0.02 * rng.standard_normal((15, 6))
    for first in (0.0, 1e-9):
        t = np.array([first, 0.4, 0.8, 1.2, 1.6, 2.2])
        fits[first] = EquationRegressor(avrami, AVRAMI).fit(
            [(t[:, None], 1 - np.exp(-((k * t) ** n)) + noise[i]) for i, (k, n) in enumerate(curves)]
        )
    assert fits[0.0].log_likelihood_ == pytest.approx(fits[1e-9].log_likelihood_, abs=1e-6)
    np.testing.assert_allclose(fits[0.0].covariance_, fits[1e-9].covariance_, rtol=1e-4)
    assert (fits[0.0].population_["between_task_sd"] > 0.1).all()


def test_a_second_derivative_that_is_not_finite_is_found_by_differences():
    """Rows that see each other cannot be told apart: one that stands still spoils torch's derivative of all."""

    def summed(X, k, n):
        return torch.cumsum(1 - torch.exp(-((k * X[:, 0]) ** n)), dim=0)

    rng = np.random.default_rng(0)
    noise, fits = 0.02 * rng.standard_normal((6, 7)), {}
    for first in (0.0, 1e-9):
        t = np.array([first, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4])
        tasks = [
            (t[:, None], np.cumsum(1 - np.exp(-((k * t) ** 2))) + noise[i])
            for i, k in enumerate((0.8, 0.9, 1.0, 1.1, 1.3, 1.5))
        ]
        fits[first] = EquationRegressor(summed, AVRAMI, random=["k"]).fit(tasks)
    assert fits[0.0].batching_ == "vmap"
    assert fits[0.0].log_likelihood_ == pytest.approx(fits[1e-9].log_likelihood_, abs=1e-5)
    np.testing.assert_allclose(fits[0.0].population_["value"], fits[1e-9].population_["value"], rtol=1e-5)


def test_a_column_that_is_not_there(tasks):
    with pytest.raises(ValueError, match="reads a column that X does not have; X has 1"):
        EquationRegressor(lambda X, k, n: k * X[:, 3] ** n, AVRAMI).fit(tasks)


def test_ends_of_intervals_where_curves_have_heavy_tails():
    """Exponential growth beyond the data: drawn curves differ by orders of magnitude."""
    rng = np.random.default_rng(0)
    x, tasks = np.linspace(0, 2, 8), []
    for _ in range(30):
        A, r = np.exp(0.3 * rng.standard_normal()), np.exp(0.4 * rng.standard_normal())
        tasks.append((x[:, None], A * np.exp(r * x) + 0.05 * rng.standard_normal(8)))
    constants = {"A": Parameter(1.0, lower=0), "r": Parameter(1.0, lower=0)}
    model = EquationRegressor(lambda X, A, r: A * torch.exp(r * X[:, 0]), constants).fit(tasks)
    grid = np.array([[2.0], [4.0], [6.0], [8.0]])
    low, high = model.predict_interval(grid)
    curve_low, curve_high = model.predict_interval(grid, of="curve")
    assert (low < high).all()
    sd = model.noise_["sd"]
    assert (np.abs(low - curve_low) < 3 * sd).all()
    # beyond the data the noise is nothing beside the spread of the curves
    np.testing.assert_allclose(high[1:], curve_high[1:], rtol=0.02)


def test_an_equation_that_branches_on_its_tasks_x():
    rng = np.random.default_rng(0)
    x, tasks = np.linspace(0, 2, 6), []
    for i in range(30):
        sign = 1.0 if i in (5, 6, 7) else -1.0
        a, b = 1 + 0.2 * rng.standard_normal(), 2 + 0.2 * rng.standard_normal()
        X = np.column_stack([x, np.full(6, float(sign > 0))])
        tasks.append((X, a + sign * b * x + 0.05 * rng.standard_normal(6)))

    def either(X, a, b):
        return a + b * X[:, 0] if X[0, 1] > 0.5 else a - b * X[:, 0]

    model = EquationRegressor(either, {"a": 1.0, "b": 1.0}).fit(tasks)
    assert model.batching_ == "loop"
    np.testing.assert_allclose(model.population_["value"], [1.0, 2.0], atol=0.15)


def test_unbounded_constants_of_very_different_size():
    rng = np.random.default_rng(0)
    t, fits = np.linspace(1e4, 3e6, 8), {}
    draws = np.exp(0.2 * rng.standard_normal((30, 2)))
    y = [2 * a * np.exp(-1e-6 * k * t) + 0.02 * rng.standard_normal(8) for a, k in draws]
    for unit in (1.0, 1e6):
        model = EquationRegressor(decay, {"a": 2.0, "k": 1e-6 * unit}).fit(
            [(t[:, None] / unit, values) for values in y]
        )
        fits[unit] = model.population_[["value", "standard_error", "between_task_sd"]].to_numpy() / [[1.0], [unit]]
    np.testing.assert_allclose(fits[1.0], fits[1e6], rtol=1e-2)
    np.testing.assert_allclose(fits[1.0][:, 0], [2.0, 1e-6], rtol=0.15)


def test_a_large_offset_is_no_exact_fit():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 5)
    tasks = [(x[:, None], 1e7 + rng.standard_normal() + 2 * x + 0.1 * rng.standard_normal(5)) for _ in range(30)]
    model = EquationRegressor(line, {"a": 1e7, "b": 1.0}, random=["a"]).fit(tasks)
    assert model.noise_["sd"] == pytest.approx(0.1, rel=0.2)


def test_a_summary_is_of_the_fit_and_copies_stay_read_only(tasks):
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    before = model.summary()
    assert model.set_params(noise="proportional", objective="query").summary() == before
    with pytest.raises(ValueError, match="read-only"):
        copy.deepcopy(model.adapt(tasks[0].X, tasks[0].y)).y_support_[0] = 1.0


@pytest.mark.parametrize(
    ("n_tasks", "n_rows", "settings", "message"),
    [
        (3, 5, {}, "3 tasks cannot tell how 3 constants vary together"),
        (8, 1, {}, "no task has more than one row"),
        (5, 1, {"covariance": "diagonal"}, "5 rows in all cannot tell 3 constants, the variation of 3 of them"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_too_little_for_what_is_asked(n_tasks, n_rows, settings, message):
    tasks = avrami_tasks(n_tasks, n_rows=n_rows, seed=2)[0]
    constants = {**AVRAMI, "plateau": Parameter(1.0, lower=0)}
    with pytest.warns(UserWarning, match=message):
        EquationRegressor(lambda X, k, n, plateau: plateau * avrami(X, k, n), constants, **settings).fit(tasks)


def test_one_very_long_task_is_named(monkeypatch):
    monkeypatch.setattr("metaest.estimators.equations.checks.MUCH_PADDING", 10_000)
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (3000, 1))
    tasks = [Task(i, x[:2], 1 + x[:2, 0] + 0.1 * rng.standard_normal(2)) for i in range(40)]
    tasks.append(Task("long", x, 1 + x[:, 0] + 0.1 * rng.standard_normal(3000)))
    with pytest.warns(UserWarning, match="task 'long' has 3000 rows, half of the tasks at most 2"):
        EquationRegressor(line, {"a": 1.0, "b": 1.0}, random=["a"]).fit(tasks)


def test_suggest_says_when_no_candidate_teaches(model, tasks):
    with pytest.warns(IdentifiabilityWarning, match="none of the candidates teaches anything"):
        model.adapt(tasks[0].X, tasks[0].y).suggest([[0.0], [1e-6]])
