"""What a model of an equation answers about a task that it was not adapted to; methods of ``EquationRegressor``."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import check_interval, require_count, require_flag
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import conformal_interval
from metaest.estimators.equations.answers import MOST_SIMULATED, curve, curve_and_sd
from metaest.estimators.equations.average import Part, intervals, mean_curves, mixture, simulations, spread
from metaest.estimators.equations.checks import require_finite_curve, require_possible_curve
from metaest.estimators.equations.draws import draws_without_rows
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.next_rows import suggest_rows
from metaest.estimators.equations.outcome_answers import probabilities_of, require_interval, tells_values
from metaest.estimators.equations.outcomes import refuse_outcome
from metaest.estimators.equations.task_rows import refuse_levels, rows_to_predict
from metaest.estimators.modes import in_plain_modes
from metaest.tasks.random_state import generator_of

__all__ = [
    "asked",
    "center_and_scale",
    "predict",
    "predict_interval",
    "predict_mean",
    "predict_proba",
    "simulate",
    "suggest",
]


# one equation in the structures that are averaged, the best first
Members = Sequence[FittedEquation]


class Unadapted(Protocol):
    """A fitted model of an equation."""

    n_features_in_: int
    _fitted: FittedEquation
    _conformal: Any

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions without adaptation, and the scale of their errors."""

    @property
    def _members(self) -> tuple[FittedEquation, ...]:
        """The fitted equation, or the structures that are averaged."""


@in_plain_modes
def predict(self: Unadapted, X: Any, return_std: bool = False) -> Any:
    """Predict without adapting: the curve of the median task; with covariates, each row has that of its own.

    Parameters
    ----------
    X, return_std
        As :meth:`AdaptedEquation.predict` takes them; the standard deviation is that of a new task's curve.

    Returns
    -------
    y, std : ndarray of shape (n_rows,)
    """
    require_flag(return_std, "return_std")
    return _predicted(*asked(self, X, "predict"), return_std)


@in_plain_modes
def predict_interval(
    self: Unadapted,
    X: Any,
    level: float = 0.9,
    method: str = "posterior",
    of: str = "observation",
    simultaneous: bool = False,
    sample_weight: Any = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ends of an interval for every row of a task without support rows.

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
        check_is_fitted(self)
        return conformal_interval(self, X, level, simultaneous, sample_weight=sample_weight)
    members, rows = asked(self, X, "predict_interval")
    require_interval(members[0], of)
    return _interval(members, rows, level, of, sample_weight)


@in_plain_modes
def predict_mean(self: Unadapted, X: Any) -> NDArray[np.float64]:
    """Predict without adapting by the mean of the curves of the population; see `AdaptedEquation.predict_mean`.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_features)

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    return _mean(*asked(self, X, "predict_mean"))


@available_if(tells_values)  # type: ignore[untyped-decorator]
@in_plain_modes
def predict_proba(self: Unadapted, X: Any) -> NDArray[np.float64]:
    """Return the probability of each value of y of a new task; see `AdaptedEquation.predict_proba`.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_features)

    Returns
    -------
    ndarray of shape (n_rows, n_values)
    """
    members, rows = asked(self, X, "predict_proba")
    covariates, fitted = members[0].covariates, members[0]
    groups, member = np.unique(rows[:, list(covariates.columns)].astype(np.float64), axis=0, return_inverse=True)
    if not covariates.columns:
        groups, member = np.zeros((1, 0)), np.zeros(len(rows), dtype=np.intp)
    parts = []
    for g, values in enumerate(groups):
        chosen, draws = np.flatnonzero(member == g), draws_without_rows(fitted, values)
        parts.append((chosen, probabilities_of(fitted, draws.phi, draws.weight, rows[chosen])))
    answer = np.empty((len(rows), parts[0][1].shape[1]))
    for chosen, part in parts:
        answer[chosen] = part
    return answer


@in_plain_modes
def simulate(
    self: Unadapted, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None
) -> NDArray[np.float64]:
    """Draw observations of n new tasks with the rows X, which are of one task where there are covariates.

    Parameters
    ----------
    X, n, random_state, sample_weight
        As :meth:`AdaptedEquation.simulate` takes them.

    Returns
    -------
    ndarray of shape (n, n_rows)
    """
    check_is_fitted(self)
    levels = self._fitted.levels
    if levels is not None:
        drawn = levels.simulated(Columns(self), self._fitted, X, n, random_state, sample_weight)
        return np.asarray(drawn)
    return _simulated(*asked(self, X, "simulate"), n, random_state, sample_weight)


@in_plain_modes
def suggest(
    self: Unadapted,
    X_candidates: Any,
    n: int = 1,
    target: str | None = None,
    cost: Any = None,
    sample_weight: Any = None,
) -> NDArray[np.intp]:
    """Return the candidate rows whose measurement would teach most about a task without rows.

    Parameters
    ----------
    X_candidates, n, target, cost, sample_weight
        As :meth:`AdaptedEquation.suggest` takes them; with covariates, all candidates must be of one task.

    Returns
    -------
    ndarray of int, shape (n,)
        Row numbers of the candidates, in the order of choice.
    """
    check_is_fitted(self)
    refuse_levels(self._fitted, "suggest")
    return _suggested(*asked(self, X_candidates, "suggest"), n, target, cost, sample_weight)


def asked(model: Unadapted, X: Any, where: str) -> tuple[tuple[FittedEquation, ...], NDArray[Any]]:
    """Return what answers, and the rows that are asked about, checked."""
    check_is_fitted(model)
    return model._members, rows_to_predict(Columns(model), model._fitted, X, where)


def center_and_scale(self: Any, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the curve of the population, and the standard deviation of observations around it."""
    refuse_outcome(self._fitted.model.noise, "calibrate", "take predict_interval(method='posterior')")
    (mean, sd), (members, rows) = self.predict(X, return_std=True), asked(self, X, "predict_interval")
    weight = members[0].row_accuracy.of_new_rows(sample_weight, len(mean), "predict_interval")
    return mean, spread(members, mean, sd, rows, weight)


def _predicted(members: Members, X: NDArray[Any], return_std: bool) -> Any:
    """Return the curve of the median task, and its standard deviation where that is asked for."""
    function = members[0].function
    if return_std:
        mean, std = mixture([_by_covariates(f, X, partial(_curve_and_sd, f)) for f in members])
        return require_finite_curve(function, X, mean, "predict"), std
    curves = [_by_covariates(f, X, partial(_curve, f))[0] for f in members]
    mean = curves[0] if len(curves) == 1 else np.mean(curves, axis=0)
    return require_finite_curve(function, X, mean, "predict")


def _curve(fitted: FittedEquation, prior: Posterior, X: NDArray[Any], numbers: Any) -> tuple[NDArray[Any], ...]:
    require_possible_curve(fitted, prior.phi, X, numbers)
    return (curve(fitted, prior, X),)


def _curve_and_sd(fitted: FittedEquation, prior: Posterior, X: NDArray[Any], numbers: Any) -> tuple[NDArray[Any], ...]:
    require_possible_curve(fitted, prior.phi, X, numbers)
    return curve_and_sd(fitted, prior, X)


def _interval(
    members: Members, X: NDArray[Any], level: float, of: str, sample_weight: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the ends of an interval for every row."""
    weight = members[0].row_accuracy.of_predicted(sample_weight, len(X), of)

    def answer(_: Posterior, rows: NDArray[Any], chosen: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        weights = None if weight is None else weight[chosen]
        return intervals(_parts(members, rows, "predict_interval"), rows, level, of, weights)

    low, high = _by_covariates(members[0], X, answer)
    require_finite_curve(members[0].function, X, high - low, "predict_interval")
    return low, high


def _mean(members: Members, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the curves of the population."""

    def answer(_: Posterior, rows: NDArray[Any], chosen: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        return (mean_curves(_parts(members, rows, "predict_mean"), rows),)

    return _by_covariates(members[0], X, answer)[0]


def _simulated(members: Members, X: NDArray[Any], n: int, random_state: Any, sample_weight: Any) -> NDArray[np.float64]:
    """Return observations of n tasks with the rows X, of shape (n, rows)."""
    weight = members[0].row_accuracy.of_new_rows(sample_weight, len(X), "simulate")
    require_count(n, "n", 1, most=MOST_SIMULATED)
    rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
    return simulations(_parts(members, X, "simulate"), X, n, rng, weight)


def _parts(members: Members, X: NDArray[Any], where: str) -> list[Part]:
    """Return the members with draws of their priors, of the one task that the rows X belong to."""
    return [
        Part(fitted, draws_without_rows(fitted, fitted.covariates.of_rows(X, where, equation=fitted.function)))
        for fitted in members
    ]


def _suggested(
    members: Members, X: NDArray[Any], n: int, target: str | None, cost: Any, sample_weight: Any
) -> NDArray[np.intp]:
    """Return the numbers of the n rows whose measurement would teach most; of an average, by its best structure."""
    fitted = members[0]
    weight = fitted.row_accuracy.of_new_rows(sample_weight, len(X), "suggest")
    return suggest_rows(fitted, _prior_of_rows(fitted, X, "suggest"), X, n, target, cost, weight)


def _prior_of_rows(fitted: FittedEquation, X: NDArray[Any], where: str) -> Posterior:
    """Return the prior of the one task that the rows X belong to."""
    return fitted.prior_of(fitted.covariates.of_rows(X, where, equation=fitted.function))


def _by_covariates(
    fitted: FittedEquation,
    X: NDArray[Any],
    answer: Callable[[Posterior, NDArray[Any], NDArray[np.intp]], tuple[NDArray[Any], ...]],
) -> list[NDArray[Any]]:
    """Answer for each combination of covariates as for one task, and return the answers in the order of the rows."""
    covariates = fitted.covariates
    groups, member = np.unique(X[:, list(covariates.columns)].astype(np.float64), axis=0, return_inverse=True)
    if not covariates.columns:
        groups, member = np.zeros((1, 0)), np.zeros(len(X), dtype=np.intp)
    parts: list[NDArray[Any]] = []
    for g, values in enumerate(groups):
        rows = np.flatnonzero(member == g)
        results = answer(fitted.prior_of(values), X[rows], rows)
        parts = parts or [np.empty(len(X)) for _ in results]
        for whole, part in zip(parts, results, strict=True):
            whole[rows] = part
    return parts
