"""AutoMetaRegressor: what is left out, how candidates are chosen and averaged, and the contract of adapting."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from metaest import (
    AutoMetaRegressor,
    FewShotRegressor,
    MAMLClassifier,
    MAMLRegressor,
    Task,
    TaskError,
    TaskSet,
    model_hash,
)
from metaest.selection.candidates import default_candidates, within_budget
from metaest.selection.choice import choose
from metaest.selection.episodes import episodes, feasible_shots
from metaest.selection.folds import folds
from metaest.selection.held_out import HeldOut
from metaest.selection.targets import Numbers
from metaest_datasets import make_linear_tasks


class Level(BaseEstimator):
    """Predicts a share of the mean of the support rows, plus an offset."""

    def __init__(self, share=1.0, offset=0.0, fails=False):
        self.share, self.offset, self.fails = share, offset, fails

    def fit(self, tasks):
        if self.fails:
            raise ValueError("this candidate cannot be fitted.")
        self.seen_ = set(tasks.names.tolist())
        self.n_features_in_ = tasks.X.shape[1]
        return self

    def adapt(self, X, y):
        return _Adapted(self.share * np.mean(y, axis=0) + self.offset, np.shape(y)[1:])

    def predict(self, X):
        return np.full(len(X), float(self.offset))


class Watching(Level):
    """Refuses tasks that it was fitted on."""

    def adapt_many(self, tasks):
        if self.seen_ & set(tasks.names.tolist()):
            raise AssertionError("a task of the fit was adapted to")
        return _Many([self.adapt(task.X, task.y) for task in tasks])


class _Many(list):
    def predict(self, tasks):
        return np.concatenate([one.predict(task.X) for one, task in zip(self, tasks, strict=True)])


class _Adapted:
    def __init__(self, value, shape):
        self.value, self.shape = value, shape

    def predict(self, X):
        return np.broadcast_to(self.value, (len(X), *self.shape)).astype(float)


def levels(n=40, rows=8, spread=1.0, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    sets = {}
    for i in range(n):
        X = rng.standard_normal((rows, 2))
        sets[f"t{i}"] = (X, spread * rng.standard_normal() + noise * rng.standard_normal(rows))
    return TaskSet(sets)


def held_out(errors, n_tasks, shots=(2,), seed=0):
    """Rows whose predictions are wrong by given standard deviations."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(n_tasks), 20 * len(shots))
    shot = np.tile(np.repeat(shots, 20), n_tasks)
    truth = rng.standard_normal((len(task), 1))
    predictions = {name: truth + sd * rng.standard_normal(truth.shape) for name, sd in errors.items()}
    return HeldOut(truth, predictions, task, shot, {}, {})


def test_every_task_is_left_out_once():
    for n, cv in [(7, 5), (5, 5), (3, 5), (119, 4)]:
        parts = folds(np.ones(n, bool), cv, np.random.default_rng(0))
        assert sorted(np.concatenate([left_out for _, left_out in parts])) == list(range(n))
        assert all(not set(training) & set(left_out) for training, left_out in parts)
        assert all(len(training) + len(left_out) == n for training, left_out in parts)


def test_of_many_tasks_a_quarter_of_500_is_left_out_once():
    [(training, left_out)] = folds(np.ones(3000, bool), 5, np.random.default_rng(0))
    assert len(left_out) == 125
    assert len(training) == 375
    assert not set(training) & set(left_out)


def test_episodes_keep_support_and_query_apart_and_do_not_depend_on_the_fold():
    tasks = levels(9)
    alone = {e.shot: e for e in episodes(Numbers(), tasks, np.array([4]), [1, 3], "random", 100, 7)}
    together = list(episodes(Numbers(), tasks, np.arange(9), [1, 3], "random", 100, 7))
    for episode in together:
        at = episode.numbers.tolist().index(4)
        assert np.array_equal(episode.support[at].X, alone[episode.shot].support[0].X)
        for one, other in zip(episode.support, episode.query, strict=True):
            assert len(one) == episode.shot
            assert len(other) == 8 - episode.shot
            assert not {tuple(row) for row in one.X} & {tuple(row) for row in other.X}


def test_rows_in_order_adapt_on_the_first():
    tasks = levels(3)
    [episode] = episodes(Numbers(), tasks, np.arange(3), [2], "first", 3, 0)
    assert np.array_equal(episode.support[1].X, tasks[1].X[:2])
    assert np.array_equal(episode.query[1].X, tasks[1].X[2:])


def test_few_tasks_are_drawn_from_several_times():
    assert len(list(episodes(Numbers(), levels(12), np.arange(12), [2], "random", 12, 0))) == 5
    assert len(list(episodes(Numbers(), levels(60), np.arange(60), [2], "random", 60, 0))) == 1


def test_shots_that_leave_too_few_rows_are_dropped():
    assert feasible_shots(np.array([4, 4, 9]), [1, 2, 3, 5]) == [1, 2]
    assert feasible_shots(np.array([3, 3, 9]), [5]) == [5]
    with pytest.raises(TaskError, match="least number of rows to adapt on is 5"):
        feasible_shots(np.array([3, 3, 6]), [5])


def test_candidates_are_judged_on_tasks_that_their_fit_did_not_see():
    model = AutoMetaRegressor(candidates=[("a", Watching()), ("b", Watching(0.5))], random_state=0).fit(levels(20))
    assert (model.table_["status"] == "compared").all()


def test_the_shrunken_mean_wins_where_it_is_the_best_predictor():
    # one row of a task with the variance of the levels has the reliability 1/2
    tasks = levels(400, rows=4, seed=3)
    candidates = [("mean", Level()), ("none", Level(0.0)), ("half", Level(0.5)), ("off", Level(0.5, 3.0))]
    model = AutoMetaRegressor(candidates=candidates, shots=1, average=False, random_state=0).fit(tasks)
    assert model.weights_ == {"half": 1.0}
    assert model.table_["loss"].idxmin() == "half"
    # 1 + 1/2 is the variance of its errors, 2 those of the first two
    assert model.table_["rmse at 1"].to_numpy()[:3] == pytest.approx(np.sqrt([2, 2, 1.5]), rel=0.1)


def test_an_average_of_mean_and_nothing_is_the_shrunken_mean():
    tasks = levels(480, rows=4, seed=4)
    model = AutoMetaRegressor(candidates=[("mean", Level()), ("none", Level(0.0))], shots=1, random_state=0).fit(tasks)
    assert sum(model.weights_.values()) == pytest.approx(1)
    assert model.weights_["mean"] == pytest.approx(0.5, abs=0.1)
    adapted = model.adapt([[0.0, 0.0]], [2.0])
    assert adapted.predict([[1.0, 1.0]]) == pytest.approx(2 * model.weights_["mean"])


def test_weights_of_independent_errors_are_those_of_inverse_variances():
    choice = choose(held_out({"a": 1.0, "b": 2.0, "c": 3.0}, 400), [2], averages=True)
    precision = np.array([1, 1 / 4, 1 / 9])
    assert list(choice.weights.values()) == pytest.approx(precision / precision.sum(), abs=0.02)
    assert choice.average_loss == pytest.approx(1 / precision.sum(), rel=0.05)


def test_a_clear_winner_is_alone():
    choice = choose(held_out({"a": 1.0, "b": 0.05, "c": 3.0}, 100), [2], averages=True)
    assert choice.weights == {"a": 0.0, "b": 1.0, "c": 0.0}


def test_an_average_of_one_prediction_twice_is_not_taken():
    data = held_out({"a": 1.0}, 50)
    data.predictions["again"] = data.predictions["a"]
    assert choose(data, [2], averages=True).weights == {"a": 1.0, "again": 0.0}


def test_one_candidate_with_all_the_weight_is_no_average():
    # "b" is chosen alone, being within a standard error of "c" and before it
    data = held_out({"a": 3.0, "b": 1.0, "c": 0.995}, 9)
    choice = choose(data, [2], averages=True)
    count = sum(weight > 0 for weight in choice.weights.values())
    assert ("an average of" in choice.reason) == (count > 1)


def test_few_tasks_take_the_simpler_of_equals():
    better, worse = {"simple": 1.0, "other": 0.99}, {"simple": 3.0, "other": 1.0}
    assert choose(held_out(better, 8), [2], averages=False).weights["simple"] == 1
    assert choose(held_out(worse, 8), [2], averages=False).weights["other"] == 1


def test_each_number_of_rows_counts_alike():
    data = held_out({"a": 1.0, "b": 1.0}, 50, shots=(1, 5))
    few = data.shot == 1
    error = {name: values - data.truth for name, values in data.predictions.items()}
    # where errors are a thousand times as large at one row, that row alone must not decide
    for name, factor in (("a", 1.1), ("b", 1.0)):
        data.predictions[name][few] = (data.truth + 1000 * factor * error[name])[few]
    data.predictions["b"][~few] = (data.truth + 3 * error["b"])[~few]
    choice = choose(data, [1, 5], averages=False)
    assert choice.weights["a"] == 1


def test_a_candidate_that_fails_is_left_out_with_its_reason():
    model = AutoMetaRegressor(candidates=[("a", Level()), ("bad", Level(fails=True))], random_state=0).fit(levels(20))
    assert model.table_.loc["bad", "status"] == "ValueError: this candidate cannot be fitted."
    assert model.weights_ == {"a": 1.0}
    with pytest.raises(ValueError, match="cannot be fitted") as caught:
        AutoMetaRegressor(candidates=[("x", Level(fails=True)), ("y", Level(fails=True))]).fit(levels(20))
    assert caught.value.__notes__ == [
        "It was raised by the candidate 'x'.",
        "All candidates failed in the comparison, in fits on 16 of 20 tasks.",
    ]


def test_one_task_or_one_candidate_is_not_compared():
    rng, model = np.random.default_rng(0), AutoMetaRegressor(candidates=[("a", Level()), ("b", Level(0.5))])
    with pytest.warns(UserWarning, match="one single task"):
        model.fit(rng.standard_normal((9, 2)), rng.standard_normal(9))
    assert model.weights_ == {"a": 1.0}
    assert model.table_["status"].tolist() == ["taken, not compared", "not compared"]
    alone = AutoMetaRegressor(candidates=[("only", Level())]).fit(levels(9))
    assert alone.choice_ == "only alone: nothing to compare it with"


class Answers(Level):
    """Answers in ways that an estimator of the user's may."""

    def __init__(self, share=1.0, way=""):
        super().__init__(share)
        self.way = way

    def fit(self, tasks):
        if self.way == "wrong type":
            raise TypeError("unsupported operand")
        if self.way == "torch":
            raise RuntimeError("linalg.cholesky: the input is not positive-definite")
        super().fit(tasks)
        return None if self.way == "no self" else self

    def adapt(self, X, y):
        if self.way == "itself":
            return self
        if self.way == "writes":
            return _Writes(0.0, ())
        one = {"few rows": (1,), "one target": (), "column": (1,)}.get(self.way, np.shape(y)[1:])
        adapted = _Adapted(self.share * np.mean(y), one)
        return adapted if self.way != "few rows" else _One(adapted)

    def predict(self, X, **settings):
        return np.zeros((len(X), 1) if self.way == "column" else len(X))


class _Writes(_Adapted):
    def predict(self, X):
        X[:] = 0
        return super().predict(X)


class _One:
    def __init__(self, adapted):
        self.adapted = adapted

    def predict(self, X):
        return self.adapted.predict(X[:1])


class Listing(Level):
    def adapt_many(self, tasks):
        return [self.adapt(task.X, task.y) for task in tasks]


def test_rows_or_targets_that_numpy_would_broadcast_are_refused():
    two = TaskSet([(np.zeros((6, 2)), np.arange(12.0).reshape(6, 2) + i) for i in range(8)])
    for way, tasks in (("few rows", levels(8)), ("one target", two)):
        candidates = [("a", Level()), ("b", Answers(way=way))]
        model = AutoMetaRegressor(candidates=candidates, shots=2, random_state=0).fit(tasks)
        assert model.table_.loc["b", "status"].startswith("ValueError: candidates: 'b' predicts an array of shape")
        assert model.weights_ == {"a": 1.0}
    alone = AutoMetaRegressor(candidates=[("a", Level())], random_state=0).fit(two)
    with pytest.raises(ValueError, match=r"'a' predicts an array of shape \(3,\), where \(3, 2\) is wanted"):
        alone.predict(np.zeros((3, 2)))


def test_one_target_may_be_a_column_or_not():
    flat = levels(20, rows=6)
    column = TaskSet([(task.X, task.y[:, None]) for task in flat])
    candidates = [("flat", Level()), ("column", Answers(0.2, way="column"))]
    for tasks, shape in ((flat, ()), (column, (1,))):
        model = AutoMetaRegressor(candidates=candidates, shots=2, random_state=0).fit(tasks)
        assert len(model.weights_) == 2
        assert model.predict(np.zeros((5, 2))).shape == (5, *shape)
        assert model.adapt(tasks[0].X, tasks[0].y).predict(np.zeros((5, 2))).shape == (5, *shape)
        assert model.adapt_many(tasks[:3]).predict(np.zeros((5, 2))).shape == (3, 5, *shape)
        assert np.isfinite(model.score(tasks))
    assert "linear mixed model" in names(column)


def test_what_a_candidate_must_not_or_need_not_do():
    tasks = levels(8)
    shared = [("a", Answers(way="itself"))]
    with pytest.raises(ValueError, match="adapt of 'a' returned the estimator itself"):
        AutoMetaRegressor(candidates=shared, random_state=0).fit(tasks).adapt(*both(tasks[0]))
    for candidate in (Answers(way="no self"), Listing()):
        model = AutoMetaRegressor(candidates=[("a", candidate), ("b", Level(0.5))], random_state=0).fit(tasks)
        assert (model.table_["status"] == "compared").all()
    ignoring = AutoMetaRegressor(candidates=[("a", Answers())], random_state=0).fit(tasks)
    with pytest.raises(ValueError, match="a is part of the model, and has no predictive variance"):
        ignoring.predict(tasks[0].X, return_std=True)
    with pytest.raises(ValueError, match="'c' is a classifier"):
        AutoMetaRegressor(candidates=[("c", MAMLClassifier())]).fit(tasks)


def test_errors_of_numbers_leave_a_candidate_out_and_mistakes_in_its_code_name_it():
    fails = [("a", Level()), ("b", Answers(way="torch"))]
    assert AutoMetaRegressor(candidates=fails, random_state=0).fit(levels(8)).weights_ == {"a": 1.0}
    with pytest.raises(TypeError, match="unsupported") as caught:
        AutoMetaRegressor(candidates=[("a", Level()), ("b", Answers(way="wrong type"))]).fit(levels(8))
    assert caught.value.__notes__ == ["It was raised by the candidate 'b'."]


def test_one_task_with_rows_enough_is_judged_on():
    for n in (5, 199):
        tasks = [*levels(n, rows=4), Task("long", np.zeros((20, 2)), 3 + 0.1 * np.arange(20.0))]
        model = AutoMetaRegressor(candidates=[("none", Level(0.0)), ("mean", Level())], shots=(9, 99), random_state=0)
        assert model.fit(tasks).weights_ == {"mean": 1.0}
        assert model.shots_ == (9,)
        assert model.support_size == (9, 9)


def test_constant_targets_are_compared_without_warnings():
    tasks = TaskSet([(np.ones((6, 2)), np.full(6, 0.1)) for _ in range(12)])
    for candidates in ([("a", Level()), ("b", Level(1.0))], [("a", Level(0.0)), ("b", Level())]):
        model = AutoMetaRegressor(candidates=candidates, shots=2, random_state=0).fit(tasks)
        assert sum(model.weights_.values()) == 1
        assert "nan" not in model.choice_


def test_a_constant_target_among_several_does_not_decide_by_rounding():
    data = held_out({"a": 1.0, "b": 2.0}, 60)
    truth = np.column_stack([data.truth[:, 0], np.full(len(data.truth), 0.1)])
    off = {"a": 1e-9, "b": 0.0}
    predictions = {name: np.column_stack([y, 0.1 + off[name] + 0 * y]) for name, y in data.predictions.items()}
    choice = choose(HeldOut(truth, predictions, data.task, data.shot, {}, {}), [2], averages=False)
    assert choice.weights["a"] == 1


def test_the_choice_does_not_depend_on_the_unit():
    data = held_out({"a": 1.0, "b": 1.2}, 60)
    plain = choose(data, [2], averages=True)
    for unit in (1e-200, 1e200):
        predictions = {name: unit * y for name, y in data.predictions.items()}
        other = choose(HeldOut(unit * data.truth, predictions, data.task, data.shot, {}, {}), [2], averages=True)
        assert other.weights == pytest.approx(plain.weights)
        assert other.errors / unit == pytest.approx(plain.errors)


def test_errors_of_rounding_at_one_number_of_rows_do_not_decide():
    data = held_out({"a": 1.0, "b": 2.0}, 60, shots=(1, 5))
    many = data.shot == 5
    for name, off in (("a", 1e-8), ("b", 0.0)):
        data.predictions[name][many] = data.truth[many] + off
    assert choose(data, [1, 5], averages=False).weights["a"] == 1


def test_a_bad_candidate_does_not_keep_others_from_being_averaged():
    for sd in (1e3, 1e7):
        weights = choose(held_out({"a": 1.0, "b": 1.0, "bad": sd}, 200), [2], averages=True).weights
        assert list(weights.values()) == pytest.approx([0.5, 0.5, 0.0], abs=0.03)


def test_weights_of_many_equals_sum_to_one():
    weights = choose(held_out({f"c{i}": 1.0 for i in range(40)}, 100), [2], averages=True).weights
    assert sum(weights.values()) == pytest.approx(1)
    assert np.count_nonzero(list(weights.values())) > 20


@pytest.mark.parametrize("split", ["random", "first"])
def test_rows_that_a_task_carries_as_support_are_adapted_on_and_not_judged_on(split):
    X = np.arange(9.0)[:, None]
    tasks = TaskSet([Task(i, X, X[:, 0], support=[2, 4, 6]) for i in range(3)])
    for shot, n_query in ((1, 6), (3, 6), (5, 4)):
        [episode] = episodes(Numbers(), tasks, np.arange(3), [shot], split, 100, 0)
        for support, query in zip(episode.support, episode.query, strict=True):
            chosen = set(support.y)
            assert chosen <= {2, 4, 6} if shot <= 3 else {2, 4, 6} <= chosen
            assert not set(query.y) & ({2, 4, 6} | chosen)
            assert len(query) == n_query


def test_score_and_calibrate_take_numbers_of_rows_that_tasks_of_the_fit_have():
    model = AutoMetaRegressor(candidates=[("a", Level()), ("b", Level(0.5))], random_state=0).fit(levels(20))
    assert model.support_size == (1, 5)
    model.calibrate(TaskSet({f"new {i}": both(task) for i, task in enumerate(levels(20, seed=1))}))
    assert model.set_params(shots=7).support_size == (7, 7)


def test_equal_fits_have_one_hash_whatever_time_they_took(fitted, fitted_again):
    model, _ = fitted
    assert model_hash(fitted_again) == model_hash(model)
    other = clone(model).set_params(random_state=1).fit(make_linear_tasks(14, random_state=1)[0][:12])
    assert model_hash(other) != model_hash(model)


def test_several_targets_are_averaged_together():
    rng = np.random.default_rng(0)
    tasks = TaskSet([(rng.standard_normal((6, 2)), rng.standard_normal((6, 2)) * [1.0, 1e4] + 3) for _ in range(30)])
    model = AutoMetaRegressor(candidates=[("mean", Level()), ("half", Level(0.5))], shots=2, random_state=0).fit(tasks)
    assert model.adapt(tasks[0].X[:2], tasks[0].y[:2]).predict(tasks[0].X).shape == (6, 2)


def networks():
    settings = {"hidden_layer_sizes": (6,), "max_iter": 10, "random_state": 0, "dtype": "float64"}
    return [
        ("gradient", MAMLRegressor(**settings)),
        ("bayes", MAMLRegressor(inner_solver="bayes", **settings)),
    ]


@pytest.fixture(scope="module")
def fitted():
    tasks, _ = make_linear_tasks(14, random_state=0)
    return AutoMetaRegressor(candidates=networks(), shots=(1, 3), cv=2, random_state=0).fit(tasks[:12]), tasks[12:]


@pytest.fixture(scope="module")
def fitted_again(fitted):
    return clone(fitted[0]).fit(make_linear_tasks(14, random_state=0)[0][:12])


def test_adapting_is_that_of_the_members(fitted):
    model, tasks = fitted
    adapted = model.adapt(tasks[0].X[:3], tasks[0].y[:3])
    each = {name: one.adapt(tasks[0].X[:3], tasks[0].y[:3]).predict(tasks[0].X) for name, one in model.models_.items()}
    expected = sum(model.weights_[name] * values for name, values in each.items())
    assert np.allclose(adapted.predict(tasks[0].X), expected, rtol=1e-12)
    assert np.allclose(model.adapt_many(tasks).predict(tasks)[:10], model.adapt(*both(tasks[0])).predict(tasks[0].X))


def both(task):
    return task.X, task.y


def test_rows_in_two_goes_are_rows_at_once(fitted):
    model, tasks = fitted
    X, y = both(tasks[0])
    once, twice = model.adapt(X[:4], y[:4]), model.adapt(X[:1], y[:1]).partial_adapt(X[1:4], y[1:4])
    assert np.array_equal(once.predict(X), twice.predict(X))


def test_no_rows_is_the_prediction_before_adaptation(fitted):
    model, tasks = fitted
    assert np.array_equal(model.adapt([], []).predict(tasks[0].X), model.predict(tasks[0].X))


def test_the_same_seed_gives_the_same_bits(fitted, fitted_again):
    (model, tasks), again = fitted, fitted_again
    assert again.weights_ == model.weights_
    assert np.array_equal(again.predict(tasks[0].X), model.predict(tasks[0].X))
    kept = pickle.loads(pickle.dumps(model))
    assert np.array_equal(kept.predict(tasks[0].X), model.predict(tasks[0].X))


def test_guard_and_intervals_follow_the_average(fitted):
    model, tasks = fitted
    X, y = both(tasks[0])
    judged = model.adapt(X[:4], y[:4], guard=True)
    share = judged.guard_.share
    population, adapted = model.predict(X), model.adapt(X[:4], y[:4]).predict(X)
    assert np.allclose(judged.predict(X), population + share * (adapted - population))
    calibrated = clone(model).fit(make_linear_tasks(40, random_state=1)[0][:20])
    calibrated.calibrate(make_linear_tasks(40, random_state=1)[0][20:], support_size=3)
    interval = calibrated.adapt(X[:3], y[:3]).predict_interval(X, 0.9)
    assert (interval.lower < interval.upper).all()
    assert interval.n_tasks == 20


def test_standard_deviations_are_those_of_the_mixture():
    tasks, _ = make_linear_tasks(12, random_state=0)
    model = AutoMetaRegressor(candidates=networks()[1:], random_state=0).fit(tasks)
    mean, sd = model.adapt(*both(tasks[0])).predict(tasks[0].X, return_std=True)
    expected = model.models_["bayes"].adapt(*both(tasks[0])).predict(tasks[0].X, return_std=True)
    assert np.allclose(mean, expected[0])
    assert np.allclose(sd, expected[1])
    other = AutoMetaRegressor(candidates=networks()[:1], random_state=0).fit(tasks)
    with pytest.raises(ValueError, match="gradient is part of the model, and has no predictive variance"):
        other.predict(tasks[0].X, return_std=True)


def shaped(n=20, rows=8, columns=2, targets=None):
    rng = np.random.default_rng(0)
    y = (rows,) if targets is None else (rows, targets)
    return TaskSet([(rng.standard_normal((rows, columns)), rng.standard_normal(y)) for _ in range(n)])


def names(tasks):
    return [candidate.name for candidate in default_candidates(tasks, "random", 0)]


def test_the_candidates_of_auto_suit_the_shape():
    trees, network = {"linear mixed model", "boosted trees and levels"}, "network by evidence"
    assert {*trees, "boosted trees and slopes", "Gaussian process", network} == set(names(shaped()))
    # the work of a process grows with the cube of the rows
    assert "Gaussian process" not in names(shaped(n=200))
    assert network not in names(shaped(n=9))
    # twelve slopes a task are too many, and one target is all that a mixed model has
    assert "boosted trees and slopes" not in names(shaped(columns=12))
    assert names(shaped(targets=2)) == [network]
    assert names(TaskSet([(np.zeros((4, 1, 8, 8)), np.arange(4.0)) for _ in range(5)])) == [network]


def test_columns_that_are_one_number_a_task_have_no_slopes():
    tasks = TaskSet([(np.full((6, 1), float(i)), np.arange(6.0)) for i in range(9)])
    assert "boosted trees and slopes" not in names(tasks)


def test_a_dear_candidate_does_not_keep_cheaper_ones_out_of_the_budget():
    X = np.zeros((5000, 50, 20), dtype=np.float32)
    tasks = TaskSet(list(zip(X, X[..., 0], strict=True)))
    offered = default_candidates(tasks, "random", 0)
    kept, refused = within_budget(offered, tasks, [(np.arange(375), np.arange(375, 500))], 60.0)
    assert [candidate.name for candidate in kept] == ["linear mixed model", "network by evidence"]
    assert list(refused) == ["boosted trees and levels"]
    assert within_budget(offered, tasks, [(np.arange(375), np.arange(375, 500))], None) == (offered, {})


def test_a_budget_refuses_candidates_and_says_so():
    model = AutoMetaRegressor(shots=2, time_budget=1e-3, random_state=0).fit(shaped(rows=4))
    refused = model.table_["status"].str.startswith("not tried: it would take about")
    assert len(refused) - refused.sum() == 2
    assert (model.table_.loc[refused, "weight"] == 0).all()


def test_auto_finds_what_was_simulated():
    tasks, _ = make_linear_tasks(30, noise=0.1, random_state=0)
    model = AutoMetaRegressor(shots=(2, 4), cv=2, random_state=0).fit(tasks[:24])
    # straight lines around a common one: nothing beats the mixed model
    assert model.table_.loc["linear mixed model", "loss"] < 1.2
    assert model.score(tasks[24:]) > 0.9


def test_works_where_estimators_of_scikit_learn_do(fitted):
    model, tasks = fitted
    few = FewShotRegressor(model).fit(tasks[0].X[:3], tasks[0].y[:3])
    assert few.predict(tasks[0].X).shape == (10,)
    small = AutoMetaRegressor(candidates=[("a", Level()), ("b", Level(0.5))], random_state=0)
    assert np.isfinite(cross_val_score(small, levels(12), cv=3)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shots": ()}, "shots must be whole numbers"),
        ({"shots": (0, 1)}, "shots must be whole numbers"),
        ({"shots": (1.5,)}, "shots must be whole numbers"),
        ({"shots": (True,)}, "shots must be whole numbers"),
        ({"candidates": []}, "none were given"),
        ({"candidates": [("a", Level()), ("a", Level())]}, "'a' stands twice"),
        ({"candidates": [("cv", Level())]}, "'cv' is that of a setting"),
        ({"candidates": [("a__b", Level())]}, "two underscores"),
        ({"candidates": [Level()]}, "pairs of a name and an estimator"),
        ({"candidates": [("a", Level)]}, "must be an estimator"),
        ({"candidates": [("a", 3)]}, "has no fit"),
        ({"candidates": "all"}, "candidates"),
        ({"cv": 1}, "cv"),
        ({"time_budget": 0}, "time_budget"),
        ({"average": "no"}, "average"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AutoMetaRegressor(**{"candidates": [("a", Level())], **settings}).fit(levels(9))


def test_settings_of_candidates_are_set_by_name():
    model = AutoMetaRegressor(candidates=[("a", Level()), ("b", Level(0.5))], shots=2, random_state=0)
    assert model.get_params()["b__share"] == 0.5
    assert "b__share" not in AutoMetaRegressor().get_params()
    copy = clone(model).set_params(b__share=0.1, a=Level(0.2))
    assert [estimator.share for _, estimator in copy.candidates] == [0.2, 0.1]
    assert [estimator.share for _, estimator in model.candidates] == [1.0, 0.5]
    search = GridSearchCV(model, {"b__share": [0.0, 0.5]}, cv=2).fit(levels(12))
    assert search.best_params_["b__share"] in (0.0, 0.5)


def test_no_candidate_changes_the_rows_that_are_predicted():
    rows = np.ones((3, 2))
    model = AutoMetaRegressor(candidates=[("a", Answers(way="writes"))], random_state=0).fit(levels(8))
    for predictor in (model.adapt(rows, np.ones(3)), model.adapt_many(levels(3))):
        with pytest.raises(ValueError, match="read-only"):
            predictor.predict(rows)
    assert (rows == 1).all()


def test_columns_are_those_of_the_fit(fitted):
    model, _ = fitted
    with pytest.raises(TaskError, match="features"):
        model.adapt(np.zeros((2, 5)), np.zeros(2))
    with pytest.raises(TaskError, match="NaN"):
        model.predict([[np.nan]])
