import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from metaest import Task, TaskError


def test_values_are_copied_and_read_only():
    X, y = np.ones((2, 1)), np.zeros(2)
    task = Task("a", X, y)
    X[0] = 5.0
    assert task.X[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        task.X[0] = 2.0


def test_data_frame_names_are_remembered():
    task = Task("a", pd.DataFrame({"time": [1, 2], "dose": [3.0, 4.0]}), pd.Series([1, 2], name="conc"))
    assert task.feature_names == ("time", "dose")
    assert task.target_names == ("conc",)
    assert task.X.dtype == np.float64


def test_nullable_columns_and_booleans_are_numbers():
    frame = pd.DataFrame({"n": pd.array([1, 2], dtype="Int64"), "male": [True, False]})
    np.testing.assert_array_equal(Task("a", frame, [0.0, 1.0]).X, [[1, 1], [2, 0]])


def test_pickle_keeps_everything():
    task = pickle.loads(pickle.dumps(Task("a", [[1.0], [2.0]], [1.0, 2.0], support=[1])))
    np.testing.assert_array_equal(task.X, [[1.0], [2.0]])
    np.testing.assert_array_equal(task.support, [1])


FRAME = pd.DataFrame({"time": [0.0, 1.0], "sex": ["f", "m"]})


@pytest.mark.parametrize(
    ("X", "y", "support", "message"),
    [
        (np.empty((0, 2)), [], None, "task 'p3': it has no rows"),
        ([[0.0], [np.nan]], [0, 1], None, "task 'p3': column 0 of X holds NaN in row 1"),
        (pd.DataFrame({"dose": [1.0, np.inf]}), [0, 1], None, "task 'p3': column 'dose' of X holds infinity in row 1"),
        ([[0.0], [1.0]], [0, np.nan], None, "task 'p3': column 0 of y holds NaN in row 1"),
        ([[0.0], [1.0]], [[0, 1], [2, np.inf]], None, "task 'p3': column 1 of y holds infinity in row 1"),
        ([[0.0], [1.0]], None, None, "task 'p3': y is missing"),
        (None, [1.0], None, "task 'p3': X is missing"),
        ([[0.0], [1.0]], [1.0], None, "task 'p3': X has 2 rows and y has 1"),
        ([[0.0], [1.0]], np.zeros((2, 1, 1)), None, "task 'p3'"),
        ([[0.0], [1.0]], [0, 1], [2], "task 'p3': support names row 2, but the task has rows 0 to 1"),
        ([[0.0], [1.0]], [0, 1], [-1], "task 'p3': support names row -1"),
        ([[0.0], [1.0]], [0, 1], [1, 1], "task 'p3': support names row 1 more than once"),
        ([[0.0], [1.0]], [0, 1], [True, False], "numpy.flatnonzero"),
        ([[0.0], [1.0]], [0, 1], [0.5], "task 'p3': support must be a list of row numbers"),
        (FRAME, [0, 1], None, "task 'p3': column 'sex' holds .*strings.*; encode it as numbers"),
        (FRAME.astype({"sex": "category"}), [0, 1], None, "task 'p3': column 'sex' holds categories.*OneHotEncoder"),
        (FRAME.assign(sex=pd.Timestamp("2020-01-01")), [0, 1], None, "column 'sex' holds dates.*elapsed"),
        ([["a"], ["b"]], [0, 1], None, "task 'p3': column 0 of X holds strings"),
        ([[0.0], [1.0]], ["a", 1], None, "task 'p3': labels of mixed types"),
        ([[0.0], [1.0]], ["a", None], None, "task 'p3': the label of row 1 is missing"),
        ([[0.0, 1.0], [1.0]], [0, 1], None, "task 'p3': X is not a rectangular array"),
        ([0.0, 1.0], [0, 1], None, "task 'p3': Expected 2D array"),
        (pd.DataFrame([[0, 1], [2, 3]], columns=["a", "a"]), [0, 1], None, "column 'a' occurs twice"),
        (pd.DataFrame([[0, 1], [2, 3]], columns=["a", 1]), [0, 1], None, "all strings or none"),
    ],
)
def test_bad_input_names_the_task_and_the_column(X, y, support, message):
    with pytest.raises(TaskError, match=message):
        Task("p3", X, y, support=support)


@pytest.mark.parametrize("X", [sparse.csr_matrix(np.eye(2)), pd.DataFrame.sparse.from_spmatrix(sparse.eye_array(2))])
def test_sparse_input_says_what_to_do(X):
    with pytest.raises((TypeError, TaskError), match="toarray|to_dense"):
        Task("p3", X, [0.0, 1.0])


def test_repr():
    assert repr(Task(7, [[1.0, 2.0]], [1.0])) == "Task(7, 1 row, 2 features)"
