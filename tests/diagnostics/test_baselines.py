import numpy as np
import pandas as pd
import pytest
import torch

from metaest import MAMLRegressor, Task
from metaest.diagnostics import fine_tuned, from_scratch, leave_one_task_out, pooled
from problems import ragged_tasks

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 30, "random_state": 0}


def test_pooled_is_joint_training_on_all_rows(tasks):
    model = pooled(MAMLRegressor(**SMALL), tasks)
    np.testing.assert_array_equal(model.adapt(tasks[0].X, tasks[0].y).predict(tasks.X), model.predict(tasks.X))
    marked = [Task(task.name, task.X, task.y, support=[0]) for task in tasks]
    assert torch.equal(
        pooled(MAMLRegressor(**SMALL), marked)._params["layers.0.weight"], model._params["layers.0.weight"]
    )


def test_fine_tuned_starts_from_the_pooled_network(tasks):
    base, tuned = pooled(MAMLRegressor(**SMALL), tasks), fine_tuned(MAMLRegressor(**SMALL), tasks)
    np.testing.assert_array_equal(tuned.predict(tasks.X), base.predict(tasks.X))
    adapted = tuned.adapt(tasks[7].X, tasks[7].y)
    assert adapted.score(tasks[7].X, tasks[7].y) > base.adapt(tasks[7].X, tasks[7].y).score(tasks[7].X, tasks[7].y)


def test_from_scratch_knows_the_scaling_and_nothing_else(tasks):
    scratch = from_scratch(MAMLRegressor(**SMALL), tasks)
    one = scratch.adapt(tasks[7].X, tasks[7].y).predict(tasks[7].X)
    assert np.square(one - tasks[7].y).mean() < 0.5 * np.square(scratch.predict(tasks[7].X) - tasks[7].y).mean()
    np.testing.assert_array_equal(scratch.adapt(tasks[7].X, tasks[7].y).predict(tasks[7].X), one)


def test_leave_one_task_out_never_sees_the_task():
    tasks = ragged_tasks()
    seen = {}

    class Mean:
        def __init__(self, others):
            seen[frozenset(others.names)] = None
            self.mean = others.y.mean()

        def adapt(self, X, y):
            self.mean = y.mean()
            return self

        def predict(self, X):
            return np.full(len(X), self.mean)

    sets = pd.DataFrame({"task": ["task 3", "task 3", "task 5"], "support": [(), (0, 2), (1,)], "k": [0, 2, 1]})
    result = leave_one_task_out({"mean": Mean}, tasks, sets, n_jobs=1)
    assert sorted(len(names) for names in seen) == [7, 7]
    assert all("task 3" not in names or "task 5" not in names for names in seen)
    y, others = tasks.task("task 3").y, np.concatenate([t.y for t in tasks if t.name != "task 3"])
    query = np.delete(y, [0, 2])
    expected = [np.square(y - others.mean()).mean(), np.square(query - y[[0, 2]].mean()).mean()]
    assert result.errors["mean"].iloc[:2].tolist() == pytest.approx(expected)
    assert result.errors["k"].tolist() == [0, 2, 1]
    assert set(result.models) == {"task 3", "task 5"}
