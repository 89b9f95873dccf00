"""The method ``adapt_many`` of a fitted equation."""

from typing import Any, Protocol

from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import whether_guarded
from metaest.estimators.columns import Columns, Fitted
from metaest.estimators.equations import average, many_tasks
from metaest.estimators.equations.adapted_many import AdaptedEquations
from metaest.estimators.equations.adapted_many_units import AdaptedManyUnits, adapted_many_units
from metaest.estimators.equations.adapted_units import refuse_guard
from metaest.estimators.equations.averaged import AveragedEquations, averaged_many
from metaest.estimators.equations.compiled import compiled_for_adapting
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.task_rows import support_tasks
from metaest.estimators.guard import FittedGuard
from metaest.estimators.modes import in_plain_modes

__all__ = ["adapt_many"]


class _Model(Fitted, Protocol):
    """A fitted equation regressor."""

    compile: Any
    verbose: Any
    _fitted: FittedEquation
    _further: tuple[FittedEquation, ...] | None
    _conformal: Any

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations."""

    def _warn_outside(self, values: Any, where: str) -> None:
        """Warn of values outside the ranges of a published population."""


@in_plain_modes
def adapt_many(
    self: _Model, tasks: Any, sample_weight: Any = None, *, guard: bool = False, gap: int = 0
) -> AdaptedEquations | AveragedEquations | AdaptedManyUnits:
    """Adapt to many tasks in one call, all rows of each; the same numbers as one `adapt` a task, to rounding.

    Parameters
    ----------
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows of all tasks, one task after the other, as `adapt` takes them; or the tasks carry them.
    guard : bool, default=False
        Whether to judge each adaptation as ``adapt(guard=True)`` does; one batch judges all tasks.
    gap : int, default=0
        For the guard, as in `adapt`.

    Returns
    -------
    AdaptedEquations; AveragedEquations of a model that averages structures, AdaptedManyUnits of one with levels

    Raises
    ------
    TaskError, ValueError
        When tasks or settings cannot be used; the message names task and column.
    """
    check_is_fitted(self)
    fitted = self._fitted
    if fitted.levels is not None:
        refuse_guard(bool(guard) or gap != 0, "adapt_many")
        return adapted_many_units(Columns(self), fitted, tasks, sample_weight)
    tasks = support_tasks(Columns(self), fitted, tasks, sample_weight)
    model = compiled_for_adapting(fitted, self.compile, len(tasks.X))
    posterior = many_tasks.adapt_tasks(fitted, model, tasks, verbose=bool(self.verbose))
    self._warn_outside(dict(enumerate(tasks.X.T)), "adapt_many")
    judge = self._fitted_guard(gap) if whether_guarded(guard, gap, False) else None
    guards = None if judge is None else average.answering(judge, model, self._further).judge_tasks(tasks)
    rest = Columns(self).names, self._conformal, judge, guards
    return averaged_many(AdaptedEquations(fitted, posterior, tasks, *rest), self._further)
