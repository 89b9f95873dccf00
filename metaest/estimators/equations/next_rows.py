"""The rows to measure next, from the posterior of a task."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaest.estimators.equations.adaptive_draws import root
from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.near_rows import NearRows
from metaest.estimators.equations.outcomes import refuse_outcome
from metaest.estimators.normal_points import normal_points
from metaest.exceptions import IdentifiabilityWarning, warn
from metaest.functional import choose_rows
from metaest.functional.equations.optimal_design import choose_correlated_rows
from metaest.tasks.arguments import is_whole
from metaest.tasks.weights import as_weights

__all__ = ["suggest_rows"]

# draws from the posterior, over which gains are averaged
N_DRAWS = 128
# gain, in units of the logarithm of a determinant, below which a measurement teaches nothing
WORTHLESS = 1e-3


def suggest_rows(
    fitted: FittedEquation,
    posterior: Posterior,
    X: NDArray[Any],
    n: int,
    target: str | None,
    cost: Any,
    weight: NDArray[np.float64] | None = None,
    near: NearRows | None = None,
) -> NDArray[np.intp]:
    """Choose n of the rows X by how much they would teach, beside the rows of the task (`near`).

    Raises
    ------
    ValueError
        When n, target or cost make no sense, or no constant varies between tasks.
    """
    if not is_whole(n) or not 1 <= n <= len(X):
        raise ValueError(f"suggest: n must be a whole number from 1 to the {len(X)} candidates, got {n!r}.")
    if fitted.model.noise.kind in ("ordinal", "time-to-event") or weight is not None:
        what = "suggest, sample_weight" if weight is not None else "suggest"
        refuse_outcome(fitted.model.noise, what, "what a row would teach is not implemented for them")
    varying = [fitted.names[k] for k in fitted.varying]
    if not varying:
        raise ValueError("suggest: no constant varies between tasks, so no measurement of one can teach anything.")
    if target is not None and not (isinstance(target, str) and target in varying):
        raise ValueError(
            f"suggest: target must be a constant that varies between tasks ({', '.join(varying)}), got {target!r}."
        )
    prices = None
    if cost is not None:
        prices = as_weights(cost, len(X), "suggest", "cost")
        if not np.isfinite(prices).all() or (prices <= 0).any():
            raise ValueError(f"suggest: cost must hold one number above 0 for each of the {len(X)} candidates.")
    factor = fitted.population.factor
    deviation = posterior.deviation[:, :, 0]
    # draws of u alone: a measurement of this task does not reduce the uncertainty of the population
    u = root(deviation) @ normal_points(N_DRAWS, len(deviation))
    phi = posterior.phi + factor @ u
    rows, noise = one_task(X, copies=N_DRAWS, weight=weight), fitted.model.noise
    values, slopes = fitted.model.curve_and_slopes(phi, rows)
    terms = noise.terms(values, values, fitted.population.log_sigma, noise.accuracy(rows))
    z = torch.einsum("km,kct->tcm", factor, slopes.detach())
    # of a curve that allows no observation the loss is not finite
    usable = torch.isfinite(z).all(dim=2) & torch.isfinite(terms.loss.detach()).T
    z = torch.where(usable[..., None], z, 0.0)
    weights = torch.where(usable, terms.weight.detach().expand_as(values).T, 0.0)
    direction = None if target is None else factor[fitted.names.index(target)]
    costs = None if prices is None else torch.from_numpy(prices)
    correlation = noise.correlation
    if correlation is None or correlation.column is None:  # the next row of "ar1" has no place yet
        chosen, gains = choose_rows(deviation, z, weights, int(n), direction, costs)
    else:
        times, before = [X[:, correlation.column]], None
        if near is not None:
            times, before = [*times, near.X[:, correlation.column]], near.slopes(phi, factor)
        at = torch.from_numpy(np.concatenate(times).astype(np.float64))
        tau = float(correlation.constant(fitted.population.log_sigma[-1]))
        sd = noise.variance(values, fitted.population.log_sigma, noise.accuracy(rows)).sqrt().detach()
        z = noise.slopes_on_scale(values.detach().T[..., None], z)
        z = torch.where(usable[..., None], z / sd.T[..., None], 0.0)
        chosen, gains = choose_correlated_rows(deviation, z, before, at, tau, int(n), direction, costs)
    if gains[0] < WORTHLESS:
        warn(
            f"suggest: none of the candidates teaches anything about {target or 'the constants of this task'}: the "
            f"{'best' if prices is None else 'chosen'} takes away {100 * max(0.0, -math.expm1(-gains[0])):.2g} % of "
            f"{'its variance' if target else 'the determinant of their covariance'}.",
            IdentifiabilityWarning,
        )
    return np.array(chosen, dtype=np.intp)
