"""AveragedEquation and AveragedEquations: one equation in several structures, adapted to one task or to many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.arguments import check_interval, require_count, require_flag
from metaest.estimators.conformal import conformal_interval
from metaest.estimators.equations.adapted import AdaptedEquation
from metaest.estimators.equations.answers import MOST_SIMULATED
from metaest.estimators.equations.average import Part, intervals, mean_curves, mixture, simulations, spread
from metaest.estimators.equations.checks import require_finite_curve
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.many_tasks import posterior_of_many
from metaest.estimators.equations.task_rows import adapt_rows
from metaest.estimators.guard import Guard
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.predictor import AdaptedPredictor, AdaptedPredictors
from metaest.exceptions import quiet
from metaest.tasks.random_state import generator_of

__all__ = ["AveragedEquation", "AveragedEquations", "averaged", "averaged_many"]

# AdaptedEquations, whose file lies above this one
M = TypeVar("M", bound=Any)

# what is asked of the best structure, and not of the average
_OF_THE_BEST = (
    "params_", "derived_", "laplace_share_", "equation_", "limit_", "covariate_columns_", "stated_covariates_",
    "sample_weight_support_", "feature_names_in_", "_fitted", "_conformal", "check_covariates", "suggest", "profile",
    "derive", "derive_draws",
)  # fmt: skip


def averaged(best: AdaptedEquation, others: Sequence[FittedEquation] | None) -> AdaptedEquation | AveragedEquation:
    """Return the average of an adapted equation and others, adapted to the same rows; without others, the first."""
    if not others:
        return best
    X, y, weight, stated = best.X_support_, best.y_support_, best.sample_weight_support_, dict(best._stated)
    names, members = getattr(best, "feature_names_in_", None), [best]
    for fitted in others:
        if len(X):
            with quiet(UserWarning):  # the best structure has said it
                posterior = adapt_rows(fitted, X, y, "adapt", weight)
        else:
            posterior = fitted.prior_of(fitted.covariates.of_stated(stated))
        rest = best.n_features_in_, names, best._judge, best._conformal, stated, weight, best.guard_
        members.append(AdaptedEquation._make(fitted, posterior, X, y, *rest))
    return AveragedEquation(tuple(members), X, y, best.n_features_in_, best.guard_)


def averaged_many(best: M, others: Sequence[FittedEquation] | None) -> M | AveragedEquations:
    """Return averages for the tasks of AdaptedEquations and others; without others, the first."""
    if not others:
        return best
    members, names = [best], getattr(best, "feature_names_in_", None)
    for fitted in others:
        posterior = posterior_of_many(fitted, best.tasks)
        rest = names, best._conformal, best._judge, best.guards_
        members.append(type(best)(fitted, posterior, best.tasks, *rest))
    return AveragedEquations(tuple(members))


@dataclass(frozen=True, eq=False, repr=False)
class AveragedEquation(AdaptedPredictor):
    """One equation in several structures (noise, covariance, varying constants) adapted to one task, and averaged.

    Curves are the mean of those of the members; standard deviations, intervals and simulated observations are of the
    mixture in equal parts. Constants (``params_``, ``derived_``, ``derive``, ``profile``, ``suggest`` and all else that
    an :class:`AdaptedEquation` has) are those of the best structure: the mean of curves has none of its own.

    Attributes
    ----------
    members_ : tuple of AdaptedEquation
        The best structure first.
    X_support_, y_support_ : ndarray
        The support rows; there may be none.
    n_features_in_ : int
    guard_ : Guard or None
        The guard's decision on the average, which every member follows.

    See Also
    --------
    EquationRegressor : The model whose ``adapt`` makes it, with ``noise="auto"``, ``covariance`` or ``random``.
    """

    members_: tuple[AdaptedEquation, ...]
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int
    guard_: Guard | None = None
    _multi_output = False

    def __getattr__(self, name: str) -> Any:
        if name in _OF_THE_BEST:
            return getattr(self.members_[0], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def _further(self) -> tuple[FittedEquation, ...]:
        """The equations beside the best, as the model has them."""
        return tuple(one._fitted for one in self.members_[1:])

    @property
    def n_outputs_(self) -> int:
        """Number of targets: 1."""
        return 1

    @property
    def status_(self) -> str:
        """How the searches for the constants ended: "converged", or the first other end."""
        return next((one.status_ for one in self.members_ if one.status_ != "converged"), "converged")

    def _parts(self) -> list[Part]:
        return [Part(one._fitted, one._draws, one._near_rows) for one in self.members_]

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict rows of this task by the mean of the members' curves.

        Parameters
        ----------
        X, return_std
            As :meth:`AdaptedEquation.predict` takes them; the standard deviation is that of the mixture of curves.

        Returns
        -------
        y, std : ndarray of shape (n_rows,)
        """
        require_flag(return_std, "return_std")
        if return_std:
            return mixture([one.predict(X, return_std=True) for one in self.members_])
        return np.mean([one.predict(X) for one in self.members_], axis=0)

    @in_plain_modes
    def predict_interval(
        self,
        X: Any,
        level: float = 0.9,
        method: str = "posterior",
        of: str = "observation",
        simultaneous: bool = False,
        sample_weight: Any = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the ends of an interval of the mixture for every row.

        Parameters
        ----------
        X, level, method, of, simultaneous, sample_weight
            As :meth:`AdaptedEquation.predict_interval` takes them; it raises the same errors.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,)
        """
        check_interval(level, method, of, simultaneous)
        if method == "conformal":
            size, guarded = len(self.X_support_), self.guard_ is not None
            return conformal_interval(
                self, X, level, simultaneous, size=size, guarded=guarded, sample_weight=sample_weight
            )
        best = self.members_[0]
        rows = best._rows(X, "predict_interval")
        weight = best._fitted.row_accuracy.of_predicted(sample_weight, len(rows), of)
        low, high = intervals(self._parts(), rows, level, of, weight)
        require_finite_curve(best._fitted.function, rows, high - low, "predict_interval")
        return low, high

    @in_plain_modes
    def predict_mean(self, X: Any) -> NDArray[np.float64]:
        """Predict by the mean of the curves that the mixture thinks probable; see `AdaptedEquation.predict_mean`.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        return mean_curves(self._parts(), self.members_[0]._rows(X, "predict_mean"))

    @in_plain_modes
    def simulate(self, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None) -> NDArray[np.float64]:
        """Draw observations of this task, each from a member that is drawn first.

        Parameters
        ----------
        X, n, random_state, sample_weight
            As :meth:`AdaptedEquation.simulate` takes them.

        Returns
        -------
        ndarray of shape (n, n_rows)
        """
        require_count(n, "n", 1, most=MOST_SIMULATED)
        rng, best = np.random.default_rng(generator_of(random_state).randint(2**31 - 1)), self.members_[0]
        rows = best._rows(X, "simulate")
        weight = best._fitted.row_accuracy.of_new_rows(sample_weight, len(rows), "simulate")
        return simulations(self._parts(), rows, n, rng, weight)

    @in_plain_modes
    def partial_adapt(self, X: Any, y: Any, sample_weight: Any = None) -> AveragedEquation:
        """Return a new predictor adapted on the rows seen so far and these, together.

        Parameters
        ----------
        X, y, sample_weight
            As :meth:`AdaptedEquation.partial_adapt` takes them.

        Returns
        -------
        AveragedEquation
            Equal to adapting the model once on all the rows; this one is left as it is.
        """
        members = tuple(one.partial_adapt(X, y, sample_weight) for one in self.members_)
        best = members[0]
        return AveragedEquation(members, best.X_support_, best.y_support_, self.n_features_in_, best.guard_)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        (mean, sd), best = self.predict(X, return_std=True), self.members_[0]
        weight = best._fitted.row_accuracy.of_new_rows(sample_weight, len(mean), "predict_interval")
        members = [one._fitted for one in self.members_]
        return mean, spread(members, mean, sd, best._rows(X, "predict_interval"), weight)


class AveragedEquations(AdaptedPredictors[AveragedEquation]):
    """The averages of many tasks, adapted in one call by ``adapt_many``; a sequence in the order of the tasks.

    Attributes
    ----------
    members_ : tuple of AdaptedEquations
        The best structure first.
    tasks : TaskSet
        The tasks that were adapted to.
    params_ : DataFrame
        The constants of the best structure, as those of :class:`AdaptedEquations`.
    guards_ : list of Guard or None
        The guard's decision on each average.
    """

    # attributes that a file holds
    _written_fields = ("members_", "tasks", "guards_", "n_features_in_", "feature_names_in_")

    def __init__(self, members: tuple[Any, ...]) -> None:
        best = members[0]
        self.members_, self.tasks, self.guards_ = members, best.tasks, best.guards_
        self.n_features_in_ = best.n_features_in_
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_

    @property
    def _fitted(self) -> FittedEquation:
        """The equation in its best structure."""
        fitted: FittedEquation = self.members_[0]._fitted
        return fitted

    @property
    def _further(self) -> tuple[FittedEquation, ...]:
        """The equations beside it, as the model has them."""
        return tuple(each._fitted for each in self.members_[1:])

    @property
    def _conformal(self) -> Any:
        return self.members_[0]._conformal

    @property
    def params_(self) -> Any:
        """The constants of every task by the best structure, one row a task."""
        return self.members_[0].params_

    def _one(self, i: int) -> AveragedEquation:
        members = tuple(each[i] for each in self.members_)
        best = members[0]
        return AveragedEquation(members, best.X_support_, best.y_support_, self.n_features_in_, best.guard_)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the same rows for every task, or each task's own rows, by the mean of the members' curves.

        Parameters
        ----------
        X
            As :meth:`AdaptedEquations.predict` takes it.

        Returns
        -------
        ndarray of shape (n_tasks, n_rows), or (n_rows_of_all_tasks,) for a TaskSet
        """
        return np.asarray(np.mean([each.predict(X) for each in self.members_], axis=0))
