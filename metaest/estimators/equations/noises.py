"""The noise of a fit, from settings and observations: its kind, floors and limits, of one output or of several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.columns import chosen_columns
from metaest.estimators.equations.outcomes import outcome_for
from metaest.estimators.equations.settings import FitSettings
from metaest.exceptions import TaskError
from metaest.functional import Correlation, Noise, Outcome
from metaest.functional.equations.censoring import Bounds, Column
from metaest.functional.equations.noise import MOST_POWER
from metaest.functional.equations.outputs import OutputNoise
from metaest.tasks import TaskSet
from metaest.tasks.level_labels import has_labels

__all__ = [
    "book_of",
    "check_outputs",
    "noise_of",
    "numbered_outputs",
    "output_column",
    "smallest_noise",
    "tasks_in_words",
    "tasks_with_numbers",
]

# smallest noise, as a share of the spread of the targets, or of the curve
NOISE_FLOOR = 1e-6
# smallest size of the curve in proportional noise, as a share of the root mean square of the targets
SMALLEST_CURVE = 1e-3
# standard deviation of equal numbers, as a share of their size, that rounding explains
ROUNDING = 1e-12
# outputs from which a column is hardly one of outputs
MANY = 20


def noise_of(
    settings: FitSettings, tasks: TaskSet, bounds: Bounds, column: int | None, correlation: Correlation | None
) -> Noise:
    """Return the noise of a fit.

    Parameters
    ----------
    settings : FitSettings
    tasks : TaskSet
    bounds : Bounds
        Limits of quantification.
    column : int or None
        The column of standard deviations of measurements.
    correlation : Correlation or None
    """
    if settings.outcome is not None:
        return outcome_for(settings.outcome, tasks)
    y = tasks.y.astype(np.float64).reshape(-1)
    rest = bounds.limit, column, correlation, bounds.limit_from, bounds.upper_limit
    if settings.output is None:
        return Noise(settings.noise, _smallest_curve(y), *rest)  # type: ignore[arg-type]
    by = output_column(settings.output, tasks.feature_names, tasks.X.shape[1])
    codes = [float(code) for code in np.unique(tasks.X[:, by.number])]
    if len(codes) > MANY:
        raise TaskError(
            f"output: column {settings.output!r} has {len(codes)} different values; is it the output of a row?"
        )
    labels = _labels(codes, book_of(tasks, by.number))
    kinds = _kinds(settings.noise, labels)  # type: ignore[arg-type]
    of_each = [y[tasks.X[:, by.number] == code] for code in codes]
    logarithmic = settings.logarithmic
    return OutputNoise(
        "lognormal" if logarithmic else "additive",
        min(_smallest_curve(values) for values in of_each),
        *rest,
        parts=tuple(Noise(kind, _smallest_curve(v)) for kind, v in zip(kinds, of_each, strict=True)),  # type: ignore[arg-type]
        codes=tuple(codes),
        labels=tuple(labels),
        by=by,
        spreads=tuple(_spread(np.log(values) if logarithmic else values) for values in of_each),
    )


def output_column(label: str | int, names: Any, n_columns: int) -> Column:
    """Return the column of X that holds the output of each row."""
    (number,) = chosen_columns([label], "output", names, n_columns)
    return Column(number, str(label if names is None else names[number]))


def book_of(tasks: TaskSet, column: int) -> tuple[Any, ...] | None:
    """Return what the numbers 0, 1, 2, ... of a column stand for, where its outputs were words."""
    name = None if tasks.feature_names is None else tasks.feature_names[column]
    return (tasks.level_labels or {}).get(name)  # type: ignore[arg-type]


def _labels(codes: list[float], book: tuple[Any, ...] | None) -> list[Any]:
    if book is not None:
        return [book[int(code)] for code in codes]
    return [int(code) if code.is_integer() else code for code in codes]


def numbered_outputs(noise: Noise, X: Any, where: str) -> Any:
    """Return a data frame with numbers for the words of its column of outputs; anything else as it is."""
    if not isinstance(noise, OutputNoise) or not isinstance(X, pd.DataFrame) or noise.by.label not in X.columns:
        return X
    column = X[noise.by.label]
    if not has_labels(column):
        if len(column) and all(isinstance(label, str) for label in noise.labels):
            raise TaskError(
                f"{where}: column {noise.by.label!r} holds the number {column.iloc[0]} in row {column.index[0]}, and "
                f"the outputs of the fit are {', '.join(map(str, noise.labels))}; a data frame holds these words."
            )
        return X
    return X.assign(**{noise.by.label: _numbers(noise, column.tolist(), where)})


def tasks_with_numbers(noise: Noise, tasks: TaskSet, where: str = "") -> TaskSet:
    """Return tasks whose outputs have the numbers of the fit, where they were read as words."""
    if not isinstance(noise, OutputNoise):
        return tasks
    book = book_of(tasks, noise.by.number)
    if book is None:
        return tasks
    numbers = np.array(_numbers(noise, list(book), where or "outputs"))
    X = tasks.X.astype(np.float64)
    X[:, noise.by.number] = numbers[X[:, noise.by.number].astype(np.intp)]
    kept = {name: labels for name, labels in (tasks.level_labels or {}).items() if labels is not book}
    return TaskSet.from_checked(
        X,
        tasks.y,
        tasks.offsets,
        tasks.names,
        feature_names=tasks.feature_names,
        target_names=tasks.target_names,
        support=tasks._support,
        sample_weight=tasks.sample_weight,
        level_labels=kept or None,
    )


def tasks_in_words(noise: Noise, tasks: TaskSet) -> TaskSet:
    """Return tasks with numbers of a fit that say for which words these stand, where its outputs were words."""
    if not isinstance(noise, OutputNoise) or not any(isinstance(label, str) for label in noise.labels):
        return tasks
    by_code = dict(zip(noise.codes, noise.labels, strict=True))
    book = tuple(by_code.get(float(code)) for code in range(int(max(by_code)) + 1))
    return tasks.with_level_labels({noise.by.label: book})


def _numbers(noise: OutputNoise, labels: list[Any], where: str) -> list[float]:
    codes = dict(zip(noise.labels, noise.codes, strict=True))
    for row, label in enumerate(labels):
        if label not in codes:
            raise TaskError(
                f"{where}: column {noise.by.label!r} holds {label!r} (number {row}), and the outputs of the fit are "
                f"{', '.join(map(str, noise.labels))}."
            )
    return [codes[label] for label in labels]


def check_outputs(noise: Noise, X: NDArray[Any], where: str) -> None:
    """Raise a TaskError where a row of one task belongs to an output that the fit did not have."""
    if not isinstance(noise, OutputNoise):
        return
    bad = np.flatnonzero(~np.isin(X[:, noise.by.number], noise.codes))
    if len(bad):
        raise TaskError(
            f"{where}: column {noise.by.label!r} is {X[bad[0], noise.by.number]:g} in row {bad[0]}, and the outputs of "
            f"the fit are {', '.join(map(str, noise.labels))}."
        )


def smallest_noise(noise: Noise, size: float) -> Tensor:
    """Return lower bounds of the noise constants, for targets of a spread `size` on the scale of the noise."""
    if isinstance(noise, OutputNoise):
        of_each = zip(noise.parts, noise.spreads, strict=True)
        return torch.cat([smallest_noise(part, spread) for part, spread in of_each])
    if isinstance(noise, Outcome):
        least = [max(low, math.log(NOISE_FLOOR * size)) for low in noise.smallest[: noise.n_scales]]
        return torch.tensor(least + noise.smallest[noise.n_scales :], dtype=torch.float64)
    in_units_of_y = [True, False] if noise.n_scales == 2 else [noise.kind != "proportional"]
    smallest = [math.log(NOISE_FLOOR * size if of_y else NOISE_FLOOR) for of_y in in_units_of_y]
    smallest += [-MOST_POWER] if noise.kind == "power" else []
    smallest += [] if noise.correlation is None else [noise.correlation.bounds[0]]
    return torch.tensor(smallest, dtype=torch.float64)


def _kinds(noise: str | Mapping[Any, str], labels: list[Any]) -> list[str]:
    """Return the kind of noise of each output, or raise a ValueError where they are not those of the tasks."""
    if isinstance(noise, str):
        return [noise] * len(labels)
    for label in labels:
        if label not in noise:
            raise ValueError(f"noise: the output {label!r} has none; the tasks have {labels}, noise has {list(noise)}.")
    for label in noise:
        if label not in labels:
            raise ValueError(f"noise: no row has the output {label!r}; the tasks have {labels}.")
    return [noise[label] for label in labels]


def _smallest_curve(y: NDArray[np.float64]) -> float:
    return SMALLEST_CURVE * float(np.sqrt(np.square(y).mean()))


def _spread(y: NDArray[np.float64]) -> float:
    """Return the standard deviation of observations; their size where all are the same, and one where that is 0."""
    spread, size = float(y.std()), float(np.abs(y).max())
    return spread if spread > ROUNDING * size else size or 1.0
