"""How a fitted equation adapts: to one task, with or without a guard, or to many."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import whether_guarded
from metaest.estimators.conformal import IntervalMixin, one_by_one
from metaest.estimators.equations.adapted import AdaptedEquation, prior_of
from metaest.estimators.equations.adapted_many import AdaptedEquations, posterior_of_many
from metaest.estimators.equations.answers import spread_of_observations
from metaest.estimators.equations.batches import whole
from metaest.estimators.equations.censoring import as_recorded, ask_about_limit, just_below, without_codes
from metaest.estimators.equations.checks import adapt_rows, arranged, warn_of_many
from metaest.estimators.equations.compiled import in_lanes
from metaest.estimators.equations.fitted import Calibrated
from metaest.estimators.equations.results import query_predictions
from metaest.estimators.equations.row_accuracy import relative_accuracy
from metaest.estimators.guard import Answers, FittedGuard, require_rows, spread_of
from metaest.estimators.inputs import as_tasks, check_columns, check_support_rows, check_targets, require_columns
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.pickles import HoldsRows
from metaest.tasks import TaskSet

__all__ = ["Adapting"]


class Adapting(IntervalMixin, HoldsRows):
    """Adaptations of a fitted equation."""

    compile: Any
    _calibrated: Calibrated
    _judged: TaskSet | None
    _judges: dict[Any, FittedGuard]

    _weighs = True

    @in_plain_modes
    def adapt(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        guard: bool | None = None,
        gap: int = 0,
        covariates: Mapping[Any, float] | None = None,
    ) -> AdaptedEquation:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            Without rows (``adapt([], [])``) the task is one of which nothing is known yet: its constants are the
            population's, and vary as they do between tasks.
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), optional
            Known accuracy of the rows: their noise has the variance of the fit over their weight, so that weights must
            be on the scale of the fit's. 1 by default; a row of weight 0 is left out.
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it; see
            :class:`Guard`; None is no. What is kept is a share of the way from the population's constants. The first
            call learns from the training tasks how to judge, which takes a moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on.
        covariates : dict, optional
            For a task without rows: what is known of it, by columns of X. The covariates of the fit are needed; rows
            bring their own.

        Returns
        -------
        AdaptedEquation

        Raises
        ------
        TaskError
            When the rows cannot be used, or the equation is not finite there.
        ValueError
            When gap is no number of rows, or covariates come beside rows.

        Warns
        -----
        IdentifiabilityWarning
            When the rows say less about a constant than the population does; it names the constant.
        UnlikelyTaskWarning, ConvergenceWarning
            When no curve of the population comes near the rows, or the search did not converge.
        """
        check_is_fitted(self)
        X, further = arranged(self, self._calibrated.model.equation.function, X, "adapt")
        rows, target = check_support_rows(self, True, X, y, "adapt")
        rows = rows if further is None else np.column_stack([rows, further])
        ask_about_limit(self._calibrated.model.noise.limit, target, "adapt")
        target = just_below(self._calibrated.model.noise.limit, target)
        rows, target, weight = self._calibrated.weighing.kept(rows, target, sample_weight, "adapt")
        names = getattr(self, "feature_names_in_", None)
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, self.guard_by_default) else None
        calibrated, stated = self._calibrated, None
        if len(rows):
            if covariates is not None:
                raise ValueError("adapt: covariates= is for a task without rows; these rows bring their own.")
            # compiled code is for the columns of the fit
            model = in_lanes(calibrated, self.compile, len(rows)) if further is None else calibrated
            posterior = adapt_rows(model, rows, target, "adapt", weight)
        else:
            stated = calibrated.covariates.stated(covariates, names, rows.shape[1])
            posterior = prior_of(calibrated, calibrated.covariates.of_stated(stated))
        n = self.n_features_in_  # type: ignore[attr-defined]
        kept = None if judge is None else self._compiled(judge, len(rows)).judge(rows, target, weight)
        return AdaptedEquation._make(
            calibrated, posterior, rows, target, n, names, judge, self._conformal, stated, weight, kept
        )

    @in_plain_modes
    def adapt_many(
        self, tasks: Any, sample_weight: Any = None, *, guard: bool = False, gap: int = 0
    ) -> AdaptedEquations:
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
        AdaptedEquations

        Raises
        ------
        TaskError
            When the tasks cannot be used; the message names task and column.
        ValueError
            When gap is no number of rows.
        """
        check_is_fitted(self)
        tasks = require_columns(as_tasks(tasks, weighs=True, sample_weight=sample_weight))
        if tasks.sample_weight is None:
            self._calibrated.weighing.warn_of_ones("adapt_many")
        check_columns(self, tasks, tasks.X.shape[1:], "adapt_many")
        check_targets(tasks.y, True, 1, "adapt_many")
        ask_about_limit(self._calibrated.model.noise.limit, tasks.y, "adapt_many")
        tasks = self._prepared(tasks)
        posterior = posterior_of_many(
            in_lanes(self._calibrated, self.compile, len(tasks.X)),
            tasks,
            verbose=bool(self.verbose),
        )
        warn_of_many(self._calibrated, posterior, tasks.names)
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, False) else None
        guards = None if judge is None else self._compiled(judge, len(tasks.X)).judge_tasks(tasks)
        return AdaptedEquations(self._calibrated, posterior, tasks, self, judge, guards)

    def _prepared(self, tasks: TaskSet) -> TaskSet:
        return without_codes(tasks, self._calibrated.model.noise.limit)

    def _adapted(self, supports: TaskSet, guard: bool, gap: int) -> Sequence[AdaptedEquation]:
        return one_by_one(self, supports, guard, gap) if guard else self.adapt_many(supports)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        mean, sd = self.predict(X, return_std=True)  # type: ignore[attr-defined]
        weight = self._calibrated.weighing.of_new_rows(sample_weight, len(mean), "predict_interval")
        rows = self._rows(X, "predict_interval")  # type: ignore[attr-defined]
        return mean, spread_of_observations(self._calibrated, mean, sd, rows, weight)

    def _compiled(self, judge: FittedGuard, n_rows: int) -> FittedGuard:
        """Return the same judge, its adaptations in machine code where those of the rows are."""
        model = in_lanes(self._calibrated, self.compile, n_rows)
        return judge if model is self._calibrated else replace(judge, answer=partial(_answers, model))

    def _fitted_guard(self, gap: int) -> FittedGuard:
        """Return what judges adaptations; it is learned once from the training tasks."""
        key = gap, self.split
        if key not in self._judges:
            learned = (f"gap={own}, split={split!r}" for own, split in self._judges)
            require_rows(self._judged, learned, f"gap={gap}, split={self.split!r}")
            assert self._judged is not None
            self._judges[key] = FittedGuard.learn(
                partial(_answers, self._calibrated),
                self._judged,
                spread_of(self._judged.y.reshape(-1)),
                ordered=self.split == "first",
                gap=int(gap),
                least=1,
                seed=self._seed,
                verbose=bool(self.verbose),
            )
        return self._judges[key]


def _answers(calibrated: Calibrated, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for a judge."""
    truth, adapted, rows = query_predictions(calibrated, tasks, None, "random", np.random.default_rng(0))
    design = calibrated.covariates.design(calibrated.covariates.of_tasks(tasks), len(calibrated.table))
    center = design.center(calibrated.population.beta, len(calibrated.table))
    observations = whole(tasks)
    with torch.no_grad():
        curves = calibrated.model.curve(center, observations)
        log_sigma = calibrated.population.log_sigma
        accuracy = relative_accuracy(calibrated.model.noise, curves, log_sigma, observations)
    kept = observations.mask.T.numpy() > 0
    population = as_recorded(calibrated.model.noise.limit, truth, curves.T.numpy()[kept][rows])
    weight = None if accuracy is None else accuracy.T.numpy()[kept][rows]
    return Answers(truth[:, None], adapted[:, None], population[:, None], rows, weight)
