"""Requests as the server reads them, from the objects that clients send."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metaest.server.columns import Column, Columns, read_numbers
from metaest.server.errors import Refused

__all__ = ["Adaptation", "Prediction", "Reader"]

Rows = NDArray[np.float64] | pd.DataFrame


@dataclass(frozen=True, eq=False)
class Adaptation:
    """One task to adapt to.

    Attributes
    ----------
    X, y, weight
        Its rows; `weight` is None where all are 1.
    predict : rows or None
        Rows to predict.
    level : float or None
        Of intervals around predictions.
    method : str or None
        Of these intervals; None is the model's first.
    std, constants : bool
        Whether standard deviations of predictions, and the constants of an equation, are wanted.
    guard : bool or None
        None as the model does by default.
    keep, delta : bool
        Whether the predictor is kept here, or sent.
    """

    X: Rows
    y: NDArray[Any]
    weight: NDArray[np.float64] | None = None
    predict: Rows | None = None
    level: float | None = None
    method: str | None = None
    std: bool = False
    constants: bool = False
    guard: bool | None = None
    keep: bool = False
    delta: bool = False


@dataclass(frozen=True, eq=False)
class Prediction:
    """Rows to predict for a task: that of a kept predictor, that of a delta, or one of which nothing is known."""

    X: Rows
    id: str | None = None
    delta: str | None = None
    level: float | None = None
    method: str | None = None
    std: bool = False


@dataclass(frozen=True)
class Reader:
    """Reads requests to one model.

    Attributes
    ----------
    columns : Columns
    targets : tuple of Column
    labels : bool
        Whether y holds labels.
    weighs : bool
        Whether rows may have weights.
    methods : tuple of str
        Of intervals.
    spreads : bool
        Whether predictions have a standard deviation.
    constants : bool
        Whether there are constants to report.
    keeps : bool
        Whether predictors can be kept.
    max_tasks : int
    """

    columns: Columns
    targets: tuple[Column, ...]
    labels: bool
    weighs: bool
    methods: tuple[str, ...]
    spreads: bool
    constants: bool
    keeps: bool
    max_tasks: int

    def adaptation(self, body: Any) -> Adaptation:
        """Read one task to adapt to."""
        allowed = ["X", "y", "predict", "guard"]
        allowed += ["sample_weight"] * self.weighs + ["constants"] * self.constants
        allowed += ["keep"] * self.keeps + ["delta"] + self._of_predictions()
        _require(body, allowed, ("X", "y"))
        X = self.columns.read(body["X"], "X")
        y = self._y(body["y"], len(X))
        weight = None
        if "sample_weight" in body:
            weight = _vector(body["sample_weight"], "sample_weight", len(X))
        predict = self.columns.read(body["predict"], "predict") if "predict" in body else None
        if predict is not None and not len(predict):
            predict = None
        for name in ("interval", "std"):
            if predict is None and body.get(name):
                raise Refused("invalid", f"{name} belongs to rows to be predicted; send them as predict.", field=name)
        guard = body.get("guard")
        if guard is not None:
            guard = _flag(body, "guard")
        return Adaptation(
            X,
            y,
            weight,
            predict,
            **self._wanted(body),
            constants=_flag(body, "constants"),
            guard=guard,
            keep=_flag(body, "keep"),
            delta=_flag(body, "delta"),
        )

    def adaptations(self, body: Any) -> list[Adaptation]:
        """Read many tasks to adapt to."""
        _require(body, ["tasks"], ("tasks",))
        tasks = body["tasks"]
        if type(tasks) is not list or not tasks:
            raise Refused("invalid", "tasks must be an array of at least one task.", field="tasks")
        if len(tasks) > self.max_tasks:
            raise Refused(
                "too_many", f"there are {len(tasks)} tasks; at most {self.max_tasks} are taken.", field="tasks"
            )
        read = []
        for i, task in enumerate(tasks):
            try:
                read.append(self.adaptation(task))
            except Refused as refused:
                raise refused.of_task(i) from None
        return read

    def prediction(self, body: Any) -> Prediction:
        """Read rows to predict."""
        allowed = ["X", *["id"] * self.keeps, "delta", *self._of_predictions()]
        _require(body, allowed, ("X",))
        given = [name for name in ("id", "delta") if name in body]
        if len(given) > 1:
            raise Refused("invalid", "id and delta both name a predictor; send one of them.", field="delta")
        for name in given:
            if type(body[name]) is not str:
                raise Refused("invalid", f"{name} must be a string.", field=name)
        X = self.columns.read(body["X"], "X")
        if not len(X):
            raise Refused("invalid", "X has no rows; at least one is wanted.", field="X")
        return Prediction(X, body.get("id"), body.get("delta"), **self._wanted(body))

    def _of_predictions(self) -> list[str]:
        return ["std"] * self.spreads + ["interval", "method"] * bool(self.methods)

    def _wanted(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what is wanted of predictions."""
        level, method = body.get("interval"), body.get("method")
        if "interval" in body and (type(level) is not float or not 0 < level < 1):
            raise Refused("invalid", "interval must be a number between 0 and 1, such as 0.9.", field="interval")
        if "method" in body:
            if method not in self.methods:
                why = " (this model was not calibrated)" if method == "conformal" else ""
                raise Refused("invalid", f"method must be {' or '.join(self.methods)}{why}.", field="method")
            if level is None:
                raise Refused("invalid", "method needs interval; state it as well.", field="method")
        return {"level": level, "method": method, "std": _flag(body, "std")}

    def _y(self, y: Any, n: int) -> NDArray[Any]:
        if self.labels:
            return _labels(y, n)
        if len(self.targets) == 1:
            values = _vector(y, "y", n)
            self.targets[0].require(values, "y", None)
            return values
        if type(y) is not list or len(y) != n:
            raise Refused("invalid", f"y must be an array with one value for each of the {n} rows of X.", field="y")
        k = len(self.targets)
        for i, row in enumerate(y):
            if type(row) is not list or len(row) != k:
                raise Refused("invalid", f"y: row {i} must be an array of {k} numbers.", field="y", row=i)
        if not n:
            return np.empty((0, k))
        values = read_numbers(y, "y", [target.name for target in self.targets])
        for j, target in enumerate(self.targets):
            target.require(values[:, j], "y", target.name)
        return values


def _require(body: Any, allowed: list[str], needed: tuple[str, ...]) -> None:
    if type(body) is not dict:
        wanted = ", ".join(f'"{name}": [...]' for name in needed)
        raise Refused("invalid", f"an object is wanted: {{{wanted}}}.")
    for name in needed:
        if name not in body:
            raise Refused("invalid", f"{name} is missing.", field=name)
    for name in body:
        if name not in allowed:
            raise Refused(
                "invalid", f"there is no field {name[:40]!r}; there are {', '.join(allowed)}.", field=name[:100]
            )


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if type(value) is not bool:
        raise Refused("invalid", f"{name} must be true or false.", field=name)
    return value


def _vector(values: Any, field: str, n: int) -> NDArray[np.float64]:
    _require_length(values, field, n)
    return read_numbers([[value] for value in values], field, [])[:, 0] if n else np.empty(0)


def _require_length(values: Any, field: str, n: int) -> None:
    if type(values) is not list:
        raise Refused("invalid", f"{field} must be an array with one value for each row of X.", field=field)
    if len(values) != n:
        raise Refused("invalid", f"{field} has {len(values)} values, but X has {n} rows.", field=field)


def _labels(y: Any, n: int) -> NDArray[Any]:
    """Return labels, all strings or all numbers."""
    _require_length(y, "y", n)
    kinds = set(map(type, y))
    if kinds == {str}:
        return np.array(y)
    if kinds == {bool}:
        return np.array(y)
    for i, value in enumerate(y):
        if type(value) not in (int, float):
            if type(value) is str or type(value) is bool:
                raise Refused("invalid", f"y: row {i} is of another kind than the row before.", field="y", row=i)
            raise Refused("invalid", f"y: row {i} is no label; a string or a number is wanted.", field="y", row=i)
    if kinds <= {int} and all(abs(value) < 2**63 for value in y):
        return np.array(y, dtype=np.int64)
    return read_numbers([[value] for value in y], "y", [])[:, 0]
