"""Answers about outcomes that are not normal: probabilities of values, means with errors, intervals of observations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.fitted import FittedEquation
from metaest.functional import Binomial, NegativeBinomial, Outcome, StudentT
from metaest.functional.equations.outcomes import as_outcome

__all__ = ["mean_and_sd", "observed_ends", "probabilities_of", "probability_below", "require_interval", "tells_values"]

Array = NDArray[np.float64]

# step of differences, in units of the scale on which constants are normal
STEP = 1e-5
# halvings of the bracket of a quantile: to rounding
HALVINGS = 200
# ratio by which a bracket is widened until the quantile is inside
WIDER = 2.0
# widenings at most
MOST_WIDER = 60


def mean_and_sd(
    fitted: FittedEquation, phi: Tensor, covariance: Tensor, X: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the means of y in rows of one task and their standard deviations, to first order in the constants.

    Parameters
    ----------
    fitted : FittedEquation
    phi : Tensor of shape (constants, 1)
    covariance : Tensor of shape (constants, constants)
    X : ndarray of shape (rows, features)
    """
    p = len(phi)
    steps = STEP * torch.cat([torch.zeros(p, 1), torch.eye(p), -torch.eye(p)], dim=1).to(phi)
    with torch.no_grad():
        around = one_task(X, copies=1 + 2 * p)
        means = fitted.model.predicted(phi + steps, fitted.population.log_sigma, around)
    slopes = (means[:, 1 : 1 + p] - means[:, 1 + p :]) / (2 * STEP)
    variance = torch.einsum("rk,kj,rj->r", slopes, covariance, slopes)
    return means[:, 0].numpy(), variance.clamp(min=0).sqrt().numpy()


def probabilities_of(fitted: FittedEquation, phi: Tensor, weight: Tensor, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability of each value of y, of shape (rows, classes), over what the constants may be."""
    noise = fitted.model.noise
    assert isinstance(noise, Outcome)
    with torch.no_grad():
        rows = one_task(X, copies=phi.shape[1])
        curves = fitted.model.curve(phi, noise.evaluated_at(rows))
        each = noise.probabilities(curves, rows, fitted.population.log_sigma)
    usable = torch.isfinite(each).all(dim=0)
    weight = torch.where(usable, weight, 0.0)
    share = weight / weight.sum(dim=1, keepdim=True)
    return np.asarray((torch.where(usable, each, 0.0) * share).sum(dim=2).T.numpy())


def tells_values(model: Any) -> bool:
    """Tell whether y of a model, or of what it adapted, has a few values, as the fit or before it `noise` says."""
    fitted = getattr(model, "_fitted", None)
    if fitted is None:
        return as_outcome(model.noise) is not None
    noise = fitted.model.noise
    return isinstance(noise, Outcome) and noise.classes is not None


def require_interval(fitted: FittedEquation, of: str, where: str = "predict_interval") -> None:
    """Raise a ValueError where observations have two or a few values, of which an interval says nothing."""
    noise = fitted.model.noise
    if of == "observation" and isinstance(noise, Outcome) and noise.classes is not None:
        raise ValueError(
            f"{where}: an interval of observations says nothing of noise={noise.kind!r}, which has {noise.classes} "
            "values; take of='curve' for an interval of the mean, or predict_proba."
        )


def observed_ends(parts: Sequence[tuple[FittedEquation, Tensor, Tensor]], X: NDArray[Any], tails: Tensor) -> Tensor:
    """Return quantiles of observations in rows, of a mixture of weighted draws in equal parts, of shape (tails, rows).

    Of counts they are the least number with at least that probability below or at it.
    """
    distributions, means, wholes = [], [], []
    for fitted, phi, weight in parts:
        noise, log_sigma = fitted.model.noise, fitted.population.log_sigma
        assert isinstance(noise, Outcome)
        rows = one_task(X, copies=phi.shape[1])
        with torch.no_grad():
            curves = fitted.model.curve(phi, rows)
        f, share = curves.numpy(), (weight / weight.sum()).numpy() / len(parts)
        usable = np.isfinite(f)
        share = np.where(usable, share, 0.0)
        share = share / (share.sum(axis=1, keepdims=True) * len(parts))
        trials: Any = noise.trials_of(rows).numpy() if isinstance(noise, Binomial) else 1.0
        distributions.append((noise, np.where(usable, f, 0.0), share, trials, log_sigma))
        means.append((np.where(usable, f, 0.0) * trials * share).sum(axis=1))
        wholes.append(noise.kind != "student-t")

    def below(y: NDArray[Any]) -> NDArray[Any]:
        answers: list[NDArray[Any]] = [
            (share * probability_below(noise, f, y[:, None], trials, log_sigma)).sum(axis=1)
            for noise, f, share, trials, log_sigma in distributions
        ]
        return np.asarray(np.sum(answers, axis=0))

    middle = np.sum(means, axis=0)
    ends = [_quantile(below, middle, float(at), whole=wholes[0]) for at in tails]
    return torch.from_numpy(np.stack(ends))


def probability_below(noise: Outcome, f: Array, y: Array, trials: Any, log_sigma: Tensor) -> Array:
    """Return the probability of an observation of at most y around curves with values f, which broadcast.

    Parameters
    ----------
    noise : Outcome
        A number of successes, a count, or Student's distribution.
    f, y : ndarray
    trials : ndarray or float
        Numbers of trials.
    log_sigma : Tensor of shape (n_constants,)
    """
    if isinstance(noise, StudentT):
        scale, df = (float(value) for value in noise.shown(log_sigma).values())
        return np.asarray(special.stdtr(df, (y - f) / scale))
    k, mean = np.floor(np.maximum(y, 0)), np.maximum(f, 0)
    if isinstance(noise, Binomial):
        inside = special.betainc(np.maximum(trials - k, 1), k + 1, 1 - np.minimum(mean, 1))
        inside = np.where(k >= trials, 1.0, inside)
    elif isinstance(noise, NegativeBinomial):
        size = float((-log_sigma[0]).exp())
        inside = special.betainc(size, k + 1, size / (size + mean))
    else:
        inside = special.pdtr(k, mean)
    return np.where(y < 0, 0.0, inside)


def _quantile(below: Any, middle: NDArray[Any], at: float, *, whole: bool) -> NDArray[Any]:
    """Return where a distribution function reaches a probability, by halving a bracket around the mean."""
    if whole:
        low, high = np.full_like(middle, -1.0), np.ceil(middle) + 1
    else:
        low, high = middle - 1, middle + 1
    reach = high - low
    for _ in range(MOST_WIDER):
        short, far = below(high) < at, (below(low) >= at) & (not whole)
        if not (short.any() or far.any()):
            break
        high, low = np.where(short, high + reach, high), np.where(far, low - reach, low)
        reach = WIDER * reach
    for _ in range(HALVINGS):
        half = np.floor(0.5 * (low + high)) if whole else 0.5 * (low + high)
        done = (high - low <= 1) if whole else ((half <= low) | (half >= high))
        if done.all():
            break
        reached = below(half) >= at
        high, low = np.where(reached & ~done, half, high), np.where(reached | done, low, half)
    return np.asarray(high)
