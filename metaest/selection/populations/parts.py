"""The parts of an average: which estimators may be one, how each is fitted, and whether they speak of the same y."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.columns import Columns
from metaest.estimators.equations import EquationRegressor
from metaest.exceptions import attributed, warn
from metaest.functional import as_outcome
from metaest.selection.answers import naming
from metaest.selection.populations.columns import chosen_columns
from metaest.tasks import TaskSet
from metaest.tasks.random_state import generator_of

__all__ = [
    "fitted_part",
    "given_parts",
    "learns",
    "require_one_quantity",
    "require_same_design",
    "seed_of",
    "speaking_for",
    "tasks_of_part",
    "warn_of_seen",
]


def given_parts(estimators: Any, taken: Sequence[str]) -> dict[str, Any]:
    """Return estimators by name, checked; names of settings are `taken`.

    Raises
    ------
    ValueError, TypeError
        When they are no pairs of distinct names and models of equations.
    """
    if not isinstance(estimators, (list, tuple)) or not len(estimators):
        raise ValueError(f"estimators must be a list of pairs of a name and a model, got {estimators!r}.")
    parts: dict[str, Any] = {}
    for pair in estimators:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)):
            raise ValueError(f"estimators must be pairs of a name and a model; got {pair!r}.")
        name, model = pair
        if "__" in name or name in taken or not name:
            raise ValueError(f"estimators: the name {name!r} is empty, that of a setting, or holds '__'; rename it.")
        if name in parts:
            raise ValueError(f"estimators: the name {name!r} stands twice.")
        inner = model.estimator if isinstance(model, FrozenEstimator) else model
        if not isinstance(inner, EquationRegressor):
            raise TypeError(
                f"estimators: {name!r} must be an EquationRegressor or a model of a catalogue, whose rows have an "
                f"evidence, got {inner!r}; AutoMetaRegressor averages models of any kind."
            )
        if isinstance(model, FrozenEstimator):
            with naming(name, "part"):
                check_is_fitted(inner)
        if inner.inner_solver == "gradient":
            raise ValueError(
                f"estimators: {name!r} adapts by gradient steps (inner_solver='gradient'), which have no evidence."
            )
        if as_outcome(inner.noise) is not None:
            raise ValueError(f"estimators: observations of {name!r} are not normal (noise={inner.noise!r}).")
        parts[name] = model
    return parts


@contextmanager
def speaking_for(name: str) -> Iterator[None]:
    """Add the name of a part to errors and warnings that it raises."""
    with naming(name, "part"), attributed(f"(The part {name!r}.)"):
        yield


def learns(model: Any) -> bool:
    """Tell whether a part is fitted to tasks, and does not keep what it is."""
    if isinstance(model, FrozenEstimator):
        return False
    return model.prior is None or isinstance(model.prior_weight, str) or model.prior_weight < float("inf")


def fitted_part(name: str, model: Any, tasks: TaskSet | None) -> Any:
    """Return a fitted part; `tasks` have its columns.

    One in a FrozenEstimator is taken as it is. One that keeps a population is made anew from its settings, with the
    columns that it had.

    Raises
    ------
    ValueError
        When it has to learn, and there are no tasks.
    """
    if isinstance(model, FrozenEstimator):
        return model.estimator
    with speaking_for(name):
        if tasks is not None:
            return clone(model).fit(tasks)
        if model.prior is None:
            raise ValueError(
                f"estimators: {name!r} learns from tasks, and none were given: pass tasks to fit, put the fitted model "
                f"into a FrozenEstimator, or let it keep a population (from_population)."
            )
        columns = _columns_of_fit(model)
        no_rows: Any = [] if columns is None else pd.DataFrame(columns=columns)
        return clone(model).fit(no_rows)


def tasks_of_part(name: str, models: Mapping[str, Any], tasks: TaskSet) -> TaskSet:
    """Return tasks with the columns of a part: those that its population or its fit names, and those that no part does.

    A part that learns without a population reads all columns.
    """
    names = tasks.feature_names
    stated = {part: _stated_columns(model) for part, model in models.items()}
    of_part = stated[name]
    if names is None or not of_part:
        return tasks
    elsewhere = {column for columns in stated.values() for column in columns}
    wanted = [j for j, column in enumerate(names) if column in of_part or column not in elsewhere]
    # a function reads columns by their place
    order = {column: place for place, column in enumerate(of_part)}
    wanted.sort(key=lambda j: order.get(names[j], len(order)))
    return chosen_columns(tasks, wanted, names)


def _stated_columns(model: Any) -> list[str]:
    """Return the columns of X that a part names before it sees tasks."""
    inner = model.estimator if isinstance(model, FrozenEstimator) else model
    population = list(inner.prior.columns) if inner.prior is not None else []
    of_fit = (_columns_of_fit(inner) or []) if population or isinstance(model, FrozenEstimator) else []
    return list(dict.fromkeys([*population, *of_fit]))


def _columns_of_fit(model: Any) -> list[str] | None:
    """Return the names of the columns that a model was fitted on; None where it was not, or they had none."""
    names = Columns(model).names if hasattr(model, "n_features_in_") else None
    return None if names is None else list(names)


def warn_of_seen(name: str, model: Any, tasks: TaskSet) -> None:
    """Warn where a frozen part was fitted on a task, so that what is learned from the task favours the part."""
    seen = model.estimator._seen if isinstance(model, FrozenEstimator) else None
    i = None if seen is None else seen.first_seen(tasks)
    if i is not None:
        warn(
            f"fit: the part {name!r} was fitted on task {tasks.name_of(i)!r}, whose rows are more probable under it "
            "than those of a new task; weights and temperature favour it. Pass other tasks, or state weights= and "
            "temperature=."
        )


def require_one_quantity(models: Mapping[str, Any]) -> None:
    """Raise a ValueError where parts say that y, or a column of X, is in different units, or have other limits.

    Only populations state units; a model without one is not asked.
    """
    targets: dict[str, str] = {}
    columns: dict[str, tuple[str, str]] = {}
    first = next(iter(models))
    for name, model in models.items():
        if model._fitted.outputs or model._fitted.bounds.by_column:
            raise ValueError(
                f"estimators: {name!r} has several outputs, or limits of rows in a column; an average of such "
                "populations is not implemented."
            )
        if model.limit_ != models[first].limit_:
            raise ValueError(
                f"estimators: {first!r} has limit={models[first].limit_!r}, and {name!r} limit={model.limit_!r}: "
                "evidence of the same rows is compared, which needs one limit of quantification."
            )
        population = model._published
        if population is None:
            continue
        if population.target:
            targets[name] = population.target
            other = next(iter(targets))
            if targets[other] != population.target:
                raise ValueError(
                    f"estimators: y is in {targets[other]} for {other!r}, and in {population.target} for {name!r}; "
                    "convert one of the populations."
                )
        for column, unit in population.columns.items():
            other, stated = columns.setdefault(column, (name, unit))
            if unit and stated and unit != stated:
                raise ValueError(
                    f"estimators: the column {column!r} is in {stated} for {other!r}, and in {unit} for {name!r}; "
                    "rename or convert one of them."
                )
            if unit and not stated:
                columns[column] = name, unit


def require_same_design(models: Mapping[str, Any]) -> None:
    """Raise a ValueError where a part would read a column that another part has, and it has none of.

    A part takes the columns of its fit and leaves those of others, such as a covariate that it does not know. Some
    equations read columns beyond those of their fit, such as further doses (``arrange``): to leave these would be to
    forget doses in silence.
    """
    columns = {name: _columns_of_fit(model) or [] for name, model in models.items()}
    for name, model in models.items():
        arrange = getattr(model.equation_, "arrange", None)
        if arrange is None or not columns[name]:
            continue
        for other, theirs in columns.items():
            for column in theirs:
                if column not in columns[name] and _reads(arrange, columns[name], column):
                    raise ValueError(
                        f"estimators: {other!r} has the column {column!r}, which {name!r} reads as well and was not "
                        "made for; make both for the same columns, such as for as many doses (n_doses=)."
                    )


def _reads(arrange: Any, columns: list[str], further: str) -> bool:
    """Tell whether an equation reads a column that its fit did not have."""
    frame = pd.DataFrame(1.0, index=range(1), columns=[*columns, further])
    try:
        return arrange(frame, columns) is not None
    except ValueError:  # it lacks another one beside it
        return True


def seed_of(random_state: Any) -> int:
    """Return the seed of a fit."""
    return int(generator_of(random_state).randint(2**31 - 1))
