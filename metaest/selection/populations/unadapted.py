"""What an average answers about a task that it was not adapted to; methods of ``PopulationAverage``."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import check_interval, require_flag
from metaest.estimators.conformal import conformal_interval
from metaest.estimators.mixture import mixed
from metaest.estimators.modes import in_plain_modes
from metaest.selection.populations.adapted import AdaptedPopulationAverage
from metaest.selection.populations.columns import PartColumns
from metaest.selection.populations.parts import speaking_for
from metaest.selection.populations.weighting import Weighting

__all__ = ["of_task", "predict", "predict_interval", "predict_mean", "simulate"]


class Averaging(Protocol):
    """A fitted average of populations."""

    models_: dict[str, Any]
    _part_columns: PartColumns
    _weighting: Weighting
    _conformal: Any

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions without adaptation, and the scale of their errors."""


@in_plain_modes
def predict(self: Averaging, X: Any, return_std: bool = False) -> Any:
    """Predict without adapting, by the weights before any row; with covariates, each row as for its task.

    Parameters
    ----------
    X, return_std
        As :meth:`AdaptedPopulationAverage.predict` takes them.

    Returns
    -------
    y, std : ndarray of shape (n_rows,)
    """
    check_is_fitted(self)
    require_flag(return_std, "return_std")
    parts = _asked(self, X, "predict", return_std=return_std)
    if return_std:
        return mixed([weight for weight, _ in parts], [answer for _, answer in parts])
    return np.asarray(sum(weight * answer for weight, answer in parts))


@in_plain_modes
def predict_interval(
    self: Averaging,
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
        As :meth:`AdaptedPopulationAverage.predict_interval` takes them; covariates are those of one task.

    Returns
    -------
    lower, upper : ndarray of shape (n_rows,)
    """
    check_is_fitted(self)
    check_interval(level, method, of, simultaneous)
    if method == "conformal":
        return conformal_interval(self, X, level, simultaneous, sample_weight=sample_weight)
    return of_task(self, X, "predict_interval").predict_interval(X, level, method, of, sample_weight=sample_weight)


@in_plain_modes
def predict_mean(self: Averaging, X: Any) -> NDArray[np.float64]:
    """Predict without adapting by the mean of the curves of all populations.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_features)
        Covariates are those of one task.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    check_is_fitted(self)
    return of_task(self, X, "predict_mean").predict_mean(X)


@in_plain_modes
def simulate(
    self: Averaging, X: Any, n: int = 1, random_state: Any = None, sample_weight: Any = None
) -> NDArray[np.float64]:
    """Draw observations of n new tasks with the rows X, each of a part that is drawn first.

    Parameters
    ----------
    X, n, random_state, sample_weight
        As :meth:`AdaptedPopulationAverage.simulate` takes them; covariates are those of one task.

    Returns
    -------
    ndarray of shape (n, n_rows)
    """
    check_is_fitted(self)
    return of_task(self, X, "simulate").simulate(X, n, random_state, sample_weight)


def of_task(model: Averaging, X: Any, where: str) -> AdaptedPopulationAverage:
    """Return the average for the one task that the rows X belong to, adapted to none of them."""
    rows, names = model._part_columns.rows(completed(model, X, where), where)
    stated = []
    for (name, part), of_part in zip(model.models_.items(), model._part_columns.split_rows(rows, names), strict=True):
        with speaking_for(name):
            values = np.asarray(of_part, dtype=np.float64)
            covariates = part._fitted.covariates.of_rows(values, where) if len(values) else np.empty(0)
            named = dict(zip(part.covariate_columns_, covariates.tolist(), strict=False))
            stated.append(part.adapt([], [], guard=False, covariates=named))
    return AdaptedPopulationAverage._make(
        model._part_columns, model._weighting, stated, np.empty((0, model._part_columns.n)), model._conformal
    )


def completed(model: Averaging, X: Any, where: str) -> Any:
    """Return X with the columns that the parts do without; see `PartColumns.completed`."""
    return model._part_columns.completed(X, [part._fitted.function for part in model.models_.values()], where)


def _asked(average: Averaging, X: Any, where: str, **arguments: Any) -> list[tuple[float, Any]]:
    """Return what the parts predict without adapting, with their weights."""
    weights = average._weighting.weights(np.zeros((1, len(average.models_))))[0].tolist()
    X, answers = completed(average, X, where), []
    for (name, model), weight, of_part in zip(
        average.models_.items(), weights, average._part_columns.split(X, where), strict=True
    ):
        if weight > 0:
            with speaking_for(name):
                answers.append((weight, model.predict(of_part, **arguments)))
    return answers
