"""Whatever holds rows is read as the same numbers, or refused in a sentence that names what came and where."""

import copy
import decimal
import fractions
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from metaest import EquationRegressor, MAMLRegressor, Task, TaskError, TaskSet

X = np.round(np.random.default_rng(3).uniform(1, 9, (6, 2)), 2)
Y = np.arange(6) / 4
GROUPS = np.array([4, 9, 4, 9, 4, 9])
COLUMNS = {"p": X[:, 0], "q": X[:, 1]}

SAME = {
    "list": X.tolist(),
    "tuple": tuple(map(tuple, X.tolist())),
    "big-endian": X.astype(">f8"),
    "long double": X.astype(np.longdouble),
    "backwards": X[::-1].copy()[::-1],
    "memory view": memoryview(X),
    "nothing masked": np.ma.array(X, mask=np.zeros_like(X)),
    "Decimal": [[decimal.Decimal(repr(cell)) for cell in row] for row in X.tolist()],
    "Fraction": [[fractions.Fraction(cell) for cell in row] for row in X.tolist()],
    "pandas": pd.DataFrame(COLUMNS),
    "nullable": pd.DataFrame(COLUMNS).convert_dtypes(),
    "objects": pd.DataFrame(COLUMNS).astype(object),
    "polars": pl.DataFrame(COLUMNS),
    "pyarrow": pa.table(COLUMNS),
    "record batch": pa.record_batch(COLUMNS),
    "tensor": torch.tensor(X),
    "rows of tensors": list(torch.tensor(X)),
    "cells of tensors": [list(row) for row in torch.tensor(X)],
    "negated view": torch._neg_view(torch.tensor(-X)),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_numbers_in_another_container_are_the_same_task(kind):
    np.testing.assert_array_equal(Task("a", SAME[kind], Y).X, X)
    tasks = TaskSet.from_arrays(SAME[kind], Y, GROUPS)
    np.testing.assert_array_equal(tasks.X, X[[0, 2, 4, 1, 3, 5]])


@pytest.mark.parametrize("series", [pl.Series("t", Y), pa.array(Y), pa.chunked_array([Y]), torch.tensor(Y), list(Y)])
def test_targets_weights_and_groups_of_another_library(series):
    task = Task("a", X, series, sample_weight=series)
    np.testing.assert_array_equal(task.y, Y)
    np.testing.assert_array_equal(task.sample_weight, Y)
    assert TaskSet.from_arrays(X, Y, series).names.tolist() == Y.tolist()


def cell(values, value):
    """Put a value into row 1 of the last column."""
    objects = values.astype(object)
    objects[(1,) * values.ndim] = value
    return objects


def masked(values):
    return np.ma.array(values, mask=np.equal(np.arange(values.size).reshape(values.shape), values.ndim * 2 - 1))


MASKED = {
    "array": masked,
    "objects": lambda values: cell(values, np.ma.masked),
    "list": lambda values: cell(values, np.ma.masked).tolist(),
    "list of masked rows": lambda values: list(masked(values)),
}


@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_value_is_refused_wherever_rows_come_in(kind):
    hide = MASKED[kind]
    model = MAMLRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0).fit(TaskSet.from_arrays(X, Y, GROUPS))
    adapted = model.adapt(X[:2], Y[:2])
    for call, where in (
        (lambda: Task("a", hide(X), Y), "task 'a': X is masked in row 1"),
        (lambda: Task("a", X, hide(Y)), "task 'a': y is masked in row 1"),
        (lambda: Task("a", X, Y, sample_weight=hide(Y)), "task 'a': sample_weight is masked in row 1"),
        (lambda: Task("a", X, Y, support=hide(np.arange(3))), "task 'a': support is masked in row 1"),
        (lambda: TaskSet([(X, Y), (hide(X), Y)]), "task 1: X is masked in row 1"),
        (lambda: TaskSet.from_mapping({"b": (X, hide(Y))}), "task 'b': y is masked in row 1"),
        (lambda: TaskSet.from_arrays(hide(X), Y, GROUPS), "task 9: X is masked in row 0"),
        (lambda: TaskSet.from_arrays(X, Y, hide(GROUPS)), "X, y, groups: groups is masked in row 1"),
        (lambda: model.fit(X, hide(Y), groups=GROUPS), "task 9: y is masked in row 0"),
        (lambda: model.adapt(hide(X), Y), "adapt: X is masked in row 1 in column 1"),
        (lambda: model.predict(hide(X)), "predict: X is masked in row 1"),
        (lambda: model.score(X, Y, groups=GROUPS, sample_weight=hide(Y)), "score: sample_weight is masked in row 1"),
        (lambda: adapted.partial_adapt(X, hide(Y)), "partial_adapt: y is masked in row 1"),
        (lambda: adapted.score(X, hide(Y)), "score: y is masked in row 1"),
        (lambda: adapted.score(X, Y, sample_weight=hide(Y)), "score: sample_weight is masked in row 1"),
    ):
        with pytest.raises(TaskError, match=where):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Task("a", [[1.0], [2.0], np.ma.array([-9.0], mask=[True])], Y[:3]),
            "X is masked in row 2 in column 0",
        ),
        (lambda: Task("a", X[:2], [0.5, np.ma.array(-9.0, mask=True)]), "y is masked in row 1;"),
        (lambda: Task("a", [[np.ma.array([[-9.0]], mask=[[True]])]], [0.0]), "X is masked in row 0"),
        (lambda: Task("a", [[[np.ma.array([-9.0], mask=[True])]]], [0.0]), "X is masked in row 0"),
        (
            lambda: TaskSet.from_arrays([*X[:5, :1].tolist(), np.ma.array([-9.0], mask=[True])], Y, GROUPS),
            "task 9: X is masked in row 2 in column 0",
        ),
        (lambda: TaskSet.from_arrays(X, np.ma.masked, GROUPS), "y is masked in row 0"),
        (lambda: TaskSet.from_arrays(np.ma.masked_equal(X, X[3, 0]), Y, None), "groups is missing"),
        (lambda: TaskSet.from_arrays(np.ma.masked_equal(X, X[3, 0]), Y, GROUPS[:2]), "2 labels for 6 rows"),
    ],
)
def test_what_is_masked_within_a_list_is_refused_with_its_row_whatever_the_groups(call, message):
    with pytest.raises(TaskError, match=message):
        call()


REFUSED = {
    "complex": (X + 0j, "complex numbers"),
    "a complex cell": (cell(X, 1j), "column 1 of X holds a complex in row 1"),
    "text that reads as a number": (cell(X, "1.5"), r"column 1 of X holds strings \('1.5' in row 1\)"),
    "bytes that read as a number": (cell(X, b"2"), "column 1 of X holds bytes"),
    "a whole number of 400 digits": (cell(X, 10**400), "column 1 of X holds a whole number beyond the range"),
    "a signalling NaN": (cell(X, decimal.Decimal("sNaN")), "column 1 of X holds NaN in row 1"),
    "pandas.NA": (cell(X, pd.NA), "column 1 of X holds NaN in row 1"),
    "a duration": (cell(X, np.timedelta64(5, "m")), "holds time differences"),
    "a set in a cell": (cell(X, {1}), "column 1 of X holds a set in row 1"),
    "structured": (pd.DataFrame(COLUMNS).to_records(index=False), "structured array .fields: p, q."),
    "matrix": (X.view(np.matrix), "numpy.asarray"),
    "ragged": ([[1.0, 2.0], [3.0], *X[2:].tolist()], "row 1 has another length than row 0"),
    "generator": ((row for row in X.tolist()), "is a generator.*list"),
    "dictionary": (COLUMNS, "is a dict.*pandas.DataFrame"),
    "set": (set(Y), "is a set"),
    "scalar": (np.array(1.0), r"X has shape \(\)"),
    "lazy frame": (pl.LazyFrame(COLUMNS), "collect"),
    "polars text": (pl.DataFrame(COLUMNS).cast(pl.String), "column 'p' holds strings"),
    "polars durations": (pl.DataFrame(COLUMNS).cast(pl.Duration("us")), "column 'p' holds time differences"),
    "polars dates": (pl.DataFrame(COLUMNS).cast(pl.Date), "column 'p' holds dates"),
    "polars categories": (pl.DataFrame({"p": pl.Series(list("ababab"), dtype=pl.Categorical)}), "holds categories"),
    "a polars null": (pl.DataFrame({"p": [1.0, None] * 3}), "column 'p' of X holds NaN in row 1"),
    "an arrow null": (pa.table({"p": pa.array([1, None] * 3)}), "column 'p' of X holds NaN in row 1"),
    "a tensor with a gradient": (torch.tensor(X, requires_grad=True), "detach"),
    "a cell with a gradient": ([[1.0, torch.tensor(2.0, requires_grad=True)]] * 6, "row 0: .* detach"),
    "a sparse tensor": (torch.tensor(X).to_sparse(), "to_dense"),
    "a tensor without values": (torch.tensor(X).to("meta"), "holds no values"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_table_of_numbers_is_refused(kind):
    values, words = REFUSED[kind]
    with pytest.raises(TaskError, match=f"(?s)task 'a': .*{words}"):
        Task("a", values, Y)


def test_half_precision_is_widened():
    for dtype in (torch.float16, torch.bfloat16):
        np.testing.assert_allclose(Task("a", torch.tensor(X).to(dtype), Y).X, X, rtol=0.01)


def test_rows_inside_a_function_transform_are_refused():
    with pytest.raises(TaskError, match="torch.func"):
        torch.func.vmap(lambda row: Task("a", row[None], [1.0]))(torch.tensor(X))


@pytest.mark.parametrize("frame", [pl.DataFrame, pa.table])
def test_a_frame_of_another_library_is_read_as_one_of_pandas(frame):
    columns = {**COLUMNS, "patient": ["b", "a", "b", "a", "b", "a"], "conc": Y}
    tasks = TaskSet.from_frame(frame(columns), task="patient", target="conc")
    expected = TaskSet.from_frame(pd.DataFrame(columns), task="patient", target="conc")
    assert (tasks.names.tolist(), tasks.feature_names, tasks.target_names) == (["b", "a"], ("p", "q"), ("conc",))
    np.testing.assert_array_equal(tasks.X, expected.X)
    model = MAMLRegressor(hidden_layer_sizes=(3,), max_iter=2, random_state=0).fit(frame(COLUMNS), Y, groups=GROUPS)
    assert model.feature_names_in_.tolist() == ["p", "q"]
    np.testing.assert_array_equal(model.predict(frame(COLUMNS)), model.predict(pd.DataFrame(COLUMNS)))
    with pytest.raises(TaskError, match="same order"):
        model.adapt(frame({"q": X[:, 1], "p": X[:, 0]}), Y)


def test_labels_without_an_order_are_groups_by_equality():
    a, b, c = frozenset({1}), frozenset({2}), ("site", 3)
    tasks = TaskSet.from_arrays(X, Y, [b, a, c, a, b, c])
    assert tasks.names.tolist() == [b, a, c]
    assert tasks.sizes.tolist() == [2, 2, 2]
    assert tasks.summary().index.tolist() == [b, a, c]
    assert TaskSet([Task(a, X, Y), Task(c, X, Y)])[1].name == c


@pytest.mark.parametrize("labels", [["a", "a\0"] * 3, ["a", b"a"] * 3, [1, "1"] * 3, [2**64, 2**64 + 1] * 3])
def test_labels_that_numpy_would_make_one_stay_two(labels):
    for groups in (labels, pd.Series(labels, dtype=object)):
        assert TaskSet.from_arrays(X, Y, groups).names.tolist() == labels[:2]
    assert TaskSet([Task(label, X, Y) for label in labels[:2]]).names.tolist() == labels[:2]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1, True] * 3, "True or False among numbers"),
        ([1, None] * 3, "label of row 1 is missing"),
        ([("a", 1), ("b", np.nan)] * 3, "label of row 1 is missing"),
        (pl.Series([1, None] * 3), "label of row 1 is missing"),
        ([{"a": 1}] * 6, "a dict, which cannot name a task"),
        (pd.DataFrame({"site": [1] * 6, "id": [2] * 6}), "may be tuples"),
    ],
)
def test_labels_that_name_no_task_are_refused(labels, words):
    with pytest.raises(TaskError, match=words):
        TaskSet.from_arrays(X, Y, labels)


def test_dates_are_groups_and_names():
    days = pd.to_datetime(["2024-01-02", "2024-01-01"] * 3)
    assert TaskSet.from_arrays(X, Y, days).names.tolist() == list(days[:2])


@pytest.mark.parametrize(("name", "words"), [([1], "list cannot name a task"), (float("nan"), "missing value")])
def test_a_name_can_be_looked_up(name, words):
    with pytest.raises(TaskError, match=words):
        Task(name, X, Y)


def copies(value):
    return pickle.loads(pickle.dumps(value)), copy.deepcopy(value)


def test_copies_stay_read_only():
    tasks = TaskSet([Task("a", X, Y, support=[1], sample_weight=np.ones(6)), Task("b", X, Y, sample_weight=np.ones(6))])
    adapted = MAMLRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0).fit([(X, Y)] * 2).adapt(X, Y)
    line = EquationRegressor(lambda X, a: a * X[:, 0], {"a": 1.0}).fit([(X, Y), (X, 2 * Y)]).adapt(X, Y)
    for again in copies(tasks):
        for array in (again.X, again.y, again.offsets, again.names, again.sample_weight, again.support_of(0)):
            assert not array.flags.writeable
    for task in (*copies(tasks[0]), copy.deepcopy(line), *copies(adapted)):
        for name in ("X", "y", "support", "sample_weight", "X_support_", "y_support_"):
            assert not getattr(task, name, X[:0].view()).flags.writeable or not hasattr(task, name)


def test_labels_beyond_64_bits_are_no_classes():
    from metaest import make_episodes

    with pytest.raises(TaskError, match="beyond 2.53"):
        make_episodes(X, [2**70, 2**70 + 1] * 3, 2, 1, 1)
    with pytest.raises(TaskError, match="NUL"):
        make_episodes(X, ["a", "a\0"] * 3, 2, 1, 1)


def test_a_duration_among_weights_is_refused():
    weight = [1.0, np.timedelta64(5, "m"), *Y[2:]]
    with pytest.raises(TaskError, match="sample_weight cannot be read as numbers"):
        Task("a", X, Y, sample_weight=weight)
    with pytest.raises(TaskError, match="sample_weight cannot be read as numbers.*row 1"):
        Task("a", X, Y, sample_weight=np.array(weight, dtype=object))


def test_arrays_of_xarray_have_the_meaning_of_numpys():
    xarray = pytest.importorskip("xarray")
    for rows in (X, np.stack([X, X], axis=1)):
        np.testing.assert_array_equal(Task("a", xarray.DataArray(rows), xarray.DataArray(Y)).X, Task("a", rows, Y).X)
    with pytest.raises(TaskError, match=r"y has shape \(6, 1, 1\)"):
        Task("a", X, xarray.DataArray(Y[:, None, None]))


@pytest.mark.parametrize("number", ["x", 1.5, None, np.timedelta64(1, "h")])
def test_a_task_is_counted_by_whole_numbers(number):
    tasks = TaskSet([(X, Y), (X, Y)])
    assert tasks.support_of(np.int8(-1)) is None
    with pytest.raises(TypeError, match="whole number"):
        tasks.support_of(number)
    with pytest.raises(IndexError, match="2 tasks"):
        tasks.support_of(2)
