"""HierarchicalGPRegressor: its evidence and slopes, what its curves equal, what it recovers, and what it refuses."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel as SklearnKernel

from agreement import assert_agree
from metaest import (
    AdaptedGaussian,
    AdaptedGaussians,
    HierarchicalGPRegressor,
    ModelFileError,
    Task,
    TaskError,
    TaskSet,
    load,
    model_hash,
    save,
)
from metaest.estimators.gaussian.hierarchical_gp import prior as curve_prior
from metaest.estimators.gaussian.hierarchical_gp import regressor as hierarchical_gp
from metaest.estimators.gaussian.hierarchical_gp.evidence import Curves, Hyperparameters
from metaest.estimators.gaussian.hierarchical_gp.kernels import Kernel
from metaest.estimators.gaussian.hierarchical_gp.prior import CurvePrior
from metaest.estimators.gaussian.hierarchical_gp.search import most_probable, priors
from metaest.estimators.gaussian.hierarchical_gp.warps import Warp
from metaest_datasets import load_orange

NEW = np.linspace(-0.5, 4, 6)[:, None]


def covariance(X, task, at):
    """The covariance of all rows without noise, pair by pair."""
    result = np.empty((len(X), len(X)))
    for i in range(len(X)):
        for j in range(len(X)):
            result[i, j] = sum(
                kernel.constant
                + kernel.linear * X[i] @ X[j]
                + kernel.smooth * np.exp(-0.5 * np.square((X[i] - X[j]) / kernel.length_scales).sum())
                for kernel in ((at.shared, at.task) if task[i] == task[j] else (at.shared,))
            )
    return result


def some_curves(sizes=(4, 1, 6, 4), n_features=2, seed=0):
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    return Curves(rng.standard_normal((n, n_features)), rng.standard_normal(n), np.cumsum([0, *sizes]))


def some_logs(n_features=2, seed=1):
    return np.random.default_rng(seed).normal(-0.5, 0.7, 7 + 2 * n_features)


def tasks_of_model(n_tasks=12, rows=8, seed=0, noise=0.1):
    """Tasks drawn from the model: a wave that they share, a level and a slope of each."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        X = rng.uniform(0, 4, (rows - i % 2, 1))
        y = 3 * np.sin(1.5 * X[:, 0]) + rng.standard_normal() + 0.5 * rng.standard_normal() * (X[:, 0] - 2)
        tasks.append(Task(f"task {seed}.{i}", X, y + noise * rng.standard_normal(len(X))))
    return TaskSet(tasks)


@pytest.fixture(scope="module")
def tasks():
    return tasks_of_model()


@pytest.fixture(scope="module")
def model(tasks):
    return HierarchicalGPRegressor(random_state=0).fit(tasks)


@pytest.mark.parametrize("n_features", [1, 3])
def test_evidence_is_the_density_of_the_rows(n_features):
    curves, logs = some_curves(n_features=n_features), some_logs(n_features)
    at, task = Hyperparameters.of_logs(logs), np.repeat(np.arange(4), np.diff(curves.offsets))
    whole = covariance(curves.X, task, at) + at.noise_variance * np.eye(len(task))
    expected = multivariate_normal(np.zeros(len(task)), whole).logpdf(curves.y)
    assert curves.log_evidence(logs) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n_features", [1, 3])
def test_slopes_are_finite_differences(n_features):
    curves, logs = some_curves(n_features=n_features), some_logs(n_features)
    slopes = curves.evidence_and_slopes(logs)[1]
    for k, slope in enumerate(slopes):
        step = 1e-5 * np.eye(len(logs))[k]
        difference = (curves.log_evidence(logs + step) - curves.log_evidence(logs - step)) / 2e-5
        assert slope == pytest.approx(difference, rel=1e-6, abs=1e-8)


def test_evidence_does_not_depend_on_the_order_of_tasks_or_rows():
    curves, logs = some_curves((4, 1, 6)), some_logs()
    order = [10, 9, 8, 7, 6, 5, 4, 0, 3, 1, 2]
    other = Curves(curves.X[order], curves.y[order], np.cumsum([0, 6, 1, 4]))
    assert other.log_evidence(logs) == pytest.approx(curves.log_evidence(logs), rel=1e-12)


class ByHand(SklearnKernel):
    """The covariance of rows whose last column is their task, for scikit-learn's own process."""

    def __init__(self, at):
        self.at = at

    def __call__(self, X, Y=None, eval_gradient=False):
        both = X if Y is None else np.concatenate([X, Y])
        whole = covariance(both[:, :-1], both[:, -1], self.at)
        return whole if Y is None else whole[: len(X), len(X) :]

    def diag(self, X):
        return np.diag(self(X))

    def is_stationary(self):
        return False


def prior_of(curves, logs, center=2.0, scale=3.0):
    at = Hyperparameters.of_logs(logs)
    knots = (np.array([0.0, 1.0]),) * curves.X.shape[1]
    return CurvePrior(scale**2 * at.noise_variance, at, curves, Warp(knots, knots), center, scale)


def test_it_is_the_process_of_scikit_learn_over_rows_and_tasks():
    curves, logs = some_curves(), some_logs()
    prior, task = prior_of(curves, logs), np.repeat(np.arange(4), np.diff(curves.offsets))
    process = GaussianProcessRegressor(ByHand(prior.at), alpha=prior.at.noise_variance, optimizer=None)
    X, new = np.random.default_rng(3).standard_normal((2, 5, 2))
    y = np.random.default_rng(4).standard_normal(5)
    process.fit(
        np.concatenate([np.c_[curves.X, task], np.c_[X, np.full(5, 9)]]), np.concatenate([curves.y, (y - 2.0) / 3.0])
    )
    mean, sd = process.predict(np.c_[new, np.full(5, 9)], return_std=True)
    moments = prior.condition(X[None], y[None], np.ones((1, 5), dtype=bool)).at(new[None], spread=True)
    np.testing.assert_allclose(moments.mean[0], 2 + 3 * mean, rtol=1e-9)
    np.testing.assert_allclose(moments.variance[0], np.square(3 * sd), rtol=1e-8)


def test_a_constant_part_alone_is_a_random_intercept():
    rng = np.random.default_rng(0)
    sizes, between, noise = np.array([3, 5, 2, 4]), 0.8, 0.3
    y = rng.standard_normal(sizes.sum()) + np.repeat(rng.standard_normal(4), sizes)
    none = np.ones(1)
    at = Hyperparameters(noise, Kernel(1e7, 0.0, 0.0, none), Kernel(between, 0.0, 0.0, none))
    knots = (np.array([0.0, 1.0]),)
    curves = Curves(rng.standard_normal((len(y), 1)), y, np.cumsum([0, *sizes]))
    prior = CurvePrior(noise, at, curves, Warp(knots, knots), 0.0, 1.0)
    # generalised least squares: the mean of a task is worth 1 / (between + noise / n)
    worth = 1 / (between + noise / sizes)
    means = np.add.reduceat(y, curves.offsets[:-1]) / sizes
    grand = worth @ means / worth.sum()
    np.testing.assert_allclose(prior.mean(NEW), grand, rtol=1e-5)
    np.testing.assert_allclose(prior.variance(NEW), between + 1 / worth.sum(), rtol=1e-5)
    rows = np.array([1.0, 2.0, 1.5])
    answer = prior.condition(np.zeros((1, 3, 1)), rows[None], np.ones((1, 3), dtype=bool)).at(NEW[None], False).mean
    whole = between + 1 / worth.sum()
    np.testing.assert_allclose(answer, grand + whole / (whole + noise / 3) * (rows.mean() - grand), rtol=1e-5)


def test_covariances_of_repeated_rows_are_those_of_distinct_ones(monkeypatch):
    prior = prior_of(some_curves(), some_logs())
    X, X2 = np.random.default_rng(0).standard_normal((2, 6, 3, 2))
    expected = prior.covariance(X, X2)
    monkeypatch.setattr(curve_prior, "REPEATED", 0)
    np.testing.assert_allclose(prior.covariance(X, X2), expected, rtol=1e-10)
    monkeypatch.setattr(curve_prior, "REPEATED", 1e9)
    monkeypatch.setattr(curve_prior, "CHUNK_VALUES", 40)
    np.testing.assert_allclose(prior.covariance(X, X2), expected, rtol=1e-10)
    diagonal = np.einsum("tii->ti", prior.covariance(X, X)).ravel()
    np.testing.assert_allclose(prior.variance(X.reshape(-1, 2)), diagonal, rtol=1e-10)


def test_it_recovers_the_model_that_drew_the_tasks(model):
    assert model.variance_components_.loc["noise", "task"] == pytest.approx(0.01, rel=0.5)
    assert model.variance_components_.loc["constant", "task"] == pytest.approx(1.0, rel=0.8)
    new = tasks_of_model(30, seed=1)
    errors = [model.adapt(t.X[:3], t.y[:3]).predict(t.X[3:]) - t.y[3:] for t in new]
    assert np.sqrt(np.mean(np.square(np.concatenate(errors)))) < 0.35
    plain = [model.predict(t.X[3:]) - t.y[3:] for t in new]
    assert np.sqrt(np.mean(np.square(np.concatenate(plain)))) > 0.9


def test_intervals_cover_as_they_say(model):
    inside = []
    for task in tasks_of_model(60, seed=2):
        lower, upper = model.adapt(task.X[:2], task.y[:2]).predict_interval(task.X[2:], level=0.8)
        inside.append(((lower <= task.y[2:]) & (task.y[2:] <= upper)).mean())
    assert 0.7 < np.mean(inside) < 0.9


def test_units_do_not_matter(model, tasks):
    other = HierarchicalGPRegressor(random_state=0).fit([(1000 * t.X + 5, 0.01 * t.y - 7) for t in tasks])
    X, y = tasks[3].X, tasks[3].y
    answers = other.adapt(1000 * X[:3] + 5, 0.01 * y[:3] - 7).predict(1000 * NEW + 5, return_std=True)
    expected = model.adapt(X[:3], y[:3]).predict(NEW, return_std=True)
    np.testing.assert_allclose(100 * (answers[0] + 7), expected[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(100 * answers[1], expected[1], rtol=1e-3)
    assert other.log_evidence_ == pytest.approx(model.log_evidence_ + len(tasks.X) * np.log(100), abs=0.01)


def test_adapting_is_conditioning(model, tasks):
    X, y = tasks[5].X, tasks[5].y
    assert isinstance(model.adapt(X, y), AdaptedGaussian)
    assert isinstance(model.adapt_many(tasks), AdaptedGaussians)
    np.testing.assert_array_equal(model.adapt([], []).predict(NEW, True), model.predict(NEW, True))
    grown = model.adapt(X[:2], y[:2]).partial_adapt(X[2:], y[2:])
    np.testing.assert_array_equal(grown.predict(NEW, True), model.adapt(X, y).predict(NEW, True))
    assert_agree(model.adapt(X[::-1], y[::-1]).predict(NEW), grown.predict(NEW), "float64")
    single = [model.adapt(task.X, task.y).predict(NEW) for task in tasks]
    np.testing.assert_allclose(model.adapt_many(tasks).predict(NEW), single, rtol=1e-7)
    # two rows are worth more than one, and less than certainty
    sd = [model.adapt(X[:k], y[:k]).predict(X[:1], return_std=True)[1][0] for k in (0, 1, 2)]
    assert sd[0] > sd[1] > sd[2] > np.sqrt(model.variance_components_.loc["noise", "task"])


def test_same_seed_same_bits(model, tasks):
    again = HierarchicalGPRegressor(random_state=0).fit(tasks)
    np.testing.assert_array_equal(again.predict(NEW, True), model.predict(NEW, True))
    assert again.log_evidence_ == model.log_evidence_


def test_more_starts_are_never_worse():
    trees = load_orange()[1:]
    X, y = Warp.learn(trees.X, ranks=False)(trees.X), (trees.y - trees.y.mean()) / trees.y.std()
    curves = Curves(X, y, trees.offsets)
    results = [most_probable(curves, n, 200, np.random.default_rng(0)).log_posterior for n in (1, 2, 3, 5)]
    assert results == sorted(results)
    assert results[1] > results[0] + 5  # all trees were measured on the same days: what they share is rough, not noise


def test_starts_compared_on_some_tasks_lead_to_the_same_optimum(monkeypatch):
    tasks = tasks_of_model(24, seed=4)
    whole = HierarchicalGPRegressor(random_state=0).fit(tasks)
    monkeypatch.setattr(hierarchical_gp, "FEW_ROWS", 90)
    some = HierarchicalGPRegressor(random_state=0).fit(tasks)
    assert some.n_rows_ == whole.n_rows_ == len(tasks.X)
    assert some.log_evidence_ == pytest.approx(whole.log_evidence_, abs=0.05)
    np.testing.assert_allclose(some.predict(NEW), whole.predict(NEW), atol=0.02)


def test_a_column_that_is_one_value_a_task_is_a_covariate():
    curves = some_curves((3, 3, 2))
    assert not curves.covariates.any()
    X = np.column_stack([curves.X[:, 0], np.repeat([1.0, 2.0, 4.0], [3, 3, 2])])
    covariate = replace(curves, X=X)
    assert covariate.covariates.tolist() == [False, True]
    center, plain = priors(covariate)[0], priors(curves)[0]
    assert np.flatnonzero(center != plain).tolist() == [5]


@pytest.mark.parametrize("ranks", [False, True])
def test_a_warp_standardises_and_keeps_the_order(ranks):
    rng = np.random.default_rng(0)
    X = np.column_stack([np.exp(2 * rng.standard_normal(300)), rng.integers(0, 3, 300), np.full(300, 7.0)])
    warp = Warp.learn(X, ranks=ranks)
    Z = warp(X)
    np.testing.assert_allclose(Z[:, :2].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(Z[:, :2].std(axis=0), 1, rtol=1e-12)
    assert (Z[:, 2] == 0).all()
    ordered = np.linspace(-5, X[:, 0].max() + 50, 500)
    column = warp(np.column_stack([ordered, np.zeros(500), np.full(500, 8.0)]))
    assert (np.diff(column[:, 0]) > 0).all()
    assert (column[:, 2] != 0).all()
    last = np.diff(column[-5:, 0])
    np.testing.assert_allclose(last, last[0], rtol=1e-9)
    if not ranks:
        np.testing.assert_allclose(Z[:, 0], (X[:, 0] - X[:, 0].mean()) / X[:, 0].std(), rtol=1e-12)


def test_ranks_are_taken_where_the_evidence_is_higher():
    rng = np.random.default_rng(0)
    tasks = []
    for _ in range(10):
        t = np.exp(rng.uniform(-3, 3, 9))
        tasks.append((t[:, None], np.sin(np.log(t)) + rng.standard_normal() + 0.1 * rng.standard_normal(9)))
    fits = {warp: HierarchicalGPRegressor(warp=warp, random_state=0).fit(tasks) for warp in ("auto", "none", "ranks")}
    assert fits["auto"].warped_ is True
    assert fits["auto"].log_evidence_ == fits["ranks"].log_evidence_ > fits["none"].log_evidence_ + 10
    np.testing.assert_array_equal(fits["auto"].predict(NEW + 1), fits["ranks"].predict(NEW + 1))


def test_more_rows_than_it_takes_are_said(tasks):
    with pytest.warns(UserWarning, match=r"from 2 of 12 tasks, drawn at random, with 1[4-6] of 90 rows"):
        some = HierarchicalGPRegressor(max_rows=16, random_state=0).fit(tasks)
    assert some.n_rows_ <= 16
    assert some.n_tasks_ == 12
    with pytest.raises(TaskError, match="shortest task has 7 rows, and max_rows=5"):
        HierarchicalGPRegressor(max_rows=5).fit(tasks)
    uneven = TaskSet([Task("long", np.ones((50, 1)), np.arange(50.0)), *tasks[:1]])
    with pytest.warns(UserWarning, match="from 1 of 2 tasks"):
        assert HierarchicalGPRegressor(max_rows=20, random_state=1).fit(uneven).n_rows_ == 8


def test_a_search_that_is_cut_short_is_said(tasks):
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=2"):
        HierarchicalGPRegressor(max_iter=2, warp="none", random_state=0).fit(tasks)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([([[1.0], [2.0]], [1.0, 1e200])], "task 0: column 'y' is 1e"),
        ([([[1.0], [2.0]], [1.0, 2.0]), ([[1e160], [2.0]], [1.0, 2.0])], "task 1: column 'x0' is 1e"),
        ([([[1.0], [2.0]], [1e-200, 2e-200])], "whose square is 0"),
        ([([[1.0], [2.0]], [[1.0, 2.0], [3.0, 4.0]])], "2 targets; a HierarchicalGPRegressor has one"),
        ([(np.ones((2, 1, 4, 4)), [1.0, 2.0])], "columns are wanted"),
    ],
)
def test_tasks_that_cannot_be_worked_with_are_refused(tasks, message):
    with pytest.raises(TaskError, match=message):
        HierarchicalGPRegressor().fit(tasks)


@pytest.mark.parametrize("tasks", [
    [([[1.0]], [2.0])], [([[1.0]], [2.0]), ([[1.0]], [3.0])], [([[1.0], [1.0]], [2.0, 2.0])],
    [([[1.0], [2.0]], [0.0, 0.0]), ([[3.0]], [0.0])], [([[0.0, 1e-300], [0.0, 2e-300]], [1.0, 2.0])],
])  # fmt: skip
def test_the_smallest_tasks_can_be_fitted(tasks):
    model = HierarchicalGPRegressor(random_state=0).fit(tasks)
    mean, sd = model.adapt(*tasks[0]).predict(tasks[0][0], return_std=True)
    assert np.isfinite(mean).all()
    assert (sd > 0).all()


def test_far_rows_are_the_priors_and_farther_ones_are_refused(model):
    near, far = (model.adapt([[1.0]], [1.0]).predict([[x]], return_std=True)[1][0] for x in (1.1, 1e3))
    assert far > 10 * near
    with pytest.raises(TaskError, match="the answer for row 0 is not finite; column 0 of X is 1e"):
        model.predict([[1e200]], return_std=True)
    with pytest.raises(TaskError, match="too far from those of the fit"):
        model.adapt([[1e200]], [1.0])


def test_tables_name_columns(tasks):
    named = [Task(t.name, t.X, t.y, feature_names=("hours",)) for t in tasks]
    model = HierarchicalGPRegressor(n_starts=1, warp="none", random_state=0).fit(named)
    assert model.length_scales_.index.tolist() == ["hours"]
    assert model.variance_components_.index.tolist() == ["constant", "linear", "smooth", "noise"]


@pytest.mark.parametrize("way", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy])
def test_it_travels(way, model, tasks):
    for one in (model, model.adapt(tasks[0].X, tasks[0].y), model.adapt_many(tasks)):
        np.testing.assert_array_equal(way(one).predict(NEW), one.predict(NEW))


def test_a_file_holds_rows_where_it_may_only(model, tasks, tmp_path):
    adapted = model.adapt(tasks[0].X[:3], tasks[0].y[:3], guard=True)
    with pytest.raises(ModelFileError, match="keep_rows=True"):
        save(model, tmp_path / "model")
    save(model, tmp_path / "model", keep_rows=True)
    save(adapted, tmp_path / "adapted")
    again = load(tmp_path / "model")
    assert model_hash(again) == model_hash(model) == model_hash(adapted)
    np.testing.assert_array_equal(again.predict(NEW, True), model.predict(NEW, True))
    same = load(tmp_path / "adapted", model=again)
    np.testing.assert_array_equal(same.predict(NEW, True), adapted.predict(NEW, True))
    assert same.guard_ == adapted.guard_
    assert (tmp_path / "adapted").stat().st_size < 20_000


@pytest.mark.parametrize("change", [
    {"noise_variance": 0.0}, {"scale": -1.0}, {"center": np.nan}, {"curves": some_curves((3, 2), 2)},
    {"at": Hyperparameters(0.1, Kernel(1.0, 1.0, -1.0, np.ones(1)), Kernel(1.0, 1.0, 1.0, np.ones(1)))},
    {"at": Hyperparameters(0.1, Kernel(1.0, 1.0, 1.0, np.zeros(1)), Kernel(1.0, 1.0, 1.0, np.ones(1)))},
    {"warp": Warp((np.array([1.0, 0.0]),), (np.array([0.0, 1.0]),))}, {"warp": Warp((), ())},
    {"curves": replace(some_curves((3, 2), 1), offsets=np.array([0, 3, 9]))},
])  # fmt: skip
def test_a_prior_that_contradicts_itself_is_noticed(change, model):
    assert model._prior.fault() == ""
    assert replace(model._prior, **change).fault()
