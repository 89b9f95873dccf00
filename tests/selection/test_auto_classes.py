"""AutoMetaClassifier: labels that tasks share or have of their own, candidates, choice, and the contract of adapting."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from metaest import (
    AutoMetaClassifier,
    AutoMetaRegressor,
    FewShotClassifier,
    MAMLClassifier,
    MAMLRegressor,
    Task,
    TaskError,
    TaskSet,
    load,
    save,
)
from metaest.estimators.gaussian.random_coefficients.regressor import RandomCoefficientRegressor
from metaest.exceptions import DivergenceError
from metaest.selection.choice import choose
from metaest.selection.class_candidates import default_class_candidates
from metaest.selection.gaussian_classes import HierarchicalGaussianClassifier
from metaest.selection.held_out import HeldOut
from metaest.selection.indicators import IndicatorClassifier
from metaest.selection.labels import Labels, indicator_of


class Shares(ClassifierMixin, BaseEstimator):
    """Predicts shares of the classes in the support, drawn to even ones by `even` rows of each class."""

    def __init__(self, even=1.0, way=""):
        self.even, self.way = even, way

    def fit(self, tasks):
        self.n_features_in_ = tasks.X.shape[1]
        self.classes_ = np.unique(tasks.y)
        return self

    def adapt(self, X, y):
        classes, n = np.unique(y, return_counts=True)
        return _Adapted(classes, (n + self.even) / (n + self.even).sum(), self.way)

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


class _Adapted:
    def __init__(self, classes, shares, way):
        self.classes_, self.shares, self.way = classes, shares, way
        if way == "reversed":
            self.classes_, self.shares = classes[::-1], shares[::-1]
        if way == "twice":
            self.classes_ = np.repeat(classes[:1], len(classes))
        if way == "other":
            self.classes_ = np.array(["x", *classes[1:].tolist()])

    def predict_proba(self, X):
        if self.way == "writes":
            X[:] = 0
        values = np.tile(self.shares, (len(X), 1))
        if self.way == "not finite":
            values[1:] = np.nan
        if self.way == "rounded":
            values = 1.0005 * (values - [1e-4, 0, 0]) * [0, 1, 1] + [-1e-4, self.shares[0] + 1e-4, 0]
        return 2 * values if self.way == "no probabilities" else values[:, :1] if self.way == "narrow" else values


def shared(n=24, rows=12, classes=("ill", "so", "well"), shift=1.0, seed=0):
    """Gaussian classes whose means move from task to task."""
    rng = np.random.default_rng(seed)
    centres, sets = 2 * rng.standard_normal((len(classes), 2)), []
    for i in range(n):
        code = rng.permutation(np.arange(rows) % len(classes))
        moved = centres + shift * rng.standard_normal(centres.shape)
        sets.append(Task(f"t{i}", moved[code] + rng.standard_normal((rows, 2)), np.array(classes)[code]))
    return TaskSet(sets)


def own(n=24, rows=16, seed=0, shape=(3,)):
    """Two to four classes with names of the task's."""
    rng = np.random.default_rng(seed)
    sets = []
    for i in range(n):
        k = int(rng.integers(2, 5))
        code = rng.permutation(np.arange(rows) % k)
        X = 3 * rng.standard_normal((k, *shape))[code] + rng.standard_normal((rows, *shape))
        sets.append(Task(i, X, np.array([f"{i}.{j}" for j in range(k)])[code]))
    return TaskSet(sets)


def simple(**settings):
    return AutoMetaClassifier(
        **{
            "candidates": [("even", Shares(50.0)), ("gaussian", HierarchicalGaussianClassifier())],
            "shots": (3, 6),
            "random_state": 0,
            **settings,
        }
    )


def own_model(**settings):
    candidates = [("even", Shares(50.0)), ("gaussian", HierarchicalGaussianClassifier(shared_labels=False))]
    return simple(candidates=candidates, shots=(1, 2), **settings)


@pytest.fixture(scope="module")
def fitted():
    return simple().fit(shared())


@pytest.fixture(scope="module")
def fitted_own():
    return own_model().fit(own())


def test_labels_are_shared_or_of_a_task(fitted, fitted_own):
    assert fitted.shared_labels_
    assert fitted.classes_.tolist() == ["ill", "so", "well"]
    assert not fitted_own.shared_labels_
    assert not hasattr(fitted_own, "classes_")
    assert fitted.weights_["gaussian"] > 0.9
    assert fitted_own.weights_["gaussian"] > 0.9
    assert fitted.score(shared(30, seed=0)[24:]) > 0.6
    assert fitted_own.score(own(30, seed=0)[24:]) > 0.8
    assert fitted.task_scores(shared(3)).index.tolist() == ["t0", "t1", "t2"]


def test_the_loss_is_the_score_of_brier():
    tasks = shared(130, seed=2)
    candidates = [("even", Shares(1e9)), ("gaussian", HierarchicalGaussianClassifier())]
    model = simple(candidates=candidates, shots=3, average=False).fit(tasks)
    # of three even shares it is 1/9 + 1/9 + 4/9, whatever the classes are
    assert model.weights_ == {"gaussian": 1.0}
    best = 6 / 9 / model.table_.loc["even", "loss"]
    assert 0.05 < best < 0.6
    assert model.table_.loc["even", "accuracy at 3"] == pytest.approx(1 / 3, abs=0.08)
    assert model.table_.loc["gaussian", "accuracy at 3"] > 0.6


def test_shots_count_rows_of_each_class_where_labels_are_a_tasks_own():
    task = Task(0, np.arange(8.0)[:, None], np.array(list("aaaaabbc")))
    labels = Labels(None, 3)
    support, query = labels.split(task, 2, np.arange(8))
    assert task.y[support].tolist() == ["a", "a", "b", "c"]
    assert set(support).isdisjoint(query)
    assert len(support) + len(query) == 8
    support, query = Labels(np.array(["a", "b", "c"]), 3).split(task, 2, np.arange(8))
    assert support.tolist() == [0, 1]
    assert query.tolist() == [2, 3, 4, 5, 6, 7]


def test_rows_that_a_task_carries_are_adapted_on_first_and_not_judged():
    task = Task(0, np.zeros((8, 1)), np.array(list("abababab")), support=[6, 7])
    support, query = Labels(None, 2).split(task, 1, np.arange(8))
    assert support.tolist() == [6, 7]
    support, query = Labels(None, 2).split(task, 2, np.arange(8))
    assert support.tolist() == [0, 1, 6, 7]
    assert set(query) == {2, 3, 4, 5}


def test_probabilities_are_averages_in_the_order_of_the_classes(fitted, fitted_own):
    tasks = shared()
    model = simple(candidates=[("a", Shares()), ("b", Shares(5.0, way="reversed"))], average=True).fit(tasks)
    one = model.adapt(tasks[0].X[:5], tasks[0].y[:5])
    expected = np.zeros((len(tasks[0]), 3))
    for name, member in one.members_.items():
        for k, label in enumerate(member.classes_):
            expected[:, one.classes_.searchsorted(label)] += one.weights_[name] * member.predict_proba(tasks[0].X)[:, k]
    assert np.allclose(one.predict_proba(tasks[0].X), expected)
    task = own()[3]
    adapted = fitted_own.adapt(task.X[:9], task.y[:9])
    assert adapted.classes_.tolist() == np.unique(task.y).tolist()
    assert np.allclose(adapted.predict_proba(task.X).sum(axis=1), 1)
    assert adapted.score(task.X[9:], task.y[9:]) == np.mean(adapted.predict(task.X[9:]) == task.y[9:])


def test_a_support_may_lack_shared_classes_and_new_tasks_have_other_numbers_of_their_own(fitted, fitted_own):
    task = shared()[0]
    one = fitted.adapt(task.X[:1], task.y[:1])
    assert one.predict_proba(task.X).shape == (12, 3)
    for k in (2, 3, 7):
        labels = np.arange(14) % k
        few = fitted_own.adapt(np.random.default_rng(0).standard_normal((14, 3)), labels)
        assert few.classes_.tolist() == list(range(k))
        assert few.predict_proba(np.zeros((2, 3))).shape == (2, k)


def test_what_cannot_be_known_is_refused(fitted, fitted_own):
    with pytest.raises(TaskError, match="one class only, 'a'"):
        fitted_own.adapt(np.zeros((2, 3)), ["a", "a"])
    with pytest.raises(TaskError, match="label 'dead' was not met"):
        fitted.adapt(np.zeros((2, 2)), ["ill", "dead"])
    with pytest.raises(TaskError, match="labels are numbers"):
        fitted.adapt(np.zeros((2, 2)), [0, 1])
    with pytest.raises(ValueError, match="call adapt"):
        fitted_own.predict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="none where each task has labels"):
        fitted_own.adapt(np.zeros((2, 3)), ["a", "b"], guard=True)
    with pytest.raises(TaskError, match="there are no rows"):
        fitted.adapt([], [])
    with pytest.raises(TaskError, match="features"):
        fitted.adapt(np.zeros((2, 5)), ["ill", "well"])
    with pytest.raises(TaskError, match="all rows have one label"):
        simple(shared_labels=True).fit(TaskSet([(np.zeros((4, 2)), ["a"] * 4)] * 3))
    with pytest.raises(TaskError, match="continuous"):
        simple().fit(TaskSet([(np.zeros((4, 2)), [0.5, 1.5, 2.0, 3.0])] * 3))
    with pytest.raises(TaskError, match="labels of mixed types"):
        fitted.adapt(shared()[0].X[:3], shared()[0].y[:3]).partial_adapt(np.zeros((1, 2)), [1])


def test_regressors_are_refused_and_bad_answers_left_out():
    with pytest.raises(ValueError, match="'r' is a regressor"):
        simple(candidates=[("r", MAMLRegressor())]).fit(shared())
    with pytest.raises(ValueError, match="'c' is a classifier"):
        AutoMetaRegressor(candidates=[("c", AutoMetaClassifier())]).fit(TaskSet([(np.zeros((4, 2)), np.zeros(4))] * 3))
    for way, message in {
        "no probabilities": "no probabilities",
        "other": "predicts a class 'x'",
        "narrow": "shape",
        "not finite": "not finite, first in row 1",
        "twice": "names a class twice",
        "writes": "read-only",
    }.items():
        model = simple(candidates=[("a", Shares()), ("b", Shares(way=way))]).fit(shared(10))
        assert message in model.table_.loc["b", "status"]
        assert model.weights_ == {"a": 1.0}


def test_nothing_is_answered_where_probabilities_are_not_finite():
    # the largest of NaN would be the first class
    one = simple(candidates=[("n", Shares(way="not finite"))]).fit(shared(6)).adapt([[0.0, 1.0]] * 2, ["ill", "well"])
    with pytest.raises(DivergenceError, match="'n' predicts probabilities that are not finite, first in row 1"):
        one.predict(np.zeros((3, 2)))


def test_probabilities_within_rounding_are_made_exact():
    tasks = shared(6)
    one = simple(candidates=[("r", Shares(way="rounded"))]).fit(tasks).adapt(tasks[0].X, tasks[0].y)
    assert one.members_["r"].predict_proba(tasks[0].X).min() < 0
    probabilities = one.predict_proba(tasks[0].X)
    assert (probabilities >= 0).all()
    assert np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-14)


def test_a_score_that_is_perfect_is_no_unit_for_others():
    # 40 tasks: "early" is better with one row, and with ten right by 0.995, where "late" is right by 0.9999
    task, shot = np.repeat(np.arange(40), 2), np.tile([1, 10], 40)
    truth = np.tile([1.0, 0.0], (80, 1))

    def said(few, many):
        p = np.where(shot == 1, few, many)
        return np.column_stack([p, 1 - p])

    predictions = {"late": said(0.4, 0.9999), "early": said(0.7, 0.995)}
    held_out = HeldOut(truth, predictions, task, shot, {}, {}, Labels(np.array(["ill", "well"]), 2))
    assert choose(held_out, [1, 10], averages=False).weights == {"late": 0.0, "early": 1.0}


def test_tasks_are_not_judged_by_a_fit_on_one_label():
    tasks = TaskSet([(np.zeros((6, 2)), ["a"] * 6) for _ in range(4)] + [(np.zeros((6, 2)), ["a", "b"] * 3)])
    labels = Labels.of(tasks, True)
    assert labels.judged(tasks, np.arange(3), np.array([3, 4])).tolist() == []
    assert labels.judged(tasks, np.arange(2, 5), np.array([0, 1])).tolist() == [0, 1]


def test_why_nothing_was_compared_is_said():
    assert simple().fit(shared(1)).choice_ == "even, the first of 2 that were not compared: there is one task"
    apart = [(np.zeros((5, 2)), [label] * 5) for label in "ab"]
    assert "no task has only labels of the others" in simple(shared_labels=True).fit(apart).choice_


def test_a_label_of_one_task_alone_is_not_judged():
    tasks = [*shared(11, classes=("ill", "well")), Task("odd", np.zeros((6, 2)), ["ill", "well", "dead"] * 2)]
    labels = Labels.of(TaskSet(tasks), True)
    assert labels.judged(TaskSet(tasks), np.arange(8), np.arange(8, 12)).tolist() == [8, 9, 10]
    model = simple().fit(tasks)
    assert (model.table_["status"] == "compared").all()
    assert model.classes_.tolist() == ["dead", "ill", "well"]


def test_rows_in_two_goes_are_rows_at_once_and_many_are_one_by_one(fitted, fitted_own):
    for model, tasks in ((fitted, shared()), (fitted_own, own())):
        X, y = tasks[1].X, tasks[1].y
        once, twice = model.adapt(X, y), model.adapt(X[:8], y[:8]).partial_adapt(X[8:], y[8:])
        assert np.array_equal(once.predict_proba(X), twice.predict_proba(X))
        many = model.adapt_many(tasks[:3])
        assert np.array_equal(many.predict(tasks[:3])[len(X) : 2 * len(X)], once.predict(X))
        assert np.array_equal(many.predict_proba(X)[1], once.predict_proba(X))
        assert many.predict(X).shape == (3, len(X))
        assert np.array_equal(many[1].predict(X), once.predict(X))


def test_the_guard_lies_between_population_and_adaptation(fitted):
    task = shared()[2]
    judged = fitted.adapt(task.X[:6], task.y[:6], guard=True)
    share, population = judged.guard_.share, fitted.predict_proba(task.X)
    adapted = fitted.adapt(task.X[:6], task.y[:6]).predict_proba(task.X)
    assert np.allclose(judged.predict_proba(task.X), population + share * (adapted - population))
    many = fitted.adapt_many(shared()[:3], guard=True)
    assert len(many.guards_) == 3


def test_seeds_clones_pickles_and_files(fitted, fitted_own, tmp_path):
    task = shared()[0]
    again = clone(fitted).fit(shared())
    assert again.weights_ == fitted.weights_
    assert np.array_equal(again.predict_proba(task.X), fitted.predict_proba(task.X))
    kept = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(kept.predict_proba(task.X), fitted.predict_proba(task.X))
    candidates = [("gaussian", HierarchicalGaussianClassifier())]
    model = simple(candidates=candidates).fit(shared())
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors")
    few = task.X[:4], task.y[:4]
    assert np.array_equal(read.adapt(*few).predict_proba(task.X), model.adapt(*few).predict_proba(task.X))
    copy = pickle.loads(pickle.dumps(fitted_own.adapt(own()[0].X, own()[0].y)))
    assert copy.classes_.tolist() == np.unique(own()[0].y).tolist()
    assert "even" in fitted._repr_html_()
    assert "classes_" not in vars(clone(fitted))


def test_settings_of_candidates_are_set_by_name(fitted):
    assert fitted.get_params()["even__even"] == 50.0
    assert clone(fitted).set_params(even__even=3.0).candidates[0][1].even == 3.0
    few = FewShotClassifier(fitted).fit(shared()[0].X[:4], shared()[0].y[:4])
    assert few.predict(shared()[0].X).shape == (12,)
    for settings in ({"shared_labels": "yes"}, {"shots": (0,)}, {"cv": 1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            simple(**settings).fit(shared(4))


def test_too_few_rows_are_told():
    with pytest.raises(TaskError, match="rows of each class to adapt on is 9.* the largest task allows 7"):
        own_model().set_params(shots=9).fit(own())


def names(tasks, shares):
    return [candidate.name for candidate in default_class_candidates(tasks, Labels.of(tasks, shares), "random", 0)]


def test_the_candidates_of_auto_suit_the_shape():
    networks = ["network with a head in closed form", "network by gradient steps"]
    assert names(shared(), True) == ["Gaussian classes", "boosted trees and levels", *networks]
    assert names(own(), False) == ["Gaussian classes", *networks]
    assert names(own(5), False) == ["Gaussian classes"]
    assert names(own(shape=(1, 6, 6)), False) == ["Gaussian classes", "network for images"]
    assert names(own(12, shape=(1, 40, 40)), False) == ["network for images"]


def test_auto_learns_and_is_written(tmp_path):
    tasks = shared(9, classes=("no", "yes"))  # too few tasks for a network
    model = AutoMetaClassifier(shots=3, cv=2, random_state=0).fit(tasks)
    assert (model.table_["status"] == "compared").all()
    save(model, tmp_path / "model.safetensors")
    read = load(tmp_path / "model.safetensors")
    assert np.array_equal(read.predict_proba(tasks[0].X), model.predict_proba(tasks[0].X))


# what the candidates of "auto" are made of


def test_gaussian_classes_are_the_posterior_of_a_normal_mean():
    tasks = shared(400, rows=30, shift=1.0, seed=5)
    model = HierarchicalGaussianClassifier().fit(tasks)
    learned, task = model._fitted, tasks[0]
    # covariances of one in the rows, and of one between tasks
    assert np.median(learned.between) == pytest.approx(1.0, rel=0.2)
    codes = np.searchsorted(learned.labels, task.y[:7])
    rows, asked = learned.in_basis(task.X[:7]), learned.in_basis(task.X[7:9])
    logs, constants = learned.log_densities(rows, codes, asked, 3), []
    for k in range(3):
        members = rows[codes == k]
        precision = 1 / learned.between + len(members)
        mean = (learned.mean[k] / learned.between + members.sum(axis=0)) / precision
        expected = -0.5 * ((asked - mean) ** 2 / (1 + 1 / precision) + np.log(1 + 1 / precision)).sum(axis=1)
        constants.append(logs[:, k] - expected)
    # a constant of the row is left out
    assert np.allclose(constants[1:], constants[0], atol=1e-9)


def test_constant_columns_and_more_columns_than_rows_are_solved():
    rng = np.random.default_rng(0)
    for d, shares in ((30, True), (30, False)):
        tasks = TaskSet([
            (np.column_stack([np.ones(6), rng.standard_normal((6, d))]), ["a", "b"] * 3) for _ in range(4)
        ])  # fmt: skip
        one = HierarchicalGaussianClassifier(shared_labels=shares).fit(tasks).adapt(tasks[0].X[:4], tasks[0].y[:4])
        assert np.allclose(one.predict_proba(tasks[0].X).sum(axis=1), 1)


def test_a_constant_column_says_nothing_though_its_mean_rounds():
    rng, value = np.random.default_rng(0), 0.1
    assert np.full((42, 1), value).std(axis=0) > 0
    X, y = rng.standard_normal((7, 6)), np.array(["a", "b"] * 3)
    model = HierarchicalGaussianClassifier().fit(TaskSet([(np.column_stack([np.full(6, value), x]), y) for x in X]))
    asked = model.predict_proba(np.array([[value, 0.3], [0.2, 0.3], [5e3, 0.3]]))
    assert np.allclose(asked, asked[0], rtol=1e-6)
    assert abs(asked[0, 0] - 0.5) > 1e-3


@pytest.mark.parametrize("unit", [1e-200, 1e-3, 1e150])
def test_gaussian_classes_do_not_depend_on_units_and_order(unit):
    tasks = shared(8)
    turned = TaskSet([Task(t.name, unit * t.X, t.y) for t in tasks][::-1])
    one = HierarchicalGaussianClassifier().fit(tasks).adapt(tasks[0].X[:6], tasks[0].y[:6])
    two = HierarchicalGaussianClassifier().fit(turned).adapt(unit * tasks[0].X[5::-1], tasks[0].y[5::-1])
    assert one.fitted.power == two.fitted.power
    assert np.allclose(one.predict_proba(tasks[1].X), two.predict_proba(unit * tasks[1].X))


def test_candidates_refuse_labels_that_were_not_met():
    linear = IndicatorClassifier(RandomCoefficientRegressor("linear", random="intercept", random_state=0))
    for candidate in (HierarchicalGaussianClassifier(), linear):
        with pytest.raises(TaskError, match="label 'dead' was not met"):
            candidate.fit(shared(8)).adapt(np.zeros((2, 2)), np.array(["ill", "dead"]))


def test_indicators_of_two_classes_are_one_regression():
    tasks = shared(12, classes=("no", "yes"))
    regressor = RandomCoefficientRegressor("linear", random="intercept", random_state=0)
    model = IndicatorClassifier(regressor).fit(tasks)
    assert len(model._fitted.models) == 1
    numbers = TaskSet([Task(t.name, t.X, (t.y == "yes").astype(float)) for t in tasks])
    alone, task = clone(regressor).fit(numbers), tasks[0]
    few = task.X[:4], task.y[:4]
    expected = alone.adapt(few[0], (few[1] == "yes").astype(float)).predict(task.X).clip(0.01, 0.99)
    assert np.allclose(model.adapt(*few).predict_proba(task.X)[:, 1], expected)
    three = IndicatorClassifier(regressor).fit(shared(12))
    assert np.allclose(three.adapt(shared()[0].X, shared()[0].y).predict_proba(task.X).sum(axis=1), 1)
    assert indicator_of(np.array(["a", "b"]), np.array(["a", "b"])).tolist() == [[1, 0], [0, 1]]


def test_networks_are_candidates():
    settings = {"hidden_layer_sizes": (8,), "max_iter": 10, "random_state": 0}
    candidates = [
        ("gaussian", HierarchicalGaussianClassifier(shared_labels=False)),
        ("ridge", MAMLClassifier(inner_solver="ridge", k_shot=2, shared_labels=False, **settings)),
    ]
    model = own_model().set_params(candidates=candidates, cv=2).fit(own(12))
    assert (model.table_["status"] == "compared").all()
    assert np.isfinite(model.score(own(14)[12:]))


def test_the_cost_of_a_comparison_is_that_of_the_tasks_compared():
    X, y = np.zeros((5000, 20, 6), dtype=np.float32), np.tile([0, 1], (5000, 10))
    tasks = TaskSet(list(zip(X, y, strict=True)))
    offered = {c.name: c.cost for c in default_class_candidates(tasks, Labels.of(tasks, True), "random", 0)}
    few = {c.name: c.cost for c in default_class_candidates(tasks[:500], Labels.of(tasks[:500], True), "random", 0)}
    for name in ("Gaussian classes", "boosted trees and levels"):
        assert offered[name][0] == few[name][0] < offered[name][1]
