"""The arguments of hostile calls: rows with targets and groups, sequences of tasks, numbers and words."""

import re
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import torch
from hypothesis import strategies as st

from attacks.hostile import Given, numbers, plainly, setting
from metaest import Task, TaskSet


def rows_and_targets(
    *, positive: bool = False, columns: int = 2, names: tuple[str, ...] = ("X", "y"), classes: bool = False,
    settings: Mapping[str, st.SearchStrategy[Given]] | None = None, free: bool = False, least: int = 2, most: int = 6,
    further: Mapping[str, Callable[[int, np.random.Generator], np.ndarray]] | None = None, spells: bool = True,
    words: bool = False,
) -> st.SearchStrategy[dict[str, Given]]:  # fmt: skip
    """Return a strategy: rows X, targets y and further arrays of as many rows, one or two arguments hostile."""
    settings, further = settings or {}, further or {}

    @st.composite
    def draw_all(draw: st.DrawFn) -> dict[str, Given]:
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        n = draw(st.integers(least, most))
        X = rng.standard_normal((n, columns))
        y = rng.standard_normal(n)
        if positive:
            X, y = np.abs(X) + 0.1, np.abs(y) + 0.1
        if classes:
            y = np.arange(n) % 2.0
        plain: dict[str, Any] = {"X": X, "y": y, **{name: make(n, rng) for name, make in further.items()}}
        plain = {name: value for name, value in plain.items() if name in names or name in further}
        attacked = draw(st.sampled_from([*plain, *settings]))
        second = draw(st.sampled_from([None, None, None, *plain, *settings]))
        given = {}
        for name, value in plain.items():
            if name not in (attacked, second):
                given[name] = plainly(value)
            elif name == "y" and classes:
                given[name] = draw(labels(value))
            elif name == "groups":
                given[name] = draw(groups(value))
            else:
                given[name] = draw(numbers(value, fixed=not free, spells=spells))
            if words and name == "y" and re.search("word|text|string|bytes", given[name].kind):  # labels
                given[name] = Given(given[name].kind, given[name].value, given[name].value)
            if name not in ("X", "y") and given[name].value is None:  # the default
                given[name] = Given("None", None, None)
        for name, strategy in settings.items():
            if name in (attacked, second):
                given[name] = draw(strategy)
        return given

    return draw_all()


@st.composite
def labels(draw: st.DrawFn, y: np.ndarray) -> Given:
    """Draw labels of the classes 0 and 1: numbers in other containers, or words."""
    return draw(numbers(y))


GROUPS: dict[str, tuple[Callable[[np.ndarray], Any], bool]] = {
    "numbers": (lambda g: g, True),
    "list": (lambda g: g.tolist(), True),
    "words": (lambda g: [f"task {i}" for i in g], True),
    "array of words": (lambda g: np.array([f"task {i}" for i in g]), True),
    "floats": (lambda g: g + 0.5, True),
    "minus zero": (lambda g: np.where(g == 0, -0.0, g.astype(float)), True),
    "int8": (lambda g: g.astype(np.int8), True),
    "uint64": (lambda g: g.astype(np.uint64) + np.uint64(2**63), True),
    "beyond 64 bits": (lambda g: [2**70 + int(i) for i in g], True),
    "booleans": (lambda g: g > 0, True),
    "tuples": (lambda g: [("a", int(i)) for i in g], True),
    "ragged tuples": (lambda g: [(0,) * (int(i) + 1) for i in g], True),
    "frozensets": (lambda g: [frozenset({int(i), "x"}) for i in g], True),
    "frozensets of one another": (lambda g: [frozenset(range(int(i))) for i in g], True),
    "words with NUL": (lambda g: ["a" + "\0" * int(i) for i in g], True),
    "array of objects with NUL": (lambda g: np.array(["a" + "\0" * int(i) for i in g], dtype=object), True),
    "words of spaces": (lambda g: [" " * int(i) for i in g], True),
    "numbers and their words": (lambda g: [int(i) if i % 2 else str(i) for i in g], True),
    "words that look alike": (lambda g: [["1", "1.0", "01", "1e0", "\u0661", "one"][i % 6] for i in g], True),
    "numbers of several types": (lambda g: [[int(i), float(i), np.int8(i)][k % 3] for k, i in enumerate(g)], True),
    "bytes": (lambda g: [b"t%d" % i for i in g], True),
    "dates": (lambda g: np.datetime64("2020-01-01") + g.astype("timedelta64[D]"), True),
    "durations": (lambda g: g.astype("timedelta64[h]"), True),
    "timestamps": (lambda g: [pd.Timestamp(2020, 1, 1 + int(i)) for i in g], True),
    "series": (lambda g: pd.Series(g, index=range(5, 5 + len(g))), True),
    "series of words": (lambda g: pd.Series([f"task {i}" for i in g]), True),
    "categories": (lambda g: pd.Series([f"task {i}" for i in g]).astype("category"), True),
    "categorical": (lambda g: pd.Categorical([f"task {i}" for i in g]), True),
    "nullable": (lambda g: pd.Series(g).astype("Int64"), True),
    "pyarrow": (lambda g: pd.Series([f"task {i}" for i in g]).astype("string[pyarrow]"), True),
    "index": (lambda g: pd.Index(g), True),
    "multi-index": (lambda g: pd.MultiIndex.from_arrays([g, g]), True),
    "a column": (lambda g: g[:, None], True),
    "frame of a column": (lambda g: pd.DataFrame({"g": g}), True),
    "polars": (lambda g: pl.Series("g", g), True),
    "polars words": (lambda g: pl.Series("g", [f"task {i}" for i in g]), True),
    "tensor": (lambda g: torch.from_numpy(g.copy()), True),
    "complex": (lambda g: g + 1j, True),
    "strings of variable width": (lambda g: np.array([f"task {i}" for i in g], dtype=np.dtypes.StringDType()), True),
    "read-only": (lambda g: np.broadcast_to(g, g.shape), True),
    "NaN": (lambda g: np.where(g == g[0], np.nan, g), False),
    "None": (lambda g: [None, *g[1:].tolist()], False),
    "pd.NA": (lambda g: [pd.NA, *g[1:].tolist()], False),
    "NaT": (lambda g: [np.datetime64("NaT"), *g[1:].tolist()], False),
    "nullable with NA": (lambda g: pd.Series([None, *g[1:]], dtype="Int64"), False),
    "polars with null": (lambda g: pl.Series("g", [None, *g[1:].tolist()]), False),
    "masked": (lambda g: np.ma.array(g, mask=[True] + [False] * (len(g) - 1)), False),
    "lists": (lambda g: [[int(i), 0] for i in g], False),
    "dicts": (lambda g: [{} for _ in g], False),
    "one label": (lambda g: "task", False),
    "one number": (lambda g: 3, False),
    "one short": (lambda g: g[:-1], False),
    "one long": (lambda g: np.append(g, 0), False),
    "nothing": (lambda g: [], False),
    "two columns": (lambda g: np.column_stack([g, g]), False),
    "a set": (lambda g: set(g.tolist()), False),
    "a dict": (lambda g: dict.fromkeys(g.tolist()), False),
    "an object": (lambda g: object(), False),
}


@st.composite
def groups(draw: st.DrawFn, g: np.ndarray) -> Given:
    """Draw labels of groups: equal labels, by Python's equality, are one task."""
    kind = draw(st.sampled_from(list(GROUPS)))
    make, good = GROUPS[kind]
    value = make(g)
    if not good:
        return Given(kind, value, g, refuse=True)
    plain = {"booleans": (g > 0).astype(int), "words that look alike": g % 6}.get(kind, g)
    return Given(kind, value, plain)


def fixed_groups(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return numbers of groups, two at least."""
    return np.append(rng.integers(0, 3, n - 2), [0, 1])


def count(least: int = 1, most: float = np.inf, none: bool = False, name: str = "n") -> st.SearchStrategy[Given]:
    """Draw values for a whole number between two bounds."""

    def valid(value: Any) -> bool | None:
        if value is None:
            return none
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            return (
                None if isinstance(value, (np.ndarray, torch.Tensor, bool, np.bool_)) and np.ndim(value) == 0 else False
            )
        if value < least:
            return False
        return True if value <= min(most, 50) else None

    return setting(valid, name)


def share(name: str = "level") -> st.SearchStrategy[Given]:
    """Draw values for a number strictly between 0 and 1."""

    def valid(value: Any) -> bool | None:
        if isinstance(value, (float, np.floating)):
            return True if 1e-3 < value < 1 else (None if 0 < value < 1 else False)
        if isinstance(value, (np.ndarray, torch.Tensor, Real)):
            return None if np.size(value) == 1 else False
        return False

    return setting(valid, name)


def flag(name: str, none: bool = False) -> st.SearchStrategy[Given]:
    """Draw values for true or false."""
    return setting(
        lambda v: True if v is True or v is False or (none and v is None) else (None if v in (0, 1) else False), name
    )


def one_of(name: str, *words: Any) -> st.SearchStrategy[Given]:
    """Draw values for a choice among words."""
    return setting(lambda v: any(v is word or (isinstance(v, str) and v == word) for word in words), name)


def seed(name: str = "random_state") -> st.SearchStrategy[Given]:
    """Draw values for a random_state."""

    def valid(value: Any) -> bool | None:
        if value is None or isinstance(value, np.random.RandomState):
            return None  # no equal numbers can be demanded
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            return None
        return 0 <= value < 2**32

    return setting(valid, name)


WRONG_TASKS: dict[str, Callable[[list[Any]], Any]] = {
    "none": lambda pairs: [],
    "None": lambda pairs: None,
    "a word": lambda pairs: "tasks",
    "a number": lambda pairs: 3,
    "an empty dict": lambda pairs: {},
    "a dict of columns": lambda pairs: {"time": np.zeros(3), "dose": [1.0, 2.0, 3.0]},
    "a dict of frames": lambda pairs: {"a": pd.DataFrame({"time": [0.0]})},
    "a dict of tasks under other names": lambda pairs: {"a": Task("b", *pairs[0])},
    "a number among a dict": lambda pairs: {**dict(enumerate(pairs)), "a": 3},
    "a set": lambda pairs: {1, 2},
    "an object": lambda pairs: object(),
    "None among them": lambda pairs: [*pairs, None],
    "a word among them": lambda pairs: [*pairs, "task"],
    "a number among them": lambda pairs: [*pairs, 3],
    "a triple among them": lambda pairs: [*pairs, (*pairs[0], 1)],
    "an array among them": lambda pairs: [*pairs, pairs[0][0]],
    "a dict among them": lambda pairs: [*pairs, {"X": 1, "y": 2}],
    "no y": lambda pairs: [*pairs, (pairs[0][0], None)],
    "no rows": lambda pairs: [*pairs, (pairs[0][0][:0], pairs[0][1][:0])],
    "other columns": lambda pairs: [*pairs, (np.ones((3, 7)), np.ones(3))],
    "one task": lambda pairs: Task("a", *pairs[0]),
    "names twice": lambda pairs: [Task("a", *pairs[0]), Task("a", *pairs[1])],
    "empty array": lambda pairs: np.array([]),
    "a frame": lambda pairs: pd.DataFrame({"a": [1.0]}),
}
RIGHT_TASKS: dict[str, Callable[[list[Any]], Any]] = {
    "list of pairs": list,
    "tuple of pairs": tuple,
    "pairs as lists": lambda pairs: [list(pair) for pair in pairs],
    "dict of pairs": lambda pairs: dict(enumerate(pairs)),
    "dict of Task": lambda pairs: {i: Task(i, *pair) for i, pair in enumerate(pairs)},
    "TaskSet": TaskSet,
    "list of Task": lambda pairs: [Task(i, *pair) for i, pair in enumerate(pairs)],
    "array of Task": lambda pairs: _objects([Task(i, *pair) for i, pair in enumerate(pairs)]),
    "tasks of odd names": lambda pairs: [
        Task([("a", 1), frozenset({2}), "x\0", 2**70, None, 1.5, b"x", "x", "x" * 500, -1][i % 10], *pair)
        for i, pair in enumerate(pairs[:10])
    ],
}


def _objects(tasks: list[Any]) -> np.ndarray:
    array = np.empty(len(tasks), dtype=object)
    array[:] = tasks
    return array


def sequences(
    tasks: TaskSet,
    *,
    positive: bool = False,
    classes: bool = False,
    settings: Mapping[str, Any] | None = None,
    spells: bool = True,
    fixed: bool = True,
) -> st.SearchStrategy[dict[str, Given]]:
    """Return a strategy: a sequence of tasks in some form, wrong as a whole or in one of its tasks."""
    settings = settings or {}
    pairs = [(np.array(task.X), np.array(task.y)) for task in tasks]

    @st.composite
    def draw_all(draw: st.DrawFn) -> dict[str, Given]:
        what = draw(st.sampled_from(["right", "wrong", "rows", "rows", "rows", *(["setting"] * bool(settings))]))
        if what == "setting":
            name = draw(st.sampled_from(list(settings)))
            return {"tasks": plainly(tasks), name: draw(settings[name])}
        if what == "right":
            kind = draw(st.sampled_from(list(RIGHT_TASKS)))
            return {"tasks": Given(kind, RIGHT_TASKS[kind](pairs), pairs, sure=True)}
        if what == "wrong":
            kind = draw(st.sampled_from(list(WRONG_TASKS)))
            return {"tasks": Given(kind, WRONG_TASKS[kind](pairs), pairs, refuse=True)}
        part = draw(st.sampled_from([0, 1]))
        one = draw(numbers(pairs[0][part].astype(float), spells=spells, fixed=fixed))
        hostile, plain = [list(pair) for pair in pairs], [list(pair) for pair in pairs]
        hostile[0][part], plain[0][part] = one.value, one.plain
        last = draw(st.booleans())  # where the odd one stands
        order = slice(None, None, -1) if last else slice(None)
        kind = f"{'Xy'[part]} of the {'last' if last else 'first'} task: {one.kind}"
        make = tuple if draw(st.booleans()) else list
        return {
            "tasks": Given(
                kind,
                [make(p) for p in hostile[order]],
                [tuple(p) for p in plain[order]],
                one.refuse,
                one.sure and not last,
                max(one.rtol, 1e-5),
            )
        }

    return draw_all()
