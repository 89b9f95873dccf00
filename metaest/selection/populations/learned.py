r"""Weights before any row, and the temperature of an average, learned from tasks that the parts were not fitted on.

A weight before any row is the mean share of a part in the tasks, found by expectation-maximisation, with one more task
for each part, so that few tasks leave none without weight:

.. math:: \pi_k = \frac{1 + \sum_t w_k(y_t)}{K + n}.

For the temperature each row after the first of a task is predicted from those before it; it maximises

.. math:: \sum_t \sum_i \log \sum_k w_k(y_{1 \dots i}; T)\, p_k(y_{i+1} \mid y_{1 \dots i})
          - \tfrac12 (\log T)^2,

the logarithm of their predictive density (Yao, Vehtari, Simpson, Gelman, 2018, :doi:`10.1214/17-BA1091`, weigh models
by the same score, for all tasks alike), held towards 1, Bayes' rule, where few tasks say little.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import quiet
from metaest.selection.ensemble import rows_of
from metaest.selection.populations.weighting import Weighting, log_evidence
from metaest.tasks import TaskSet

__all__ = ["Evidence", "evidence_of_prefixes", "learned_weighting"]

# rows of a task that are predicted, at most: an average is asked for where there are few
MOST_ROWS = 8
# temperatures that are tried, eight in each factor of two
TEMPERATURES = np.exp2(np.arange(-16, 49) / 8)

# times that weights and temperature are learned in turn; steps for the weights, and the change that ends them
ROUNDS = 3
STEPS = 500
CHANGE = 1e-6

# of one part: logarithms of the evidence of the first 1, 2, ... rows of every task
Evidence = list[NDArray[np.float64]]


def evidence_of_prefixes(model: Any, tasks: TaskSet, order: Sequence[NDArray[np.intp]]) -> Evidence:
    """Return the evidence of the first rows of each task under one fitted part.

    Parameters
    ----------
    model : EquationRegressor
        Fitted.
    tasks : TaskSet
        With the columns of this part.
    order : sequence of ndarray of int
        The rows of each task in the order in which they are predicted.
    """
    kept = [rows[: MOST_ROWS + 1] for rows in order]
    numbers = [tasks.offsets[i] + rows[:size] for i, rows in enumerate(kept) for size in range(1, len(rows) + 1)]
    with quiet(Warning):  # the parts warn when they are adapted in earnest
        values = log_evidence(model.adapt_many(rows_of(tasks, numbers)), "fit")
    return np.split(values, np.cumsum([len(rows) for rows in kept])[:-1])


def learned_weighting(
    weighting: Weighting, evidence: Sequence[Evidence], *, weights: bool, temperature: bool
) -> Weighting:
    """Return a weighting with weights, a temperature, or both learned in turn.

    Parameters
    ----------
    weighting : Weighting
        What is not learned stays; the rest is where the search begins.
    evidence : sequence of Evidence
        Of each part, for the same tasks.
    weights, temperature : bool
        Which to learn.
    """
    whole = np.stack([[of_task[-1] for of_task in part] for part in evidence], axis=1)
    for _ in range(ROUNDS if weights and temperature else 1):
        if weights:
            weighting = replace(weighting, prior=_shares(weighting, whole))
        if temperature:
            weighting = replace(weighting, temperature=_temperature(weighting, evidence))
    return weighting


def _shares(weighting: Weighting, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights before any row, from the evidence of whole tasks, of shape (n_tasks, n_parts)."""
    weighting = replace(weighting, method="average")
    for _ in range(STEPS):
        counts = 1 + weighting.weights(evidence).sum(axis=0)
        before, weighting = weighting.prior, replace(weighting, prior=counts / counts.sum())
        if np.abs(weighting.prior - before).max() < CHANGE:
            break
    return weighting.prior


def _temperature(weighting: Weighting, evidence: Sequence[Evidence]) -> float:
    """Return the temperature under which rows are predicted best; 1 where no task has two rows."""
    before, following = [], []
    for of_task in zip(*evidence, strict=True):
        values = np.stack(of_task, axis=1)
        before.append(values[:-1])
        following.append(np.diff(values, axis=0))
    given, density = np.concatenate(before), np.concatenate(following)
    if not len(given):
        return 1.0
    scores = [_score(weighting, temperature, given, density) for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmax(scores))])


def _score(weighting: Weighting, temperature: float, given: NDArray[np.float64], density: NDArray[np.float64]) -> float:
    weight = replace(weighting, temperature=float(temperature), method="average").weights(given)
    top = density.max(axis=1)
    predicted = top + np.log((weight * np.exp(density - top[:, None])).sum(axis=1))
    return float(predicted.sum() - 0.5 * np.log(temperature) ** 2)
