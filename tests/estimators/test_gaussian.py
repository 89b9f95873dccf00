"""What estimators of Gaussian tasks share: conditioning, guard, intervals, files and refusals, on priors by hand."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.model_selection import cross_val_score

from agreement import assert_agree, assert_same_in_threads
from gaussians import BumpRegressor, LevelRegressor, level_tasks
from metaest import ConformalInterval, CoverageWarning, FewShotRegressor, Task, TaskError, TaskSet, scorers
from metaest.estimators.gaussian import conditioning

NEW = np.linspace(-1, 3, 7)[:, None]


@pytest.fixture(scope="module")
def tasks():
    return level_tasks()


@pytest.fixture(scope="module")
def model(tasks):
    return LevelRegressor(random_state=0).fit(tasks)


@pytest.fixture(scope="module")
def bumps(tasks):
    return BumpRegressor(random_state=0).fit(tasks)


def test_conditioning_is_that_of_a_gaussian_process(bumps, tasks):
    X, y = tasks[0].X, tasks[0].y
    process = GaussianProcessRegressor(ConstantKernel(2.0) * RBF(1.0), alpha=0.1, optimizer=None).fit(X, y - 0.5)
    mean, sd = process.predict(NEW, return_std=True)
    adapted = bumps.adapt(X, y)
    np.testing.assert_allclose(adapted.predict(NEW), mean + 0.5, rtol=1e-10)
    np.testing.assert_allclose(adapted.predict(NEW, return_std=True)[1], np.sqrt(sd**2 + 0.1), rtol=1e-10)


def test_levels_shrink_as_the_formula_says(model, tasks):
    X, y = tasks[1].X, tasks[1].y
    prior = model._prior
    share = prior.level_variance / (prior.level_variance + prior.noise_variance / len(y))
    level = share * (y - prior.slope * X[:, 0]).mean()
    np.testing.assert_allclose(model.adapt(X, y).predict(NEW), level + prior.slope * NEW[:, 0], rtol=1e-10)


def test_adapting_to_no_rows_is_predicting(bumps):
    for X, y in ([], []), (np.empty((0, 1)), []):
        for way in (lambda it: it.predict(NEW, return_std=True), lambda it: it.predict_interval(NEW, 0.8)):
            np.testing.assert_array_equal(way(bumps.adapt(X, y)), way(bumps))
    np.testing.assert_allclose(bumps.predict(NEW, return_std=True)[1], np.sqrt(2.1))


def test_partial_adapt_is_adapting_once_on_all_rows(bumps, tasks):
    X, y = tasks[5].X, tasks[5].y
    for k in (0, 3):
        grown = bumps.adapt(X[:k], y[:k]).partial_adapt(X[k:], y[k:])
        np.testing.assert_array_equal(grown.predict(NEW, True), bumps.adapt(X, y).predict(NEW, True))


def test_neither_order_of_rows_nor_of_tasks_matters(bumps, tasks):
    X, y = tasks[7].X, tasks[7].y
    assert_agree(bumps.adapt(X[::-1], y[::-1]).predict(NEW), bumps.adapt(X, y).predict(NEW), "float64")
    many = bumps.adapt_many(tasks).predict(NEW)
    assert_agree(bumps.adapt_many(list(tasks)[::-1]).predict(NEW), many[::-1], "float64")


@pytest.mark.parametrize("values", [conditioning.CHUNK_VALUES, 100])
def test_many_tasks_at_once_are_so_many_adaptations(values, bumps, tasks, monkeypatch):
    monkeypatch.setattr(conditioning, "CHUNK_VALUES", values)
    many = bumps.adapt_many(tasks)
    assert repr(many) == "AdaptedGaussians(20 tasks)"
    single = [bumps.adapt(task.X, task.y) for task in tasks]
    for part in (0, 1):
        expected = [one.predict(NEW, return_std=True)[part] for one in single]
        assert_agree(many.predict(NEW, return_std=True)[part], expected, "float64")
    rest = TaskSet([Task(task.name, task.X[1:] + 0.1, task.y[1:]) for task in tasks])
    expected = np.concatenate([one.predict(task.X) for one, task in zip(single, rest, strict=True)])
    assert_agree(many.predict(rest), expected, "float64")
    for one, other in zip(many, single, strict=True):
        np.testing.assert_array_equal(one.predict(NEW), other.predict(NEW))
    with pytest.raises(TaskError, match="the tasks that were adapted to"):
        many.predict(rest[1:])


@pytest.mark.parametrize("values", [conditioning.CHUNK_VALUES, 60])
def test_score_is_r2_of_the_queries_around_the_training_mean(values, model, monkeypatch):
    monkeypatch.setattr(conditioning, "CHUNK_VALUES", values)
    tasks = [Task(task.name, task.X, task.y, support=[0, 2]) for task in level_tasks(9, seed=1)]
    parts = [(t.y[[1, *range(3, len(t))]], t.X[[1, *range(3, len(t))]], t) for t in tasks]
    truth = np.concatenate([y for y, _, _ in parts])
    prediction = np.concatenate([model.adapt(t.X[[0, 2]], t.y[[0, 2]]).predict(X) for _, X, t in parts])
    expected = 1 - np.square(truth - prediction).sum() / np.square(truth - level_tasks().y.mean()).sum()
    assert model.score(tasks) == pytest.approx(expected, rel=1e-10)
    assert scorers.few_shot_r2(shots=2)(model, tasks) == pytest.approx(expected, rel=1e-10)
    assert expected > model.set_params(support_size=0).score(level_tasks(9, seed=1))
    model.set_params(support_size=(1, 5))


def test_every_form_of_input_gives_the_same_bits(tasks, model):
    groups = tasks.names.repeat(tasks.sizes)
    for given in (list(tasks), [(task.X, task.y) for task in tasks]):
        np.testing.assert_array_equal(LevelRegressor().fit(given).predict(NEW), model.predict(NEW))
    flat = LevelRegressor(random_state=0).fit(tasks.X.tolist(), tasks.y.tolist(), groups.tolist())
    np.testing.assert_array_equal(flat.predict(NEW), model.predict(NEW))
    assert flat.score(tasks.X, tasks.y, groups=groups) == model.score(tasks)
    column = LevelRegressor(random_state=0).fit([(task.X, task.y[:, None]) for task in tasks])
    expected = model.adapt(tasks[0].X, tasks[0].y).predict(NEW)
    np.testing.assert_array_equal(column.adapt(tasks[0].X, tasks[0].y).predict(NEW), expected)


def test_normal_intervals_cover(bumps):
    adapted = bumps.adapt([[0.0], [1.0]], [1.0, 2.0])
    mean, sd = adapted.predict(NEW, return_std=True)
    lower, upper = adapted.predict_interval(NEW, level=0.9)
    np.testing.assert_allclose(norm.cdf(upper, mean, sd) - norm.cdf(lower, mean, sd), 0.9, rtol=1e-9)
    inner = adapted.predict_interval(NEW, of="curve")
    assert (inner[0] > lower).all()
    assert (inner[1] < upper).all()
    for wrong in ({"method": "normal"}, {"level": 1.0}, {"simultaneous": True}, {"of": "curve", "method": "conformal"}):
        with pytest.raises(ValueError, match="must be|needs|not observed"):
            adapted.predict_interval(NEW, **wrong)


def test_conformal_intervals_hold_over_new_tasks(model):
    calibrated = copy.deepcopy(model).calibrate(level_tasks(39, seed=2), support_size=3)
    inside = []
    for task in level_tasks(40, seed=3):
        interval = calibrated.adapt(task.X[:3], task.y[:3]).predict_interval(task.X[3:], 0.9, "conformal")
        assert isinstance(interval, ConformalInterval)
        inside.append(((interval.lower <= task.y[3:]) & (task.y[3:] <= interval.upper)).mean())
    assert np.mean(inside) > 0.85
    assert calibrated.predict_interval(NEW, 0.9, "conformal").n_tasks == 39
    with pytest.raises(ValueError, match="adapted on 2 rows, the calibration tasks on"):
        calibrated.adapt(NEW[:2], [0.0, 0.0]).predict_interval(NEW, 0.9, "conformal")
    with pytest.raises(TaskError, match="was in the fit"):
        model.calibrate(level_tasks())
    with pytest.warns(CoverageWarning, match="cannot promise"):
        calibrated.predict_interval(NEW, 0.99, "conformal")


def test_the_guard_keeps_levels_and_refuses_harm(tasks, model):
    task = level_tasks(1, seed=5)[0]
    kept = model.adapt(task.X, task.y, guard=True)
    assert kept.guard_.decision == "kept"
    np.testing.assert_array_equal(kept.predict(NEW, True), model.adapt(task.X, task.y).predict(NEW, True))
    assert model.adapt_many([task], guard=True)[0].guard_ == kept.guard_
    assert model.adapt([], [], guard=True).guard_.decision == "kept"
    noise = TaskSet([(t.X, np.random.default_rng(i).standard_normal(len(t))) for i, t in enumerate(level_tasks(60))])
    wild = BumpRegressor(random_state=0).fit(noise)
    wild._prior = replace(wild._prior, noise_variance=1e-6)
    judged = wild.adapt(noise[0].X, noise[0].y, guard=True)
    assert judged.guard_.share < 1
    share, plain = judged.guard_.share, wild.adapt(noise[0].X, noise[0].y)
    (mean, sd), (before, sd_before) = plain.predict(NEW, True), wild.predict(NEW, True)
    mixed = share * sd**2 + (1 - share) * sd_before**2 + share * (1 - share) * (mean - before) ** 2
    np.testing.assert_allclose(judged.predict(NEW, True)[0], before + share * (mean - before), rtol=1e-10)
    np.testing.assert_allclose(judged.predict(NEW, True)[1], np.sqrt(mixed), rtol=1e-7)
    np.testing.assert_allclose(
        wild.adapt_many(noise[:1], guard=True).predict(NEW, True)[1][0], np.sqrt(mixed), rtol=1e-7
    )


@pytest.mark.parametrize("way", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy])
def test_models_and_predictors_travel(way, model, tasks):
    adapted, many = model.adapt(tasks[0].X, tasks[0].y), model.adapt_many(tasks)
    for one in (model, adapted, many):
        np.testing.assert_array_equal(way(one).predict(NEW), one.predict(NEW))
    np.testing.assert_array_equal(way(model).adapt(tasks[0].X, tasks[0].y).predict(NEW), adapted.predict(NEW))


def test_a_pickle_has_no_rows_of_training_tasks_and_judges(model, tasks):
    other = pickle.loads(pickle.dumps(model))
    assert other._judged is None
    task = level_tasks(1, seed=5)[0]
    assert other.adapt(task.X, task.y, guard=True).guard_ == model.adapt(task.X, task.y, guard=True).guard_
    with pytest.raises(ValueError, match="has no training rows"):
        other.adapt(task.X, task.y, guard=True, gap=3)


def test_an_adapted_predictor_cannot_be_changed(model, tasks):
    X, y = tasks[0].X.copy(), tasks[0].y.copy()
    adapted = model.adapt(X, y)
    before = adapted.predict(NEW)
    X[:] = y[:] = 7.0
    np.testing.assert_array_equal(adapted.predict(NEW), before)
    assert is_regressor(adapted)
    with pytest.raises(FrozenInstanceError):
        adapted.guard_ = None
    with pytest.raises(ValueError, match="read-only"):
        adapted.y_support_[0] = 1.0
    with pytest.raises(TypeError, match="is not fitted again"):
        adapted.fit(X, y)


def test_threads_do_not_touch_each_other(bumps, tasks):
    assert_same_in_threads(bumps, tasks, 80)


def test_a_failed_fit_leaves_the_model_as_it_was(model, tasks):
    other = copy.deepcopy(model)
    with pytest.raises(TaskError, match="2 targets"):
        other.fit([(task.X, np.column_stack([task.y, task.y])) for task in tasks])
    with pytest.raises(ValueError, match="support_size"):
        other.set_params(support_size=(3, 1)).fit(tasks)
    np.testing.assert_array_equal(other.predict(NEW), model.predict(NEW))


def test_column_names_are_remembered_and_minded(tasks):
    groups = tasks.names.repeat(tasks.sizes)
    frame = pd.DataFrame({"time": tasks.X[:, 0], "dose": 1.0})
    named = LevelRegressor().fit(frame, tasks.y, groups)
    adapted = named.adapt(frame[:3], tasks.y[:3])
    assert adapted.feature_names_in_.tolist() == named.feature_names_in_.tolist() == ["time", "dose"]
    assert named.feature_range_.tolist()[0][1] == 1.0
    for ask in (named.predict, adapted.predict, adapted.predict_interval):
        with pytest.raises(TaskError, match="same order"):
            ask(frame[["dose", "time"]])
    named.fit(tasks)
    assert not hasattr(named, "feature_names_in_")


@pytest.mark.parametrize("fails", [
    lambda m: m.adapt([[1.0]], [np.nan]), lambda m: m.adapt([[np.inf]], [1.0]), lambda m: m.adapt([[1.0]], [1.0, 2.0]),
    lambda m: m.adapt([[1.0, 2.0]], [1.0]), lambda m: m.adapt([[1.0]], None), lambda m: m.adapt([["a"]], [1.0]),
    lambda m: m.adapt([[1.0]], [[1.0, 2.0]]), lambda m: m.predict([[1.0, 2.0]]), lambda m: m.predict(level_tasks()),
    lambda m: m.adapt_many([]), lambda m: m.adapt_many([(np.ones((3, 2)), np.ones(3))]), lambda m: m.predict([]),
    lambda m: m.score([(np.ones((3, 2)), np.ones(3))]), lambda m: m.adapt([[1.0]], [1.0]).partial_adapt([[1.0]], ["b"]),
    lambda m: m.adapt_many([(np.ones((3, 1)), np.ones((3, 2)))]),
])  # fmt: skip
def test_rows_that_cannot_be_used_are_refused(fails, model):
    with pytest.raises(TaskError):
        fails(model)


@pytest.mark.parametrize("fails", [
    lambda m: m.predict([[1.0]], return_std="yes"), lambda m: m.adapt([[1.0]], [1.0], guard="yes"),
    lambda m: m.adapt([[1.0]], [1.0], gap=-1), lambda m: m.adapt_many(level_tasks(), gap=0.5),
    lambda m: LevelRegressor(split="last").fit(level_tasks()), lambda m: LevelRegressor(verbose="x").fit(level_tasks()),
])  # fmt: skip
def test_settings_without_meaning_are_refused(fails, model):
    with pytest.raises(ValueError, match="must be"):
        fails(model)


def test_numbers_beyond_float64_are_an_error_that_names_row_or_task(model):
    with pytest.raises(TaskError, match="adapt: the rows are too far from those of the fit"):
        model.adapt([[1e308], [-1e308]], [-1e308, 1e308])
    far = [("near", [[1.0]], [1.0]), ("far", [[1e308]], [-1e308])]
    with pytest.raises(TaskError, match="task 'far': the rows are too far"):
        model.adapt_many([Task(*one) for one in far])
    with pytest.raises(TaskError, match=r"the answer for row 1 is not finite; column 0 of X is 1\.7e\+308"):
        model.predict([[1.0], [1.7e308]])
    good = model.adapt_many([Task("near", [[1.0]], [1.0])])
    for rows in ([[1.0], [1.7e308]], [Task("near", [[1.0], [1.7e308]], [0.0, 0.0])]):
        with pytest.raises(TaskError, match="'near': the answer for row 1"):
            good.predict(rows)
    with pytest.raises(TaskError, match="'a': the answer for row 0"):
        model.score([Task("a", [[1.0], [1.7e308]], [1.0, 1.0], support=[0])])


def test_it_is_an_estimator_of_scikit_learn(model, tasks):
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).adapt([[1.0]], [1.0])
    assert "AdaptedGaussian" in model.adapt([[1.0]], [1.0])._repr_html_()
    few = FewShotRegressor(model)
    assert cross_val_score(few, tasks[0].X, tasks[0].y, cv=3).shape == (3,)
    assert model.adapt(tasks[0].X, tasks[0].y).score(tasks[0].X, tasks[0].y) > 0.5
