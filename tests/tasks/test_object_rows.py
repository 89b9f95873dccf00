"""Rows of a user's own type pass unchanged where they are asked for, and are refused everywhere else."""

import numpy as np
import pytest

from metaest import MAMLRegressor, Task, TaskError, TaskSet
from metaest.tasks import ObjectRows

ROWS = [np.zeros((2, 3)), np.ones((4, 3)), np.full((1, 3), 2.0)]  # sets of vectors
Y = [1.0, 2.0, 3.0]


def test_rows_are_the_objects_themselves():
    task = Task("a", ObjectRows(ROWS), Y)
    assert task.X.shape == (3,)
    assert all(row is given for row, given in zip(task.X, ROWS, strict=True))
    assert not task.X.flags.writeable
    assert repr(task) == "Task('a', 3 rows, rows of type ndarray)"


def test_rows_of_equal_length_are_not_stacked():
    assert ObjectRows([[1, 2], [3, 4]]).array.shape == (2,)
    assert ObjectRows(np.zeros((2, 5, 5))).array[1].shape == (5, 5)


def test_a_set_of_such_tasks_is_selected_and_summarised_like_any_other():
    tasks = TaskSet({"a": (ROWS, Y), "b": (ROWS[:2], Y[:2])}, object_rows=True)
    assert [len(task) for task in tasks[::-1]] == [2, 3]
    assert tasks[1].X[0] is ROWS[0]
    assert tasks.summary().columns.tolist()[:2] == ["n_rows", "n_support"]
    assert not any(name.startswith("x") for name in tasks.summary())
    assert repr(tasks) == "TaskSet(2 tasks, 5 rows (2 to 3 a task), rows of type ndarray, 1 target)"


def test_flat_rows_are_grouped():
    tasks = TaskSet.from_arrays(ObjectRows(ROWS), Y, ["b", "a", "b"])
    assert [task.X[0] is row for task, row in zip(tasks, ROWS, strict=False)] == [True, True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task("a", ROWS, Y), "not a rectangular array"),
        (lambda: Task("a", [{1}, {2}, {3}], Y), "task 'a'"),
        (lambda: Task("a", ObjectRows([{1}, None]), Y[:2]), "row 1 of X is missing"),
        (lambda: Task("a", ObjectRows({1, 2}), Y[:2]), "a list of rows is wanted, got set"),
        (lambda: Task("a", ObjectRows([]), []), "it has no rows"),
        (lambda: Task("a", ObjectRows(ROWS), Y[:2]), "X has 3 rows and y has 2"),
        (lambda: Task("a", ObjectRows(ROWS), Y, feature_names=["x"]), "its rows are objects"),
        (lambda: TaskSet({"a": ({1}, Y)}, object_rows=True), "task 'a': a list of rows is wanted, got set"),
        (
            lambda: TaskSet([Task("a", ObjectRows(ROWS), Y), ([[0.0]], [1.0])]),
            "task 1: its rows are numbers, but those of task 'a' are objects",
        ),
        (lambda: MAMLRegressor(max_iter=1).fit([Task("a", ObjectRows(ROWS), Y)]), "task 'a': its rows are objects"),
    ],
)
def test_elsewhere_objects_are_refused(make, message):
    with pytest.raises(TaskError, match=message):
        make()
