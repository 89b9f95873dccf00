"""Every wrong input has an error that names the task and the column, and loses nothing."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metaest import (
    AutoMetaRegressor,
    DivergenceError,
    HierarchicalGPRegressor,
    MAMLClassifier,
    MAMLRegressor,
    Task,
    TaskError,
    TaskSet,
    adapt,
    make_episodes,
    scorers,
)
from metaest_datasets import make_sinusoids
from problems import ragged_tasks

NAMES = ("time", "dose")


def named_tasks(columns=NAMES):
    return [Task(task.name, pd.DataFrame(task.X, columns=list(columns)), task.y) for task in ragged_tasks()]


@pytest.fixture(scope="module")
def named_model():
    return MAMLRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0).fit(named_tasks())


GOOD = [([[0.0], [1.0]], [0.0, 1.0])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no tasks"),
        (([([[0.0]], [0.0]), ([], [])],), "task 1"),
        (([*GOOD, ([[np.nan], [1.0]], [0.0, 1.0])],), "task 1: column 0 of X holds NaN in row 0"),
        (([*GOOD, ([[0.0], [1.0]], [0.0, np.inf])],), "task 1: column 0 of y holds infinity in row 1"),
        (([*GOOD, ([[0.0, 1.0]], [0.0])],), "task 1: X has 2 columns"),
        (([*GOOD, ([[0.0]], None)],), "task 1: y is missing"),
        (([Task("a", [[0.0]], [0.0]), Task("a", [[0.0]], [0.0])],), "task name 'a' is used 2 times"),
        (({"a": GOOD[0], "b": ([[0.0, 1.0]], [0.0])},), "task 'b': X has 2 columns"),
        (({"a": GOOD[0]}, [0.0, 1.0]), "tasks were passed together with y"),
        (({"time": [0.0, 1.0], "dose": np.ones(2)}, [0.0, 1.0]), "a mapping of columns.*TaskSet.from_frame"),
        (({},), "no tasks"),
        ((Task("a", [[0.0]], [0.0]),), "one single task was passed"),
        ((GOOD, [1.0]), "tasks were passed together with y"),
        (([[0.0], [1.0]],), "y is missing.*requires y to be passed"),
        (([[0.0], [1.0]], [0.0, 1.0], ["a"]), "groups has 1 labels for 2 rows"),
        (([[0.0], [1.0]], [0.0], ["a", "b"]), "X has 2 rows and y has 1"),
        (([[0.0], ["x"]], [0.0, 1.0], ["a", "b"]), "column 0 of X holds strings"),
        ((pd.DataFrame({"sex": ["f", "m"]}), [0.0, 1.0], ["a", "b"]), "column 'sex' holds .*OneHotEncoder"),
        ((pd.DataFrame({"age": [1.0, np.nan]}), [0.0, 1.0], ["a", "b"]), "task 'b': column 'age' of X holds NaN"),
        ((sparse.csr_array(np.eye(2)), [0.0, 1.0], ["a", "b"]), "sparse matrix.*toarray"),
    ],
)
def test_fit_refuses(arguments, message):
    with pytest.raises((TaskError, TypeError), match=message):
        MAMLRegressor(max_iter=1).fit(*arguments)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[0.0, np.nan]], [1.0], "adapt: column 1 of X holds NaN in row 0"),
        (pd.DataFrame({"time": [0.0], "dose": [np.inf]}), [1.0], "adapt: column 'dose' of X holds infinity"),
        ([[0.0, 1.0]], [np.nan], "adapt: column 0 of y holds NaN"),
        ([[0.0, 1.0]], None, "adapt: y is missing"),
        ([[0.0, 1.0]], [1.0, 2.0], "adapt: X has 1 rows and y has 2"),
        ([[0.0, 1.0]], [[1.0, 2.0]], "adapt: y has shape .* fitted on 1 target"),
        ([[0.0]], [1.0], "X has 1 features, but MAMLRegressor is expecting 2"),
        (pd.DataFrame({"dose": [0.0], "time": [1.0]}), [1.0], "must be in the same order"),
        (pd.DataFrame({"time": [0.0], "amount": [1.0]}), [1.0], "unseen at fit time:\n- amount\n"),
        (pd.DataFrame({"time": [0.0], "dose": ["high"]}), [1.0], "adapt: column 'dose' holds strings|mixed"),
        (np.empty((0, 2)), [1.0], "0 sample"),
        (np.empty((0, 3)), [], "X has 3 features"),
        (sparse.csr_array(np.eye(2)), [0.0, 1.0], "toarray"),
    ],
)
def test_adapt_refuses_and_loses_nothing(named_model, X, y, message):
    before = named_model.predict([[0.3, 0.4]])
    adapted = named_model.adapt([[0.0, 1.0]], [1.0])
    expected = adapted.predict([[0.3, 0.4]])
    with pytest.raises((TaskError, TypeError), match=message):
        named_model.adapt(X, y)
    if y is not None and not sparse.issparse(X):
        with pytest.raises((TaskError, TypeError)):
            adapted.partial_adapt(X, y)
    np.testing.assert_array_equal(named_model.predict([[0.3, 0.4]]), before)
    np.testing.assert_array_equal(adapted.predict([[0.3, 0.4]]), expected)


def test_score_checks_columns(named_model):
    with pytest.raises(TaskError, match="same order"):
        named_model.score(named_tasks(("dose", "time")))
    with pytest.raises(TaskError, match="expecting 2 features"):
        named_model.score(ragged_tasks(n_features=3))
    tasks = ragged_tasks()
    with pytest.raises(TaskError, match="sample_weight has shape"):
        named_model.score(tasks.X, tasks.y, tasks.names.repeat(tasks.sizes), sample_weight=[1.0])


def test_before_fit():
    for call in (
        lambda m: m.adapt([[0.0]], [0.0]),
        lambda m: m.predict([[0.0]]),
        lambda m: m.score(GOOD),
        lambda m: adapt(m, [[0.0]], [0.0]),
    ):
        with pytest.raises(NotFittedError):
            call(MAMLRegressor())


def test_a_failing_fit_keeps_the_last_one(named_model):
    model = MAMLRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0).fit(named_tasks())
    before = model.predict([[0.3, 0.4]])
    with pytest.raises(DivergenceError, match="non-finite in meta-step 1.*lower meta_lr or inner_lr"):
        model.set_params(inner_lr=1e30).fit(named_tasks())
    np.testing.assert_array_equal(model.predict([[0.3, 0.4]]), before)


def test_a_diverging_adaptation_says_so():
    model = MAMLRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0, activation="relu").fit(ragged_tasks())
    before = model.predict([[0.3, 0.4]])
    model.set_params(inner_lr=1e20)
    with pytest.raises(DivergenceError, match="adaptation on 2 rows diverged.*lower inner_lr"):
        model.adapt([[0.0, 1.0], [5.0, 2.0]], [1.0, 9.0])
    np.testing.assert_array_equal(model.predict([[0.3, 0.4]]), before)


def test_a_diverging_score_names_the_task():
    model = MAMLRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0, activation="relu").fit(ragged_tasks())
    with pytest.raises(DivergenceError, match="task 'task 0'"):
        model.set_params(inner_lr=1e20).score(ragged_tasks())


@pytest.mark.parametrize(
    "settings",
    [
        {"inner_steps": -1},
        {"inner_steps": 1.5},
        {"inner_lr": -0.1},
        {"meta_gradient": "second-order"},
        {"support_size": "half"},
        {"split": "last"},
        {"max_iter": 0},
        {"activation": "softmax"},
        {"dtype": "float16"},
        {"device": "tpu"},
        {"hidden_layer_sizes": (0,)},
        {"validation_fraction": 1.0},
        {"module": 3},
    ],
)
def test_impossible_settings(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        MAMLRegressor(**settings).fit(GOOD)


def test_early_stopping_needs_two_tasks():
    with pytest.raises(TaskError, match="leaves none to learn from"):
        MAMLRegressor(early_stopping=True).fit(GOOD)


def test_support_of_all_rows_is_named():
    tasks = TaskSet([Task("whole", [[0.0], [1.0]], [0.0, 1.0], support=[0, 1])])
    with pytest.raises(TaskError, match="task 'whole': its support holds all 2 rows"):
        MAMLRegressor(max_iter=1).fit(tasks)


@pytest.mark.parametrize("shape", [(8, 8, 3), (28, 20, 1), (64, 64, 4)])
@pytest.mark.parametrize("estimator", [MAMLRegressor, MAMLClassifier])
def test_images_with_the_channels_last(estimator, shape):
    rng = np.random.default_rng(0)
    images = [(rng.random((4, *shape)), rng.integers(0, 2, 4).astype(float)) for _ in range(3)]
    with pytest.raises(TaskError, match=r"task 0: rows of X have shape .* X.transpose\(0, 3, 1, 2\)"):
        estimator(max_iter=1, hidden_layer_sizes=(2,)).fit(images)


def test_images_as_they_should_be_and_images_that_look_odd():
    rng = np.random.default_rng(0)

    def tasks(*shape):
        return [(rng.random((4, *shape)), rng.random(4)) for _ in range(3)]

    small = MAMLRegressor(max_iter=1, hidden_layer_sizes=(2,), random_state=0)
    for shape in ((3, 8, 8), (1, 28, 3), (2, 9, 3), (4, 4, 4), (6, 1, 1)):
        small.fit(tasks(*shape))
    odd = tasks(8, 8, 3)
    small.set_params(check_plausibility=False).fit(odd)
    model = MAMLRegressor(max_iter=1, hidden_layer_sizes=(2,), random_state=0).fit(tasks(3, 8, 6))
    with pytest.raises(TaskError, match=r"expecting \(3, 8, 6\); the channels come first: X.transpose"):
        model.predict(rng.random((2, 8, 6, 3)))
    with pytest.raises(TaskError, match="the channels come first"):
        model.adapt(rng.random((2, 8, 6, 3)), [0.0, 1.0])


def test_masked_rows_are_refused_before_the_transformers_of_a_pipeline():
    tasks = TaskSet(ragged_tasks())
    rows = np.repeat(np.arange(len(tasks)), tasks.sizes)
    model = MAMLRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model).fit(tasks.X, tasks.y, mamlregressor__groups=rows)
    X, y = tasks.X[:3], tasks.y[:3]
    hidden = np.ma.array(X, mask=np.arange(X.size).reshape(X.shape) == X.shape[1])
    adapted = adapt(pipeline, X, y)
    for masked in (hidden, list(hidden)):
        for call in (lambda X: adapt(pipeline, X, y), adapted.predict, lambda X: adapted.partial_adapt(X, y)):
            with pytest.raises(TaskError, match="X is masked in row 1 in column 0"):
                call(masked)


HOUR = np.timedelta64(2, "h")  # numpy derives its class from that of whole numbers


@pytest.mark.parametrize(
    "name",
    ["max_iter", "inner_steps", "inner_lr", "support_size", "meta_batch_size", "random_state", "hidden_layer_sizes"],
)
def test_a_duration_is_no_setting(name):
    value = (HOUR,) if name == "hidden_layer_sizes" else HOUR
    with pytest.raises(ValueError, match=name):
        MAMLRegressor(**{"max_iter": 1, name: value}).fit(ragged_tasks())


def test_a_duration_is_no_argument(named_model):
    X, y = ragged_tasks()[0].X, ragged_tasks()[0].y
    for call, words in (
        (lambda: named_model.adapt(X, y, guard=True, gap=HOUR), "gap must be a whole number"),
        (lambda: scorers.few_shot_r2(HOUR), "shots must be a whole number"),
        (lambda: make_episodes(X, np.arange(len(X)) % 2, 2, HOUR, 1), "k_shot must be a whole number"),
        (lambda: MAMLRegressor().fit(ragged_tasks()).predict_interval(X, level=HOUR), "level"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("thing", [np, np.ndarray, pd.DataFrame])
def test_a_module_or_a_class_is_no_rows(named_model, thing):
    X, y = ragged_tasks()[0].X, ragged_tasks()[0].y
    adapted = named_model.adapt(named_tasks()[0].X, y)
    for call in (
        lambda: named_model.adapt(thing, y),
        lambda: named_model.adapt(thing, thing),
        lambda: adapted.partial_adapt(thing, y),
        lambda: adapted.partial_adapt(X, thing),
        lambda: named_model.predict(thing),
    ):
        with pytest.raises(TaskError, match="rows of numbers are wanted"):
            call()


@pytest.mark.parametrize("estimator", [MAMLRegressor, HierarchicalGPRegressor, AutoMetaRegressor])
@pytest.mark.parametrize("verbose", [np.timedelta64(1, "s"), -1, 0.5, "yes"])
def test_verbose_is_true_or_false_or_a_level(estimator, verbose):
    with pytest.raises(ValueError, match="verbose"):
        estimator(verbose=verbose).fit(make_sinusoids(3, random_state=0))
