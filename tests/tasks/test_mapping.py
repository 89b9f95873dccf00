"""A mapping of names to (X, y) is the sequence of these tasks under their names, in its order."""

from collections import OrderedDict, UserDict
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from metaest import Task, TaskError, TaskSet

PAIRS = {"b": ([[0.0], [1.0]], [1.0, 2.0]), "a": ([[0.5]], [3.0]), 7: ([[2.0]], [4.0])}
FRAME = pd.DataFrame({"time": [0.0, 1.0], "dose": [5.0, 5.0]})


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict, MappingProxyType])
def test_a_mapping_is_its_tasks_by_name_in_its_order(kind):
    tasks = TaskSet(kind(PAIRS))
    named = TaskSet([Task(name, X, y) for name, (X, y) in PAIRS.items()])
    assert tasks.names.tolist() == ["b", "a", 7]
    for part in ("X", "y", "offsets"):
        np.testing.assert_array_equal(getattr(tasks, part), getattr(named, part))


def test_the_tasks_of_a_mapping_keep_support_and_weights():
    task = Task("a", [[0.0], [1.0]], [1.0, 2.0], support=[1], sample_weight=[1.0, 4.0])
    tasks = TaskSet({"a": task})
    assert tasks.support_of(0).tolist() == [1]
    assert tasks.sample_weight.tolist() == [1.0, 4.0]


def test_column_names_of_frames_in_pairs_are_kept():
    assert TaskSet({"a": (FRAME[["time"]], FRAME["dose"])}).feature_names == ("time",)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "no tasks were given"),
        ({"a": Task("b", [[0.0]], [1.0])}, "task 'a': the Task under this key is called 'b'"),
        ({"a": FRAME}, "task 'a': an .X, y. pair is wanted, got a data frame; pass its columns in two parts"),
        ({**PAIRS, "c": 3.0}, "task 'c': an .X, y. pair is wanted, got float"),
        ({**PAIRS, "c": {"X": [[0.0]], "y": [1.0]}}, "task 'c': an .X, y. pair is wanted, got dict"),
        ({"a": "text"}, "task 'a': an .X, y. pair is wanted, got str"),
        ({**PAIRS, "c": ([[0.0, 1.0]], [1.0])}, "task 'c': X has 2 columns, but task 'b' has 1"),
        ({**PAIRS, "c": ([["low"]], [1.0])}, "task 'c': column 0 of X holds strings"),
        ({**PAIRS, np.nan: ([[0.0]], [1.0])}, "task nan: a missing value was passed as its name"),
        ({"time": [0.0, 1.0], "dose": [5.0, 5.0]}, "mapping of columns was passed .'time' holds 2 values"),
        ({"time": np.zeros(3)}, "mapping of columns.*TaskSet.from_frame"),
        (FRAME.to_dict("series"), "mapping of columns"),
        ({"time": range(3), "unit": ["h", "h", "h"]}, "mapping of columns"),
    ],
)
def test_other_mappings_are_refused_by_name(mapping, message):
    with pytest.raises(TaskError, match=message):
        TaskSet(mapping)


def test_a_data_frame_is_no_mapping():
    with pytest.raises(TaskError, match=r"task 0: an \(X, y\) pair is wanted"):
        TaskSet(FRAME)
