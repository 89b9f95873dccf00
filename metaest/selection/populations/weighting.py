r"""Weights of the parts of an average for a task, by what its rows say of each.

.. math:: w_k \propto \pi_k\, p_k(y)^{1 / T}, \qquad p_k(y) = \int p(y \mid \theta)\, p_k(\theta)\, d\theta

with the weight :math:`\pi_k` before any row, the evidence :math:`p_k(y)` of the rows under part k (Laplace's
approximation), and a temperature T: 1 is Bayes' rule, which trusts that one of the parts is true; above it rows sway
the weights less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError, UnlikelyTaskWarning, warn
from metaest.tasks import TaskSet

__all__ = ["Weighting", "log_evidence", "warn_of_unlikely"]

# names of tasks that a warning lists
SHOWN = 5


@dataclass(frozen=True, eq=False)
class Weighting:
    """How the rows of a task weigh the parts of an average.

    Attributes
    ----------
    prior : ndarray of shape (n_parts,)
        Weights before any row; they sum to one.
    temperature : float
    method : {"average", "select"}
        "select" gives the part of the greatest weight all of it; of equal ones the first.
    """

    prior: NDArray[np.float64]
    temperature: float
    method: str

    def weights(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return weights of shape (n_tasks, n_parts), from logarithms of the evidence of this shape."""
        away = evidence - evidence.max(axis=1, keepdims=True)  # before they are divided: quotients may be infinite
        with np.errstate(over="ignore"):
            score = np.log(self.prior) + away / self.temperature
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        if self.method == "select":
            weight = np.eye(len(self.prior))[score.argmax(axis=1)]
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def log_evidence(adapted: Any, where: str) -> NDArray[np.float64]:
    """Return the logarithm of the evidence of each task's rows under a part that was adapted to them.

    Parameters
    ----------
    adapted : AdaptedEquation, AdaptedEquations, AveragedEquation or AveragedEquations
        The evidence of an average of structures is the mean of theirs.
    where : str
        How an error message begins.

    Raises
    ------
    TaskError
        When it is no number.
    """
    members = getattr(adapted, "members_", (adapted,))
    each = np.stack([one._unguarded.log_evidence.numpy() for one in members])
    top = each.max(axis=0)
    value = top + np.log(np.exp(each - top).mean(axis=0))
    if not np.isfinite(value).all():
        raise TaskError(
            f"{where}: the evidence of the rows of task number {int((~np.isfinite(value)).argmax())} is no number."
        )
    return np.asarray(value)


def warn_of_unlikely(adapted: Sequence[Any], where: str, tasks: TaskSet | None = None) -> None:
    """Warn where no curve of any part comes near the rows of a task.

    Parameters
    ----------
    adapted : sequence of AdaptedEquation or of AdaptedEquations
        The parts, or averages of structures.
    where : str
        How the warning begins.
    tasks : TaskSet, optional
        Where there are many.
    """
    every = [one._unguarded.unlikely.numpy() for part in adapted for one in getattr(part, "members_", (part,))]
    bad = np.flatnonzero(np.all(every, axis=0)).tolist()
    if bad:
        whose = "these rows"
        if tasks is not None:
            names = ", ".join(repr(tasks.name_of(i)) for i in bad[:SHOWN]) + " and others" * (len(bad) > SHOWN)
            whose = f"the rows of {len(bad)} task{'s' * (len(bad) > 1)} ({names})"
        warn(
            f"{where}: no curve of any part comes near {whose}; check their units. The weights choose among parts of "
            "which none fits.",
            UnlikelyTaskWarning,
        )
