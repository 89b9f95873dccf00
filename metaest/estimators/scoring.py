"""The few-shot R2: query rows of all tasks together, around the mean of the training targets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.tasks.grouping import sort_by_group

__all__ = ["r2_around", "row_weights"]


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
    residual = weight @ np.square(truth - prediction)
    spread = weight @ np.square(truth - center)
    safe = np.where(spread > 0, spread, 1.0)
    return float(np.mean(np.where(spread > 0, 1 - residual / safe, residual == 0)))


def row_weights(sample_weight: Any, groups: Any, n_rows: int) -> NDArray[Any]:
    """Return the weights of flat rows in the order of their TaskSet."""
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_rows,):
        raise TaskError(f"sample_weight has shape {weight.shape}; one weight a row, ({n_rows},), is wanted.")
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise TaskError("sample_weight must be finite and at least 0, and not 0 everywhere.")
    return weight if groups is None else weight[sort_by_group(groups, n_rows)[1]]
