import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaest import Task, TaskError, TaskSet


def frame():
    return pd.DataFrame(
        {
            "patient": ["b", "a", "b", "a", "b"],
            "time": [0.0, 1.0, 2.0, 3.0, 4.0],
            "dose": [5, 6, 5, 6, 5],
            "conc": [1.0, 2.0, 3.0, 4.0, 5.0],
        }
    )


def test_from_frame_groups_rows_in_order_of_appearance():
    tasks = TaskSet.from_frame(frame(), task="patient", features=["time"], target="conc")
    assert tasks.names.tolist() == ["b", "a"]
    np.testing.assert_array_equal(tasks[0].X[:, 0], [0, 2, 4])
    np.testing.assert_array_equal(tasks[1].y, [2, 4])
    assert tasks.feature_names == ("time",)
    assert tasks.target_names == ("conc",)


def test_from_frame_takes_all_other_columns_and_several_targets():
    tasks = TaskSet.from_frame(frame(), task="patient", target=["conc", "dose"])
    assert tasks.feature_names == ("time",)
    assert tasks.y.shape == (5, 2)


def test_all_ways_in_give_the_same_tasks():
    by_frame = TaskSet.from_frame(frame(), task="patient", features=["time", "dose"], target="conc")
    f = frame()
    by_arrays = TaskSet.from_arrays(f[["time", "dose"]].to_numpy(), f["conc"], f["patient"])
    by_mapping = TaskSet.from_mapping(
        {name: (g[["time", "dose"]], g["conc"]) for name, g in f.groupby("patient", sort=False)}
    )
    by_tasks = TaskSet([Task(name, g[["time", "dose"]], g["conc"]) for name, g in f.groupby("patient", sort=False)])
    for other in (by_arrays, by_mapping, by_tasks):
        np.testing.assert_array_equal(other.X, by_frame.X)
        np.testing.assert_array_equal(other.y, by_frame.y)
        np.testing.assert_array_equal(other.offsets, by_frame.offsets)
        assert other.names.tolist() == by_frame.names.tolist()


def test_pairs_are_named_by_position():
    assert TaskSet([([[0.0]], [1.0]), ([[2.0]], [3.0])]).names.tolist() == [0, 1]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_selection_gives_the_selected_tasks(sizes, data):
    rng = np.random.default_rng(len(sizes))
    members = [
        Task(i, rng.random((n, 2)), rng.random(n), support=None if i % 2 else list(range(i % (n + 1))))
        for i, n in enumerate(sizes)
    ]
    tasks = TaskSet(members)
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=5, unique=True))
    selection = tasks[chosen]
    for task, i in zip(selection, chosen, strict=True):
        np.testing.assert_array_equal(task.X, members[i].X)
        np.testing.assert_array_equal(task.y, members[i].y)
        assert task.name == i
        assert (task.support is None) == (members[i].support is None)
        if task.support is not None:
            np.testing.assert_array_equal(task.support, members[i].support)


def test_indexing_is_that_of_a_sequence(tasks):
    assert tasks[-1].name == "task 7"
    assert [task.name for task in tasks[::3]] == ["task 0", "task 3", "task 6"]
    mask = tasks.sizes > 8
    assert tasks[mask].names.tolist() == tasks.names[mask].tolist()
    assert tasks.task("task 3").name == "task 3"
    with pytest.raises(IndexError):
        tasks[8]
    with pytest.raises(TaskError, match="no tasks were selected"):
        tasks[[]]
    with pytest.raises(KeyError, match="no task 'x'"):
        tasks.task("x")


def test_a_task_is_a_view(tasks):
    assert np.shares_memory(tasks[3].X, tasks.X)
    with pytest.raises(ValueError, match="read-only"):
        tasks.X[0] = 1.0


def test_summary_has_one_row_a_task(tasks):
    summary = tasks.summary()
    assert summary.index.tolist() == tasks.names.tolist()
    for name, task in zip(tasks.names, tasks, strict=True):
        assert summary.loc[name, "n_rows"] == len(task)
        np.testing.assert_allclose(
            summary.loc[name, ["y_mean", "y_std", "x1_max"]].astype(float),
            [task.y.mean(), task.y.std(), task.X[:, 1].max()],
        )


def test_repr_and_pickle(tasks):
    assert repr(tasks) == "TaskSet(8 tasks, 52 rows (3 to 10 a task), 2 features, 1 target)"
    assert "task 0" in tasks._repr_html_()
    assert repr(pickle.loads(pickle.dumps(tasks))) == repr(tasks)


def test_a_million_tasks_cost_their_numbers_only():
    n = 1_000_000
    tasks = TaskSet.from_arrays(np.zeros((n, 1), np.float32), np.zeros(n, np.float32), np.arange(n))
    held = sum(a.nbytes for a in (tasks.X, tasks.y, tasks.offsets, tasks.names))
    assert held <= n * (4 + 4 + 8 + 8) + 8
    assert len(tasks[:10]) == 10


NAMED = Task("a", pd.DataFrame({"time": [1.0], "dose": [2.0]}), [1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskSet([]), "no tasks"),
        (lambda: TaskSet([Task("a", [[1.0]], [1.0]), Task("a", [[1.0]], [1.0])]), "task name 'a' is used 2 times"),
        (lambda: TaskSet([Task("a", [[1.0]], [1.0]), Task("b", [[1.0, 2.0]], [1.0])]), "task 'b': X has 2 columns, .*'a' has 1"),
        (lambda: TaskSet([NAMED, Task("b", pd.DataFrame({"dose": [1.0], "time": [2.0]}), [1.0])]), r"task 'b': .*\['dose', 'time'\].*'a'"),
        (lambda: TaskSet([NAMED, Task("b", [[1.0, 2.0]], [1.0])]), "task 'b': the columns of X are unnamed"),
        (lambda: TaskSet([Task("a", [[1.0]], [1.0]), Task("b", [[1.0]], [[1.0]])]), "task 'b': y has shape"),
        (lambda: TaskSet([([[1.0]], [1.0]), 3]), r"task 1: an \(X, y\) pair is wanted"),
        (lambda: TaskSet.from_arrays([[1.0], [2.0]], [1.0, 2.0], ["a"]), "groups has 1 labels for 2 rows"),
        (lambda: TaskSet.from_arrays([[1.0], [2.0]], [1.0, 2.0], ["a", None]), "label of row 1 is missing"),
        (lambda: TaskSet.from_arrays([[1.0], [2.0]], [1.0, 2.0], None), "groups is missing"),
        (lambda: TaskSet.from_arrays([[1.0], [np.nan]], [1.0, 2.0], ["a", "b"]), "task 'b': column 0 of X holds NaN in row 0"),
        (lambda: TaskSet.from_arrays(np.empty((0, 1)), [], []), "no tasks"),
        (lambda: TaskSet.from_frame(frame(), task="subject", target="conc"), "no column 'subject'"),
        (lambda: TaskSet.from_frame(frame(), task="patient", features="time", target="conc"), r"write \['time'\]"),
        (lambda: TaskSet.from_frame(frame().assign(dose=[1, 2, np.nan, 4, 5]), task="patient", target="conc"), "task 'b': column 'dose' of X holds NaN in row 1"),
        (lambda: TaskSet.from_mapping({"a": [[1.0]]}), "task 'a': an"),
    ],
)  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(TaskError, match=message):
        make()


def test_group_labels_of_several_types_are_kept_apart():
    tasks = TaskSet.from_arrays([[0.0], [1.0], [2.0]], [0, 1, 2], np.array(["1", 1, "1"], dtype=object))
    assert tasks.names.tolist() == ["1", 1]


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ([1, "1", 1], [1, "1"]),
        (pd.Categorical(["b", "a", "b"]), ["b", "a"]),
        (pd.Series(["x", "y", "x"], index=[5, 4, 3], dtype="string"), ["x", "y"]),
    ],
)
def test_labels_keep_their_kind(groups, names):
    assert TaskSet.from_arrays([[0.0], [1.0], [2.0]], [0, 1, 2], groups).names.tolist() == names


@pytest.mark.parametrize("groups", [["a", np.nan, "b"], pd.Series(["a", None, "b"], dtype="string"), ["a", None, "b"]])
def test_a_missing_label_is_no_task(groups):
    with pytest.raises(TaskError, match="label of row 1 is missing"):
        TaskSet.from_arrays([[0.0], [1.0], [2.0]], [0, 1, 2], groups)


@pytest.mark.parametrize("y", [pd.Series(pd.to_datetime(["2020", "2021"])), np.array([1, 2], dtype="m8[s]")])
def test_dates_are_no_targets(y):
    with pytest.raises(TaskError, match="y holds (dates|time differences)"):
        Task("a", [[0.0], [1.0]], y)


@pytest.mark.parametrize("roles", [{"target": "time"}, {"target": ["conc", "time"]}, {"target": "patient"}])
def test_a_column_has_one_role(roles):
    with pytest.raises(TaskError, match="column '(time|patient)' is named by target and by another argument as well"):
        TaskSet.from_frame(frame(), task="patient", features=["time", "dose"], **roles)


def test_columns_that_are_missing_or_ambiguous_are_named():
    with pytest.raises(TaskError, match="no column 'Time'; .* by features=, such as features='time'"):
        TaskSet.from_frame(frame(), task="patient", features=["Time"], target="conc")
    with pytest.raises(TaskError, match="no column 'patient': it is in the index"):
        TaskSet.from_frame(frame().set_index("patient"), task="patient", target="conc")
    with pytest.raises(TaskError, match="column 'dose' occurs twice"):
        TaskSet.from_frame(pd.concat([frame(), frame()[["dose"]]], axis=1), task="patient", target="conc")


def test_masked_features_are_not_read_through_their_mask():
    X = np.ma.masked_array([[1.0], [-9999.0]], mask=[[False], [True]])
    with pytest.raises(TaskError, match="task 'a': X is masked in row 1"):
        Task("a", X, [1.0, 2.0])
    assert Task("a", X[:1], [1.0]).X.tolist() == [[1.0]]


@pytest.mark.parametrize("argument", ["features", "target", "task", "sample_weight"])
@pytest.mark.parametrize("weight", [None, "w"])
def test_none_in_a_list_of_columns_is_no_column(argument, weight):
    frame = pd.DataFrame({"task": [1, 1, 2], "x": [1.0, 2, 3], "y": [1.0, 2, 3], "w": [1.0, 1, 1]})
    columns = {"task": "task", "features": ["x"], "target": "y", "sample_weight": weight, argument: [None]}
    with pytest.raises(TaskError, match="there is no column None"):
        TaskSet.from_frame(frame, **columns)


@pytest.mark.parametrize("wrong", [{"task": None}, {"task": ["task"]}, {"sample_weight": ["w"]}])
def test_task_and_weight_are_one_column_each(wrong):
    frame = pd.DataFrame({"task": [1, 1, 2], "x": [1.0, 2, 3], "y": [1.0, 2, 3], "w": [1.0, 1, 1]})
    with pytest.raises(TaskError, match="must name one column"):
        TaskSet.from_frame(frame, **{"task": "task", "features": ["x"], "target": "y", **wrong})
