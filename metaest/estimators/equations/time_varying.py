"""Which constants follow columns of X from row to row: the equation of a fit, or of a population, that does so."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.equations.covariates import Covariates, TimeVaryingEquation, column_of
from metaest.estimators.equations.settings import FitSettings
from metaest.exceptions import TaskError
from metaest.population.effects import Effect
from metaest.population.parameter import Parameter, transforms_of
from metaest.tasks import TaskSet
from metaest.tasks.arguments import is_whole

__all__ = ["by_formulas", "by_learned_coefficients", "replaced"]


def by_learned_coefficients(
    settings: FitSettings, function: Any, table: Mapping[str, Parameter], tasks: TaskSet
) -> tuple[Any, dict[str, Parameter], Mapping[str, Any] | None]:
    """Return the equation of a fit with the coefficients of columns that vary within tasks among its constants.

    Parameters
    ----------
    settings : FitSettings
    function : callable
        The equation as it was given.
    table : dict of str to Parameter
        Its constants.
    tasks : TaskSet

    Returns
    -------
    function : callable
    table : dict of str to Parameter
        First the constants that were given.
    covariates : dict or None
        Those of the settings that are constant within tasks.

    Raises
    ------
    ValueError
        When a label is no covariate, or the equation says that its rows depend on those before them.
    TaskError
        When a column is the same in all rows, or columns of a constant are linearly dependent.
    """
    varying = _numbers(settings.time_varying, function, lambda label: column_of(label, tasks, "time_varying"))
    if not varying:
        return function, dict(table), settings.covariates
    names, entries = list(table), list[tuple[int, int, Any]]()
    constant: dict[str, list[Any]] = {}
    for name, wanted in (settings.covariates or {}).items():
        for label in [wanted] if isinstance(wanted, (str, int)) else list(wanted):
            column = column_of(label, tasks)
            if column in varying and name in names:
                entries.append((names.index(name), column, label))
            else:
                constant.setdefault(name, []).append(label)
    for column, label in varying.items():
        if column not in [entry[1] for entry in entries]:
            raise ValueError(
                f"time_varying: column {label!r} is no covariate of a constant; write covariates={{constant: "
                f"[{label!r}]}}."
            )
    columns = [column for _, column, _ in entries]
    mean, scale = _moments(tasks, columns)
    covariates = Covariates(
        tuple(k for k, _, _ in entries), tuple(columns), tuple(label for _, _, label in entries), mean, scale
    )
    for _, column, label in entries:
        if np.ptp(tasks.X[:, column]) == 0:
            value = float(tasks.X[0, column])
            raise TaskError(f"covariates: column {label!r} is {value:g} in every row; it cannot tell the rows apart.")
    for k in dict.fromkeys(covariates.constants):
        _require_independent(names[k], [*_labels_of(k, covariates), *constant.get(names[k], [])], tasks)
    equation = TimeVaryingEquation(function, tuple(names), transforms_of(table), covariates)
    clash = [slope for slope in equation.slopes if slope in table]
    if clash:
        raise ValueError(f"time_varying: {clash[0]!r} is the name of a constant; rename that.")
    return equation, {**table, **{slope: Parameter(0.0) for slope in equation.slopes}}, constant


def by_formulas(
    labels: Any,
    effects: Mapping[str, Sequence[Effect]],
    function: Any,
    table: Mapping[str, Parameter],
    columns: list[str],
) -> tuple[Any, Covariates]:
    """Return the equation of a population with the formulas that read a varying column, and the other formulas.

    Parameters
    ----------
    labels : sequence of str or int, str, int or None
        The setting ``time_varying``.
    effects : dict of str to tuple of Effect
        By constants.
    function : callable
        The equation as it was given.
    table : dict of str to Parameter
        Its constants.
    columns : list of str
        Columns of X.

    Raises
    ------
    ValueError
        When the population does not read a column that is said to vary, or a column is missing.
    """
    names = list(table)

    def number(label: Any) -> int:
        name = columns[label] if is_whole(label) and 0 <= label < len(columns) else label
        read = list(dict.fromkeys(c for several in effects.values() for effect in several for c in effect.columns))
        if name not in read or name not in columns:
            raise ValueError(
                f"time_varying: the population does not read a column {label!r}; it reads {', '.join(read) or 'none'}."
            )
        return columns.index(name)

    varying = {columns[j] for j in _numbers(labels, function, number)}
    by_row = {name: tuple(e for e in several if varying & set(e.columns)) for name, several in effects.items()}
    by_row = {name: several for name, several in by_row.items() if several}
    if not by_row:
        return function, Covariates.of_effects(effects, names, columns)
    others = {name: tuple(e for e in several if not varying & set(e.columns)) for name, several in effects.items()}
    covariates = Covariates.of_effects({name: several for name, several in others.items() if several}, names, columns)
    read_by_row = Covariates.of_effects(by_row, names, columns)
    # what formulas of rows read beside columns that vary is still to be the same within a task
    still = [label for label in read_by_row.labels if label not in varying and label not in covariates.labels]
    covariates = replace(
        covariates,
        columns=(*covariates.columns, *(columns.index(str(label)) for label in still)),
        labels=(*covariates.labels, *still),
    )
    return TimeVaryingEquation(function, tuple(names), transforms_of(table), read_by_row), covariates


def replaced(before: Any, function: Any) -> Any:
    """Return another equation of the same constants, whose rows have them as those of the one before have."""
    return replace(before, function=function) if isinstance(before, TimeVaryingEquation) else function


def _numbers(labels: Any, function: Any, number: Any) -> dict[int, Any]:
    """Return the user's names of the columns that vary by their numbers."""
    given = _listed(labels)
    memory = getattr(function, "memory", None)
    if given and memory:
        raise ValueError(f"time_varying: {memory}.")
    return {number(label): label for label in given}


def _listed(labels: Any) -> list[Any]:
    """Return the setting ``time_varying`` as a list."""
    if labels is None:
        return []
    if isinstance(labels, str) or is_whole(labels):
        return [labels]
    if isinstance(labels, Mapping) or not np.iterable(labels):
        raise TypeError(f"time_varying must be a list of columns, got {labels!r}; constants are those of covariates=.")
    return list(labels)


def _moments(tasks: TaskSet, columns: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of columns over all rows, each task counted alike."""
    values = tasks.X[:, columns].astype(np.float64)
    weight = np.repeat(1 / (len(tasks) * tasks.sizes), tasks.sizes)[:, None]
    mean = (weight * values).sum(axis=0)
    return mean, np.sqrt((weight * (values - mean) ** 2).sum(axis=0))


def _labels_of(k: int, covariates: Covariates) -> list[Any]:
    return [label for j, label in enumerate(covariates.labels) if covariates.constants[j] == k]


def _require_independent(name: str, labels: list[Any], tasks: TaskSet) -> None:
    """Raise a TaskError where the columns that shift one constant are linearly dependent over all rows."""
    values = tasks.X[:, [column_of(label, tasks) for label in labels]].astype(np.float64)
    away = values - values.mean(axis=0)
    size = np.abs(away).max(axis=0)
    design = np.column_stack([np.ones(len(away)), away / np.where(size > 0, size, 1.0)])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise TaskError(
            f"covariates of {name!r}: the columns {labels} are linearly dependent over all rows; leave one out."
        )
