"""The profile of one constant: the best fit with that constant held at one value after another."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.arguments import require_count, require_flag
from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.draws import deviation
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.map_estimate import map_estimate
from metaest.functional.equations.hierarchical import Point

__all__ = ["profile_of"]

# distance of the first and the last point from the constant, in its posterior standard deviations
REACH = 4.0
# factor of the standard deviations between tasks, that makes the prior almost flat
WITHOUT_PRIOR = 1e3
LEAST_POINTS = 3
# points that are solved at once, in memory of about a kilobyte each
MOST_POINTS = 1_000_000


def profile_of(
    fitted: FittedEquation,
    posterior: Posterior,
    X: NDArray[Any],
    y: NDArray[Any],
    name: str,
    prior: bool,
    n_points: Any,
    weight: NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    """Profile one constant of one task; see ``AdaptedEquation.profile``."""
    names = fitted.names
    varying = [names[k] for k in fitted.varying]
    require_flag(prior, "prior")
    if not isinstance(name, str) or name not in varying:
        raise ValueError(
            f"profile: a constant that varies between tasks is wanted ({', '.join(varying) or 'there is none'}), got "
            f"{name!r}."
        )
    require_count(n_points, "profile: n_points", LEAST_POINTS, most=MOST_POINTS)
    n_points, k = int(n_points), names.index(name)
    factor = fitted.population.factor * (1.0 if prior else WITHOUT_PRIOR)
    center = fitted.point(fitted.design(fitted.covariates.of_rows(X, "profile")[None])).center[:, 0]
    sd = float(posterior.covariance[k, k, 0].clamp(min=0).sqrt())
    at = posterior.phi[k, 0] + sd * torch.linspace(-REACH, REACH, n_points, dtype=torch.float64)
    # turn u so that its first coordinate alone moves this constant, and hold that one
    turn = _first_axis(factor[k])
    turned = factor @ turn
    held = (at - center[k]) / turned[k, 0]
    solver, log_sigma = fitted.map_solver, fitted.population.log_sigma
    # start each point from the adapted constants
    u = deviation(turned, posterior.phi - center[:, None])[:, 0]
    fixed = center[:, None] + turned[:, :1] * held
    observations = one_task(X, y, n_points, weight)
    others = Point(fixed, turned[:, 1:], log_sigma)
    result = map_estimate(solver, fitted.model, others, observations, u[1:, None].expand(-1, n_points))
    loss = result.loss + 0.5 * held.square()
    phi = others.constants(result.u)
    free = Point(center[:, None], factor, log_sigma)
    best = map_estimate(solver, fitted.model, free, one_task(X, y, weight=weight)).loss.min()
    theta = fitted.model.transforms.constrain(phi).numpy()
    columns = {name: theta[k], "deviance": (2 * (loss - torch.minimum(best, loss.min()))).numpy()}
    columns.update({other: theta[j] for j, other in enumerate(fitted.given_names) if j != k})
    return pd.DataFrame(columns)


def _first_axis(direction: Tensor) -> Tensor:
    """Return an orthogonal matrix whose first column points along `direction`."""
    m = len(direction)
    full = torch.cat([direction[:, None], torch.eye(m, dtype=direction.dtype)], dim=1)
    q, r = torch.linalg.qr(full)
    turned: Tensor = q * torch.where(torch.arange(m) == 0, torch.sign(r[0, 0]), 1.0)
    return turned
