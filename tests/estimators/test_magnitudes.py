"""Numbers of any size give right answers, or an error that names row and column."""

import numpy as np
import pytest

from metaest import (
    DivergenceError,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Task,
    TaskError,
    TaskSet,
)
from problems import ragged_tasks

TASKS = ragged_tasks()
NEW = TASKS[1]
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 5, "random_state": 0, "compile": False}
MODEL = MAMLRegressor(**SMALL).fit(TASKS)
NARROW = MAMLRegressor(**SMALL).fit([(task.X / 1000, task.y) for task in TASKS])
BIG = {"a power of two": 2.0**600, "near the largest": 1e300, "small": 2.0**-600, "near the smallest": 1e-300}


@pytest.mark.parametrize("unit", BIG)
def test_answers_do_not_depend_on_the_unit(unit):
    size = BIG[unit]
    model = MAMLRegressor(**SMALL).fit([Task(task.name, task.X * size, task.y * size) for task in TASKS])
    adapted = model.adapt(NEW.X * size, NEW.y * size)
    plain = MODEL.adapt(NEW.X, NEW.y)
    # inner steps are taken in single precision
    np.testing.assert_allclose(adapted.predict(NEW.X * size) / size, plain.predict(NEW.X), rtol=1e-4, atol=1e-5)
    scaled = TaskSet([Task(task.name, task.X * size, task.y * size) for task in TASKS])
    np.testing.assert_allclose(model.score(scaled), MODEL.score(TASKS), rtol=1e-3)
    np.testing.assert_allclose(adapted.score(NEW.X * size, NEW.y * size), plain.score(NEW.X, NEW.y), rtol=1e-3)


def far(values, size):
    values = np.array(values)
    values[(1,) + (-1,) * (values.ndim - 1)] = size
    return values


def test_rows_beyond_single_precision_are_named():
    for call, words in (
        (lambda: MODEL.adapt(far(NEW.X, 1e60), NEW.y), "row 1: column 1 of X .*beyond the range of float32.*float64"),
        (lambda: MODEL.adapt(NEW.X, far(NEW.y, 1e60)), "row 1: column 0 of y .*beyond the range of float32"),
        (lambda: MODEL.adapt_many([(far(NEW.X, 1e60), NEW.y)]), "task 0, row 1: column 1 of X"),
        (lambda: MODEL.score([(NEW.X, far(NEW.y, 1e60))]), "task 0, row 1: column 0 of y"),
        (
            lambda: NARROW.predict(far(NEW.X, 1.7e308)),
            "predict, row 1: column 1 of X is inf after",
        ),
    ):
        with pytest.raises(TaskError, match=f"(?s){words}"):
            call()


def test_probabilities_are_finite_or_refused():
    labels = (TASKS.y > np.median(TASKS.y)).astype(int)
    X, groups = TASKS.X / 1000, TASKS.names.repeat(TASKS.sizes)
    model = MAMLClassifier(**SMALL, shared_labels=True).fit(X, labels, groups=groups)
    adapted = model.adapt(X[:6], labels[:6])
    for predictor in (model, adapted):
        for size in (1e10, 1e30, 1e100):
            probability = predictor.predict_proba(far(NEW.X, size))
            np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-12)
        with pytest.raises(
            TaskError, match="row 1: column 1 of X is inf after standardising, beyond the range of float64; check"
        ):
            predictor.predict_proba(far(NEW.X, 1.7e308))
    with pytest.raises(TaskError, match="beyond the range of float32"):
        model.adapt(far(X[:6], 1e60), labels[:6])


def test_utilities_are_finite_or_refused():
    model = MAMLPolicy(**SMALL, support_size=1, query_size=1).fit(TASKS)
    with pytest.raises(TaskError, match="task 0, row 1: column 0 of y"):
        model.score([(NEW.X, far(NEW.y, 1e60))])
    with pytest.raises(TaskError, match="task 0, row 1: column 1 of X"):
        model.adapt_many([(far(NEW.X, 1e60), NEW.y)])
    with pytest.raises((DivergenceError, TaskError), match="not finite|beyond"):
        model.set_params(utility="mean-variance").adapt(NEW.X, NEW.y).score(NEW.X, NEW.y * 1e200)
