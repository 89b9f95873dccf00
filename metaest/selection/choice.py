r"""The choice among candidates by their errors on left-out tasks, and the weights of their average.

The loss of a task is its mean squared error, in units of the smallest one over candidates at that number of support
rows (but of what the targets call finest, where that is larger), averaged over these numbers. Weights :math:`w` of an
average minimise the mean of the tasks' losses with a penalty on what they take away from the best candidate i,

.. math:: \sum_t L_t\Bigl(\sum_c w_c \hat y_c\Bigr) + \lambda \lVert w - e_i \rVert^2, \qquad
          w_c \ge 0, \quad \sum_c w_c = 1

(Breiman, 1996, Stacked regressions, doi:10.1007/BF00117832, with a ridge). Whether the average is better than the
candidate is judged on tasks that its weights were not chosen on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from metaest.selection.held_out import HeldOut

__all__ = ["Choice", "choose"]

# with fewer tasks, a simpler candidate is taken where it is worse by less than a standard error
FEW_TASKS = 30
# share of the best candidate's loss that an average has to save, on tasks its weights have not seen
WORTH = 0.01
# penalty on weights away from the best candidate, in tasks: it counts as so many of them
RIDGE = 2.0
# smaller weights are set to zero, where they are less than half of the largest
SMALL = 0.03
# groups of tasks for judging an average
N_GROUPS = 5


@dataclass(frozen=True)
class Choice:
    """Weights of the candidates, and the numbers behind them.

    Attributes
    ----------
    weights : dict of str to float
        Of all candidates that were compared; they sum to one.
    errors : ndarray of shape (n_candidates, n_shots)
        Root mean squared errors, in the units of y where there is one target, else of standardised targets.
    losses : ndarray of shape (n_candidates,)
        Mean losses of the tasks, the best being near one.
    average_loss : float
        That of the average, on tasks its weights were not chosen on; NaN where none was tried.
    reason : str
        The choice in one sentence.
    """

    weights: dict[str, float]
    errors: NDArray[np.float64]
    losses: NDArray[np.float64]
    average_loss: float
    reason: str


def choose(held_out: HeldOut, shots: Sequence[int], *, averages: bool) -> Choice:
    """Choose one candidate, or an average where `averages` lets it and it is better.

    Parameters
    ----------
    held_out : HeldOut
        Its candidates are in the order of their simplicity.
    shots : sequence of int
    averages : bool
    """
    names = list(held_out.predictions)
    scale = held_out.targets.scale(held_out.truth)
    residuals = np.stack([(held_out.truth - held_out.predictions[name]) / scale for name in names])
    weight, mean_squares = _row_weights(held_out, shots, residuals)
    errors = np.sqrt(mean_squares) * (scale[0] if len(scale) == 1 else 1.0)
    tasks, owner = np.unique(held_out.task, return_inverse=True)
    squares = [weight * (values**2).mean(axis=1) for values in residuals]
    losses = np.array([np.bincount(owner, of_rows, len(tasks)) for of_rows in squares], dtype=np.float64) * len(tasks)
    mean = losses.mean(axis=1)
    best, reason = _best(names, losses)
    alone = {name: float(i == best) for i, name in enumerate(names)}
    if not averages or len(names) == 1 or len(tasks) == 1 or mean[best] == 0:
        return Choice(alone, errors, mean, np.nan, reason)
    group = owner % min(N_GROUPS, len(tasks))
    if len(tasks) < 2 * N_GROUPS:
        group = owner  # each task by the weights of all others
    judged = np.empty(len(owner))
    for i in np.unique(group):
        ours = group == i
        w = _weights(residuals[:, ~ours], weight[~ours], best, len(np.unique(owner[~ours])))
        judged[ours] = (np.tensordot(w, residuals[:, ours], 1) ** 2).mean(axis=1)
    average = float((weight * judged).sum())
    saved = 1 - average / mean[best]
    if saved < WORTH:
        return Choice(alone, errors, mean, average, f"{reason}; an average saves {max(saved, 0):.1%} of its loss")
    weights = _weights(residuals, weight, best, len(tasks))
    weights = np.where(weights < min(SMALL, weights.max() / 2), 0.0, weights)
    weights /= weights.sum()
    given = dict(zip(names, weights.tolist(), strict=True))
    count, first = np.count_nonzero(weights), names[int(weights.argmax())]
    if count == 1 and first == names[best]:
        return Choice(given, errors, mean, average, reason)
    average_of = f"an average of {count}" if count > 1 else f"{first}, which has all the weight of an average,"
    return Choice(given, errors, mean, average, f"{average_of} saves {saved:.0%} of the loss of {names[best]} alone")


def _row_weights(
    held_out: HeldOut, shots: Sequence[int], residuals: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights by which squared residuals sum to the mean loss, and mean squared errors by shot."""
    weight, mean_squares = np.zeros(len(held_out.task)), np.empty((len(residuals), len(shots)))
    for j, shot in enumerate(shots):
        rows = held_out.shot == shot
        _, owner, counts = np.unique(held_out.task[rows], return_inverse=True, return_counts=True)
        even = 1 / counts[owner] / len(counts)  # tasks count alike
        mean_squares[:, j] = (residuals[:, rows] ** 2).mean(axis=2) @ even
        weight[rows] = even / max(mean_squares[:, j].min(), held_out.targets.finest) / len(shots)
    return weight, mean_squares


def _best(names: Sequence[str], losses: NDArray[np.float64]) -> tuple[int, str]:
    """Return the number of the candidate to take alone, and why."""
    mean, n_tasks = losses.mean(axis=1), losses.shape[1]
    best = int(mean.argmin())
    if n_tasks >= FEW_TASKS or n_tasks < 2:
        return best, f"{names[best]} has the smallest error on {n_tasks} left-out task{'s' * (n_tasks != 1)}"
    more = losses - losses[best]
    error = more.std(axis=1, ddof=1) / np.sqrt(n_tasks)
    simplest = int(np.argmax(more.mean(axis=1) <= error))
    if simplest == best:
        return best, f"{names[best]} has the smallest error on {n_tasks} left-out tasks"
    return simplest, (
        f"{names[simplest]} is the simplest within a standard error of {names[best]}, the best of {n_tasks} left-out "
        "tasks"
    )


def _weights(
    residuals: NDArray[np.float64], weight: NDArray[np.float64], best: int, n_tasks: int
) -> NDArray[np.float64]:
    """Return non-negative weights of the residuals that sum to one and make their average small."""
    n = len(residuals)
    gram = np.einsum("r,crk,drk->cd", weight, residuals, residuals) / residuals.shape[2] / weight.sum()
    least = gram[best, best]  # and not a mean, which one bad candidate could raise until nothing is averaged
    penalty = RIDGE / n_tasks * least
    # the residuals of an average of weights that sum to one are that average of the residuals
    value, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.clip(value, 0, None))[:, None] * vectors.T
    towards = np.zeros(n)
    towards[best] = 1.0
    heavy = 1e3 * np.sqrt(least + penalty) if least > 0 else 1.0
    rows = np.vstack([root, np.sqrt(penalty) * np.eye(n), np.full((1, n), heavy)])
    right = np.concatenate([np.zeros(n), np.sqrt(penalty) * towards, [heavy]])
    solved = np.asarray(nnls(rows, right)[0], dtype=np.float64)
    return np.asarray(solved / solved.sum())
