"""Tasks of a fit are known again in any order and in part; new tasks are not mistaken for them."""

import numpy as np
import pytest

from metaest import EquationRegressor, MAMLRegressor, Task, TaskError, TaskSet
from metaest.estimators.seen_tasks import SeenTasks

RNG = np.random.default_rng(5)
TASKS = TaskSet([Task(f"t{i}", RNG.normal(size=(8, 2)), RNG.normal(size=8)) for i in range(6)])
ONE = TASKS[3]
CHANGES = {
    "renamed": lambda X, y: (X, y),
    "in another order": lambda X, y: (X[::-1], y[::-1]),
    "a row left out": lambda X, y: (X[1:], y[1:]),
    "every other row": lambda X, y: (X[::2], y[::2]),
    "rows twice": lambda X, y: (np.vstack([X, X]), np.tile(y, 2)),
    "rounded to float32": lambda X, y: (X.astype(np.float32), y.astype(np.float32)),
    "with as many new rows": lambda X, y: (np.vstack([X, X + 1]), np.concatenate([y, y])),
}


def plane(X, a, b):
    return a * X[:, 0] + b


@pytest.fixture(scope="module", params=["network", "equation"])
def model(request):
    if request.param == "network":
        return MAMLRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0).fit(TASKS)
    return EquationRegressor(plane, {"a": 0.0, "b": 0.0}, random=["b"]).fit(TASKS)


@pytest.mark.parametrize("change", CHANGES)
def test_calibrate_refuses_a_task_of_the_fit(model, change):
    new = Task("new", RNG.normal(size=(8, 2)), RNG.normal(size=8))
    with pytest.raises(TaskError, match="calibrate: task 'other' was in the fit, in whole or in part"):
        model.calibrate([new, Task("other", *CHANGES[change](ONE.X, ONE.y))], support_size=1)


def test_a_few_common_rows_are_no_reason_to_refuse():
    seen = SeenTasks.learn(TASKS, 1)
    mixed = np.vstack([ONE.X[:3], RNG.normal(size=(5, 2))]), np.concatenate([ONE.y[:3], RNG.normal(size=5)])
    assert seen.first_seen(TaskSet([Task("new", *mixed)])) is None
    assert seen.first_seen(TaskSet([Task("new", ONE.X, ONE.y + 1e-4)])) is None


def counts(n):
    """Tasks of counts at the same times: rows coincide by accident."""
    return TaskSet([Task(i, np.arange(8.0)[:, None], RNG.poisson(3, 8).astype(float)) for i in range(n)])


def test_new_tasks_of_counts_are_new():
    seen = SeenTasks.learn(counts(30), 1)
    assert seen.coincidence > 0.01
    assert seen.first_seen(counts(30)) is None


def test_rows_that_all_tasks_share_say_nothing():
    def curves(n):
        y = [np.append(0.0, np.append(0.0, RNG.normal(size=2))) for _ in range(n)]
        return TaskSet([Task(i, np.arange(4.0)[:, None], own) for i, own in enumerate(y)])

    assert SeenTasks.learn(curves(6), 1).first_seen(curves(6)) is None


def test_hashes_take_eight_bytes_a_row_and_depend_on_the_seed():
    seen = SeenTasks.learn(TASKS, 1)
    assert seen.rows.nbytes + seen.shared.nbytes == 8 * len(TASKS.X)
    assert seen.tasks.nbytes == 8 * len(TASKS)
    assert not np.isin(seen.rows, SeenTasks.learn(TASKS, 2).rows).any()
