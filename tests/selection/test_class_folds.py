"""Folds of classes: which classes come again is seen by labels and rows, and no fit sees those it is judged on."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits

from metaest import AutoMetaClassifier, MAMLClassifier, Task, TaskError, TaskSet, load, make_episodes, save
from metaest.selection.class_candidates import default_class_candidates
from metaest.selection.class_folds import classes_left_out, recurring_classes
from metaest.selection.gaussian_classes import HierarchicalGaussianClassifier
from metaest.selection.labels import Labels


def data(n_classes=12, rows=8, d=4, seed=0):
    """One labelled data set of classes around points."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), rows)
    return (3 * rng.standard_normal((n_classes, d)))[y] + rng.standard_normal((len(y), d)), y


def drawn(named, n=30, seed=0):
    """Tasks of three of six classes each, with labels that are names of classes, or places."""
    X, y = data(6, 20)
    rng, tasks = np.random.default_rng(seed), []
    for i in range(n):
        chosen = rng.choice(6, 3, replace=False)
        rows = np.concatenate([rng.choice(np.flatnonzero(y == k), 5, replace=False) for k in chosen])
        tasks.append(Task(i, X[rows], y[rows] if named else np.repeat(rng.permutation(3), 5)))
    return TaskSet(tasks), np.concatenate([y[(X[:, None] == task.X).all(axis=2).argmax(axis=0)] for task in tasks])


@pytest.mark.parametrize("named", [True, False])
def test_classes_that_come_again_are_seen_by_labels_or_by_rows(named):
    tasks, truth = drawn(named)
    classes = recurring_classes(tasks)
    pairs = np.unique(np.column_stack([classes, truth]), axis=0)
    assert len(pairs) == 6  # one number for each class, whatever the numbers are


def test_labels_that_are_places_and_rows_of_two_classes_tell_nothing():
    rng = np.random.default_rng(0)
    places = TaskSet([(rng.standard_normal((6, 2)), list("aabbcc")) for _ in range(5)])
    assert recurring_classes(places) is None
    coarse = TaskSet([(rng.integers(0, 2, (8, 1)).astype(float), ["a", "b"] * 4) for _ in range(5)])
    assert recurring_classes(coarse) is None


@pytest.mark.parametrize("n_way", [None, 2])
def test_no_fit_sees_classes_that_it_is_judged_on(n_way):
    tasks, truth = drawn(True)
    parts = classes_left_out(tasks, recurring_classes(tasks), n_way, 5, np.random.default_rng(0))
    assert len(parts) == 3
    left_out = []
    for training, judged in parts:
        met, asked = (set(np.concatenate([task.y for task in part]).tolist()) for part in (training, judged))
        assert not met & asked
        assert all(len(np.unique(task.y)) >= (n_way or 2) for task in training)
        assert all(len(np.unique(task.y)) >= 2 for task in judged)
        left_out += sorted(asked)
    assert sorted(left_out) == np.unique(truth).tolist()


def test_classes_stay_where_the_others_would_be_too_few_to_fit_on():
    tasks, _ = drawn(True)  # of three classes each: two left out leave no three
    assert classes_left_out(tasks, recurring_classes(tasks), 3, 5, np.random.default_rng(0)) == []
    labels = Labels.of(tasks, False, 3)
    pool, parts = labels.compared(tasks, [1], 5, np.random.default_rng(0))
    assert len(parts) == 5
    assert all(len(np.unique(task.y)) == 3 for task in pool)


def test_supports_go_with_their_rows():
    X, y = data(6, 20)
    tasks = make_episodes(X, y, 3, 1, 4, n_episodes=20, random_state=0)
    for training, judged in classes_left_out(tasks, recurring_classes(tasks), None, 5, np.random.default_rng(0)):
        for task in (*training, *judged):
            assert len(task.support) == len(np.unique(task.y))
            assert sorted(task.y[task.support].tolist()) == np.unique(task.y).tolist()


class Remembers(ClassifierMixin, BaseEstimator):
    """Right about rows of the fit, and sure of it, but of labels of the support; else of no opinion."""

    def fit(self, tasks):
        self.rows_ = {row.tobytes(): label for row, label in zip(tasks.X, tasks.y.ravel().tolist(), strict=True)}
        self.n_features_in_ = tasks.X.shape[1]
        return self

    def adapt(self, X, y):
        one = Remembers()
        one.rows_, one.classes_ = self.rows_, np.unique(y)
        return one

    def predict_proba(self, X):
        n = len(self.classes_)
        labels = [self.rows_.get(row.tobytes()) for row in np.asarray(X)]
        return np.stack([
            (self.classes_ == label).astype(float) if label in self.classes_ else np.full(n, 1 / n) for label in labels
        ])  # fmt: skip

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_one_that_remembers_classes_does_not_win():
    tasks, _ = drawn(True, n=40)
    candidates = [("remembers", Remembers()), ("gaussian", HierarchicalGaussianClassifier(shared_labels=False))]
    model = AutoMetaClassifier(candidates=candidates, shots=(1, 2), random_state=0).fit(tasks)
    assert model.weights_["gaussian"] > 0.9


def test_one_data_set_of_many_classes_gives_episodes():
    X, y = data(16, 12)
    candidates = [
        ("gaussian", HierarchicalGaussianClassifier(shared_labels=False, n_way=3)),
        ("remembers", Remembers()),
    ]
    model = AutoMetaClassifier(n_way=3, candidates=candidates, shots=(1, 3), cv=2, random_state=0).fit(X, y)
    assert not model.shared_labels_
    assert (model.table_["status"] == "compared").all()
    assert model.table_.loc["gaussian", "accuracy at 3"] > 0.6
    # new classes, of one task or of episodes
    new = data(8, 12, seed=1)
    assert model.score(*new) > 0.5
    assert model.score(make_episodes(*new, 3, 1, 5, n_episodes=30, random_state=0)) > 0.5
    few = model.adapt(new[0][:24], new[1][:24])
    assert few.classes_.tolist() == [0, 1]
    again = AutoMetaClassifier(n_way=3, candidates=candidates, shots=(1, 3), cv=2, random_state=0).fit(X, y)
    assert again.table_.drop(columns="seconds").equals(model.table_.drop(columns="seconds"))


def test_tasks_of_many_classes_each_are_left_out_whole():
    alphabets = [Task(f"{i}", *data(5, 8, seed=i)) for i in range(4)]
    named = [Task(task.name, task.X, np.char.add(f"{task.name}/", task.y.astype(str))) for task in alphabets]
    labels = Labels.of(TaskSet(named), False, 3)
    pool, parts = labels.compared(TaskSet(named), [1, 2], 2, np.random.default_rng(0))
    for training, judged in parts:
        met, asked = (set(pool[part].y.ravel().tolist()) for part in (training, judged))
        assert not met & asked
        assert all(len(np.unique(pool[int(i)].y)) == 3 for i in judged)


def test_ways_that_cannot_be_are_refused():
    X, y = data(4, 8)
    with pytest.raises(TaskError, match="it has 4 classes, fewer than n_way=5"):
        AutoMetaClassifier(n_way=5).fit(X, y)
    with pytest.raises(ValueError, match="shared_labels=False"):
        AutoMetaClassifier(n_way=2, shared_labels=True).fit(X, y)
    with pytest.raises(ValueError, match="'n_way' parameter"):
        AutoMetaClassifier(n_way=1).fit(X, y)


def test_too_few_classes_to_leave_some_out_are_told():
    X, y = data(3, 8)
    candidates = [("a", HierarchicalGaussianClassifier(shared_labels=False)), ("b", Remembers())]
    model = AutoMetaClassifier(n_way=2, candidates=candidates, shots=1, random_state=0).fit(X, y)
    assert model.choice_ == "a, the first of 2 that were not compared: there are too few classes to leave some out"


@pytest.mark.parametrize(("shape", "names"), [((4,), 3), ((1, 6, 6), 2)])
def test_candidates_for_drawn_classes_have_their_ways(shape, names):
    X, y = data(12, 8, int(np.prod(shape)))
    tasks = TaskSet([Task("all", X.reshape(-1, *shape), y)])
    offered = default_class_candidates(tasks, Labels.of(tasks, False, 3), "random", 0)
    assert len(offered) == names
    assert all(candidate.estimator.n_way >= 3 for candidate in offered)
    assert all(candidate.trial.n_way <= 9 for candidate in offered)


def test_gaussian_classes_do_not_depend_on_the_order_of_tasks():
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(120):
        n = 6 + i % 3
        X = rng.standard_normal((n, 3)) + rng.standard_normal(3)
        tasks.append(Task(i, X, np.where(X[:, 0] + rng.standard_normal(n) > X[:, 0].mean(), "a", "b")))
    tasks = TaskSet([task for task in tasks if len(np.unique(task.y)) == 2])
    one, two = (HierarchicalGaussianClassifier(shared_labels=False).fit(t) for t in (tasks, tasks[::-1]))
    assert one._fitted.power == two._fitted.power
    X, y = tasks[0].X, tasks[0].y
    assert np.allclose(one.adapt(X, y).predict_proba(X), two.adapt(X, y).predict_proba(X))


def test_the_network_for_images_takes_as_many_steps_as_there_are_images_and_is_written(tmp_path):
    X, y = data(12, 8, 36)
    tasks = TaskSet([Task("all", X.reshape(-1, 1, 6, 6), y)])
    offered = default_class_candidates(tasks, Labels.of(tasks, False, 3), "random", 0)[-1]
    larger = TaskSet([Task("all", np.tile(X, (50, 1)).reshape(-1, 1, 6, 6), np.tile(y, 50))])
    more = default_class_candidates(larger, Labels.of(larger, False, 3), "random", 0)[-1]
    assert offered.estimator.max_iter < more.estimator.max_iter
    assert all(a < b for a, b in zip(offered.cost, more.cost, strict=True))
    assert offered.trial.max_iter < offered.estimator.max_iter
    candidates = [("network", offered.estimator.set_params(max_iter=2))]
    model = AutoMetaClassifier(n_way=3, candidates=candidates, random_state=0).fit(tasks)
    save(model, tmp_path / "model.safetensors")
    one, two = (
        each.adapt(X[:16].reshape(-1, 1, 6, 6), y[:16]) for each in (model, load(tmp_path / "model.safetensors"))
    )
    assert np.array_equal(one.predict_proba(tasks[0].X), two.predict_proba(tasks[0].X))


def test_candidates_are_told_whether_labels_are_shared():
    """Tasks of a comparison may hold the same few classes, where those of the fit have classes of their own."""
    X, y = load_digits(return_X_y=True)
    tasks = make_episodes(X[y < 6], y[y < 6], n_way=3, k_shot=2, n_query=5, n_episodes=12, random_state=0)
    candidates = [(name, MAMLClassifier(k_shot=k, max_iter=2, random_state=0)) for name, k in (("one", 1), ("two", 2))]
    model = AutoMetaClassifier(candidates=candidates, shots=2, shared_labels=False, cv=2, random_state=0).fit(tasks)
    assert (model.table_["status"] == "compared").all()
    assert candidates[0][1].shared_labels == "auto"
