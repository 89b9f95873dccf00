r"""Do no harm: how much of an adaptation to keep, judged on rows that the adaptation did not see.

With the population's prediction p of a row, the change d an adaptation makes to it and the residual r = y - p, the
share w of the change that serves best minimises :math:`\sum (r - w d)^2`. The rows of one task tell it poorly where
they are few, so that what they say is weighed against what the training tasks said at as many rows,

.. math:: w = \frac{\lambda m + \sum_i r_i d_i}{\lambda + \sum_i d_i^2}, \qquad 0 \le w \le 1,

with changes of adaptations that left row i out. m and :math:`\lambda` are those which would have predicted other rows
of the training tasks best; in a normal model, :math:`\lambda` is the variance of a residual over that of the share
between tasks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Guard", "GuardRule", "Moments", "decide", "learn_rule"]

# shares so near to nothing or everything are taken as that
NEAR = 0.05
SHARES = np.linspace(0, 1, 21)
# candidates of lambda, in variances of a residual, and by how much a rule that listens more to the task's own rows may
# do worse on the training tasks, which the model has seen
STRENGTHS, WORSE = np.array([1.0, 4.0, 16.0, 64.0]), 1.005


@dataclass(frozen=True)
class Guard:
    """What the guard did to one adaptation, and why.

    Attributes
    ----------
    decision : {"kept", "shrunk", "refused"}
        Whether predictions are the adapted ones, lie between them and the population's, or are the population's.
    share : float
        Of the adaptation, what is kept: between 0 and 1.
    reason : str
    n_judged : int
        Rows of the task that an adaptation without them was judged on; 0 where there are too few rows to tell.
    population_rmse, adapted_rmse : float
        On these rows, before and after adapting to the others, in the units of y (probabilities, for classes); NaN
        where there are none.
    expected_share : float
        What the training tasks led to expect at so many rows.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(60, random_state=0)
    >>> model = MAMLRegressor(max_iter=100, random_state=0).fit(tasks[:50])
    >>> wave = model.adapt(tasks[50].X[:5], tasks[50].y[:5], guard=True)
    >>> wave.guard_.decision in ("kept", "shrunk", "refused")
    True
    """

    decision: str
    share: float
    reason: str
    n_judged: int
    population_rmse: float
    adapted_rmse: float
    expected_share: float


class Moments(NamedTuple):
    """Sums over rows that an adaptation did not see, in units of the spread of the targets; arrays over tasks.

    Attributes
    ----------
    residual, along, change : ndarray
        Sums of r^2, r d and d^2.
    rows : ndarray
        Their number.
    """

    residual: NDArray[np.float64]
    along: NDArray[np.float64]
    change: NDArray[np.float64]
    rows: NDArray[np.float64]

    @classmethod
    def of(cls, truth: NDArray[np.float64], adapted: NDArray[np.float64], population: NDArray[np.float64]) -> "Moments":
        """Return the terms of every row, from arrays of shape (n_rows, n_outputs)."""
        r, d = truth - population, adapted - population
        return cls((r * r).mean(axis=1), (r * d).mean(axis=1), (d * d).mean(axis=1), np.ones(len(r)))

    def summed(self, owner: NDArray[np.intp], n: int) -> "Moments":
        """Return the sums of n owners of rows."""
        return Moments(*(np.bincount(owner, part, minlength=n).astype(np.float64) for part in self))


class GuardRule(NamedTuple):
    """How shares are judged at one number of support rows.

    Attributes
    ----------
    size : int
        Support rows.
    share, strength : float
        m and lambda of the module's formula.
    n_tasks : int
        Training tasks behind it.
    """

    size: int
    share: float
    strength: float
    n_tasks: int

    def apply(self, along: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each task."""
        weight = self.strength + change
        told = weight > 0
        share = np.where(told, (self.strength * self.share + along) / np.where(told, weight, 1.0), self.share)
        # errors beyond the largest number tell nothing for the adaptation
        return np.nan_to_num(share, nan=0.0).clip(0.0, 1.0)


def learn_rule(size: int, own: Moments, other: Moments, n_tasks: int) -> GuardRule:
    """Return the rule that would have served the training tasks best.

    Parameters
    ----------
    size : int
        Support rows.
    own : Moments
        Of support rows of each task and draw, each left out of the adaptation that is judged by it.
    other : Moments
        Of their query rows, after adapting to all support rows.
    n_tasks : int
    """
    seen = other.rows > 0
    own, other = (Moments(*(part[seen] for part in moments)) for moments in (own, other))
    scale = 1 / other.rows

    def loss(rule: GuardRule) -> float:
        w = rule.apply(own.along, own.change)
        return float((scale * (other.residual - 2 * w * other.along + w * w * other.change)).mean())

    change = float((scale * other.change).mean())
    common = np.clip(float((scale * other.along).mean()) / change, 0, 1) if change > 0 else 0.0
    rest = (scale * (other.residual - 2 * common * other.along + common**2 * other.change)).mean()
    rules = [GuardRule(size, float(m), float(c * rest), n_tasks) for c in STRENGTHS for m in SHARES]
    losses = np.array([loss(rule) for rule in rules]).reshape(len(STRENGTHS), len(SHARES))
    enough = losses.min(axis=1) <= WORSE * losses.min()
    chosen = int(np.argmax(enough))  # the weakest of the strengths that are about as good as the best
    return rules[chosen * len(SHARES) + int(losses[chosen].argmin())]


def decide(rule: GuardRule, size: int, own: Moments, scale: float) -> Guard:
    """Judge one adaptation.

    Parameters
    ----------
    rule : GuardRule
    size : int
        Support rows of the task.
    own : Moments
        Of its rows; sums.
    scale : float
        Of the targets.
    """
    n = int(own.rows[0])
    share = float(rule.apply(own.along, own.change)[0])
    share = 0.0 if share < NEAR else 1.0 if share > 1 - NEAR else share
    before = after = float("nan")
    if n:
        before = scale * float(np.sqrt(own.residual[0] / n))
        after = scale * float(np.sqrt(max(0.0, own.residual[0] - 2 * own.along[0] + own.change[0]) / n))
    decision = "refused" if share == 0 else "kept" if share == 1 else "shrunk"
    return Guard(decision, share, _reason(rule, size, n, before, after), n, before, after, rule.share)


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"


def _reason(rule: GuardRule, size: int, n: int, before: float, after: float) -> str:
    told = (
        f"{rule.n_tasks} training tasks led to expect a share of {rule.share:.2f} at {_rows(rule.size)}"
        if rule.n_tasks
        else "no training task has rows enough to tell what to expect"
    )
    if not n:
        return f"{_rows(size)} cannot tell whether adapting helps; {told}."
    verb = "helps" if after < before else "does harm"
    return (
        f"adapting {verb} on the task's own {_rows(n)} that it did not see (RMSE {before:.3g} before, {after:.3g} "
        f"after); {told}."
    )
