"""What guards, scores and conformal intervals ask of a fitted equation; methods of ``EquationRegressor``."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.columns import Columns
from metaest.estimators.equations import average, censoring
from metaest.estimators.equations.noises import book_of, output_column
from metaest.estimators.equations.outcomes import require_scores
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.equations.task_rows import limits_of_tasks, rows_to_predict
from metaest.estimators.guard import FittedGuard, learned_guard
from metaest.functional.equations.outputs import OutputEquations
from metaest.tasks import TaskSet

__all__ = ["as_recorded", "fitted_guard", "limited", "one_equation", "query_predictions"]


def limited(self: Any, tasks: TaskSet) -> TaskSet:
    """Return the tasks of a fit with one number for all observations beyond a limit."""
    bounds = censoring.bounds_of(self, tasks.feature_names)
    censoring.warn_of_values_at_limit(bounds, tasks.X, tasks.y, "fit")
    return limits_of_tasks(bounds, tasks, logarithmic=FitSettings.of(self).logarithmic)


def query_predictions(
    self: Any, tasks: TaskSet, rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Adapt to the support of every task and predict its query."""
    require_scores(self._fitted.model.noise)
    verbose = bool(self.verbose)
    fitted = self._fitted
    if fitted.levels is not None:
        split = self.support_size, self.split, rng
        predicted: tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]
        predicted = fitted.levels.query_predictions(Columns(self), fitted, tasks, split)
        return predicted
    return average.query_predictions(self._members, tasks, self.support_size, self.split, rng, verbose=verbose)


def as_recorded(self: Any, truth: NDArray[Any], prediction: NDArray[Any], X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return targets and predictions of rows X as they are compared: equal where both lie beyond a limit."""
    bounds = self._fitted.bounds
    if not bounds.censors:
        return truth, prediction
    rows = rows_to_predict(Columns(self), self._fitted, X, "score") if bounds.by_column else np.empty((len(truth), 0))
    levels = self._fitted.levels
    rows = rows if levels is None or not bounds.by_column else levels.columns.split(rows)[1]
    truth = censoring.coded(bounds, rows, truth)
    return truth, censoring.as_recorded(bounds, rows, truth, prediction)


def fitted_guard(self: Any, gap: int) -> FittedGuard:
    """Return what judges adaptations; it is learned once from the training tasks."""
    if not self.n_tasks_ and self._judged is None and (gap, self.split) not in self._judges:
        raise ValueError(
            "guard: this model has a population and no training tasks; learn it from simulated ones by "
            "learn_guard(tasks=model.simulate_tasks(designs, n)), or adapt without it (guard=False)."
        )
    require_scores(self._fitted.model.noise, "guard")
    answer, settings = average.asking(self._members), (gap, self.split, self._seed)
    return learned_guard(answer, self._judged, self._judges, *settings, verbose=bool(self.verbose))


def one_equation(self: Any, names: Any, n_columns: int, tasks: TaskSet | None = None) -> Any:
    """Return the equation as it was given, or one that gives each row the curve of its output.

    `tasks` say what the numbers of outputs in words are; without them a population does.
    """
    if not isinstance(self.equation, Mapping):
        return self.equation
    if self.output is None:
        raise ValueError("equation: one for each output needs output=, the column of X with the output of each row.")
    for label, equation in self.equation.items():
        if not callable(equation):
            raise TypeError(f"equation: that of output {label!r} must be a function, got {equation!r}.")
    column = output_column(self.output, names, n_columns).number
    book = None if tasks is None else book_of(tasks, column)
    numbers = {} if book is None else {label: float(code) for code, label in enumerate(book)}
    if self.prior is not None:
        numbers = dict(self.prior.noise.codes)
    codes: list[Any] = [numbers.get(label, label) for label in self.equation]
    for label, code in zip(self.equation, codes, strict=True):
        if not isinstance(code, Real):
            raise ValueError(
                f"equation: no row has the output {label!r}; read tasks whose outputs are words by "
                "TaskSet.from_frame(..., output=)."
            )
    return OutputEquations(tuple(self.equation.values()), tuple(map(float, codes)), column)
