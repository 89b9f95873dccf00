"""Scores of predictions: R2 around a given centre, and the checks of targets and weights that scores share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.arrays import as_target, require_finite
from metaest.tasks.grouping import sort_by_group
from metaest.tasks.weights import as_weights

__all__ = ["as_truth", "r2_around", "r2_of_outputs", "row_weights", "scale_of", "score_weights"]


def r2_around(truth: NDArray[Any], prediction: NDArray[Any], center: Any, weight: NDArray[Any]) -> float:
    """Return R2 with its denominator around `center`, averaged over targets.

    Parameters
    ----------
    truth, prediction : ndarray of shape (n_rows,) or (n_rows, n_targets)
    center : float or ndarray of shape (n_targets,)
    weight : ndarray of shape (n_rows,)

    Returns
    -------
    float
        Where the truth does not differ from the centre: 1 for a perfect prediction, 0 otherwise.
    """
    size = scale_of(truth, prediction, center)  # so that squares neither overflow nor vanish
    residual = weight @ np.square(truth / size - prediction / size)
    spread = weight @ np.square(truth / size - center / size)
    safe = np.where(spread > 0, spread, 1.0)
    return float(np.mean(np.where(spread > 0, 1 - residual / safe, residual == 0)))


def r2_of_outputs(truth: NDArray[Any], prediction: NDArray[Any], output: NDArray[Any], weight: NDArray[Any]) -> float:
    """Return the mean over outputs of R2 around the mean of each, as rows of several outputs have several units.

    Parameters
    ----------
    truth, prediction : ndarray of shape (n_rows,)
    output : ndarray of shape (n_rows,)
        The output of each row.
    weight : ndarray of shape (n_rows,)
    """
    parts = []
    for each in np.unique(output):
        rows = output == each
        center = np.average(truth[rows], weights=weight[rows]) if weight[rows].any() else truth[rows].mean()
        parts.append(r2_around(truth[rows], prediction[rows], center, weight[rows]))
    return float(np.mean(parts))


def row_weights(sample_weight: Any, groups: Any, n_rows: int) -> NDArray[Any]:
    """Return the weights of flat rows in the order of their TaskSet."""
    weight = np.asarray(score_weights(sample_weight, n_rows))
    return weight if groups is None else weight[sort_by_group(groups, n_rows)[1]]


def as_truth(y: Any, n_rows: int) -> NDArray[Any]:
    """Return the targets that predictions are scored against, checked as those of an adaptation are."""
    truth, names = as_target(y, n_rows, "score")
    require_finite(truth, "y", names, lambda row: ("score", row))
    return truth


def score_weights(sample_weight: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Return the weights of rows in a score, or None; they need not be inverse variances."""
    if sample_weight is None:
        return None
    weight = as_weights(sample_weight, n_rows, "score")
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise TaskError(
            f"score: sample_weight is {weight[bad[0]]:g} in row {bad[0]}; weights must be finite and at least 0."
        )
    if not weight.any():
        raise TaskError("score: sample_weight is 0 in all rows; at least one row has to count.")
    return weight


def scale_of(*values: Any) -> float:
    """Return a power of two near the largest size of the values; 1 where all are 0."""
    largest = max(float(np.abs(array).max()) for array in map(np.asarray, values) if array.size)
    return float(2.0 ** np.clip(np.frexp(largest)[1] - 1, -1022, 1023)) if largest > 0 else 1.0
