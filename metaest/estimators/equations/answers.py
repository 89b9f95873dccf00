"""Curves, intervals, simulated observations and derived quantities of one task, from the posterior of its constants."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.draws import Draws, weighted_quantile
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.near_rows import NearRows, correlated_noise
from metaest.estimators.equations.outcome_answers import mean_and_sd, observed_ends
from metaest.estimators.equations.outcomes import refuse_outcome
from metaest.exceptions import warn
from metaest.functional import Noise, Observations, Outcome

__all__ = [
    "BLOCK",
    "MOST_SIMULATED",
    "Derived",
    "Quantity",
    "computed",
    "curve",
    "curve_and_sd",
    "derived_from",
    "ends_of_interval",
    "interval",
    "interval_of_mixture",
    "mean_curve",
    "observations_of_draws",
    "observed_at",
    "quantities_of_task",
    "quantity_table",
    "simulated",
    "spread_of_observations",
]

# rows whose interval is computed at a time, for all draws
BLOCK = 50
# steps of the search for the end of an interval, at most
NEWTON_STEPS = 60
# standard deviations of the noise beyond the draws that bracket the end of an interval
BRACKET = 9
# tasks simulated in one call; more do not fit into memory
MOST_SIMULATED = 10**7
# error of the probability below an end of an interval, far below that of the draws
ACCURACY = 1e-6
# probability of constants without a finite curve up to which no warning is given
NEGLIGIBLE = 1e-9
# effective number of draws below which a mean is reported as that of a few draws
FEW = 50
# share of the mean in one draw above which it is reported as that of a few draws
LARGEST = 0.1
# what stands for an infinite quantity among finite ones, so that it counts in quantiles: an answer such as "never"
NEVER = 1e300
# quantile from which it is infinite again
REACHED = 1e290
# logarithm that stands for that of a curve at zero, far below any curve's
LOG_ZERO = -690.0
# step of a finite difference, in standard deviations of a constant: small beside what bends, large beside rounding
STEP = 1e-4


def curve(fitted: FittedEquation, posterior: Posterior, X: NDArray[Any]) -> NDArray[Any]:
    """Return the prediction of one task at its most probable constants, of shape (rows,): the curve, or means of y."""
    with torch.no_grad():
        log_sigma = fitted.population.log_sigma
        values = np.asarray(fitted.model.predicted(posterior.phi, log_sigma, one_task(X))[:, 0].numpy())
    return values


def curve_and_sd(fitted: FittedEquation, posterior: Posterior, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the prediction and its standard deviation, to first order in the constants."""
    if not fitted.model.noise.normal:
        return mean_and_sd(fitted, posterior.phi, posterior.covariance[:, :, 0], X)
    values, slopes = fitted.model.curve_and_slopes(posterior.phi, one_task(X))
    d = slopes[:, :, 0].detach()
    variance = torch.einsum("kr,kj,jr->r", d, posterior.covariance[:, :, 0], d)
    return values[:, 0].detach().numpy(), variance.clamp(min=0).sqrt().numpy()


def mean_curve(fitted: FittedEquation, draws: Draws, X: NDArray[Any], where: str = "predict_mean") -> NDArray[Any]:
    """Return the mean of the curves of weighted draws, of shape (rows,)."""
    with torch.no_grad():
        rows = one_task(X, copies=draws.phi.shape[1])
        curves = fitted.model.predicted(draws.phi, fitted.population.log_sigma, rows)
    usable = torch.isfinite(curves)
    weight = torch.where(usable, draws.weight, 0.0)
    _warn_of_mean(torch.where(usable, curves, 0.0), draws.weight, usable, where)
    return np.asarray(((torch.where(usable, curves, 0.0) * weight).sum(dim=1) / weight.sum(dim=1)).numpy())


def _warn_of_mean(curves: Tensor, weight: Tensor, usable: Tensor, where: str) -> None:
    """Warn where the mean of curves, of shape (rows, draws), does not exist or is that of a few draws."""
    lost = torch.where(usable, 0.0, weight).sum(dim=1)
    if float(lost.max()) > NEGLIGIBLE:
        row = int(lost.argmax())
        warn(
            f"{where}: in row {row} the curve is not finite for {float(lost[row]):.2%} of the probability of the "
            "constants, so that its mean does not exist; what is returned is the mean of the finite ones. Use predict "
            "or predict_interval.",
        )
    part = curves.abs() * weight
    total = part.sum(dim=1)
    share = part / torch.where(total > 0, total, 1.0)[:, None]
    worth = 1 / share.square().sum(dim=1).clamp(min=1e-12)
    few = (total > 0) & ((worth < FEW) | (share.amax(dim=1) > LARGEST))
    if bool(few.any()):
        row = int(torch.where(few, worth, torch.inf).argmin())
        warn(
            f"{where}: the mean in row {row} is made by a few extreme draws of the constants ({len(weight)} draws are "
            f"worth {float(worth[row]):.0f} equal ones there; {int(few.sum())} such rows in all): it depends on which "
            "constants were drawn, and may not exist. Use predict or predict_interval.",
        )


def simulated(
    fitted: FittedEquation,
    draws: Draws,
    X: NDArray[Any],
    n: int,
    rng: np.random.Generator,
    weight: NDArray[Any] | None = None,
    near: NearRows | None = None,
) -> NDArray[Any]:
    """Return observations of n tasks drawn from the posterior, of shape (n, rows); `near` are rows of the task."""
    probability = (draws.weight / draws.weight.sum()).numpy()
    chosen = torch.from_numpy(rng.choice(len(probability), n, p=probability))
    return observed_at(fitted, draws.phi[:, chosen], X, rng, weight, near)


def observed_at(
    fitted: FittedEquation,
    phi: Tensor,
    X: NDArray[Any],
    rng: np.random.Generator,
    weight: NDArray[Any] | None = None,
    near: NearRows | None = None,
) -> NDArray[Any]:
    """Return observations of rows X at constants of shape (constants, n), noise drawn, of shape (n, rows)."""
    n = phi.shape[1]
    if weight is not None:
        refuse_outcome(fitted.model.noise, "simulate, sample_weight", "leave the weights out")
    with torch.no_grad():
        rows = one_task(X, copies=n, weight=weight)
        drawn = _observed(fitted, near, phi, X, rows, rng).T
    lost = (~np.isfinite(drawn)).sum(axis=0)
    if lost.any():
        row = int(lost.argmax())
        warn(f"simulate: {lost[row]} of the {n} values drawn in row {row} are not finite, because the equation is not.")
    return drawn


def _observed(
    fitted: FittedEquation,
    near: NearRows | None,
    phi: Tensor,
    X: NDArray[Any],
    rows: Observations,
    rng: np.random.Generator,
) -> NDArray[Any]:
    """Return observations of tasks with constants `phi`, of shape (rows, tasks)."""
    noise, log_sigma = fitted.model.noise, fitted.population.log_sigma
    if isinstance(noise, Outcome):
        generator = torch.Generator().manual_seed(int(rng.integers(2**31 - 1)))
        curves = fitted.model.curve(phi, noise.evaluated_at(rows))
        return np.asarray(noise.draw(curves, rows, log_sigma, generator).numpy())
    curves = fitted.model.curve(phi, rows)
    sd = _variance(fitted, curves, rows).sqrt()
    if noise.correlation is None:
        residuals = torch.from_numpy(rng.standard_normal(curves.shape))
    else:
        residuals = correlated_noise(fitted, near, phi, X, rng)
    return np.asarray(noise.observed(curves, sd * residuals).numpy())


def spread_of_observations(
    fitted: FittedEquation,
    mean: NDArray[Any],
    sd: NDArray[Any],
    X: NDArray[Any],
    weight: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the standard deviation of observations in rows X around curves of a given standard deviation."""
    noise, rows = fitted.model.noise, one_task(X, weight=weight)
    curve, of_curve = torch.from_numpy(mean)[:, None], torch.from_numpy(sd**2)[:, None]
    variance = noise.spread(curve, of_curve, fitted.population.log_sigma, noise.accuracy(rows))
    return np.asarray(variance[:, 0].sqrt().numpy())


def _variance(fitted: FittedEquation, curves: Tensor, rows: Observations) -> Tensor:
    """Return the variance of residuals around curves, on the scale of the noise."""
    noise = fitted.model.noise
    return noise.variance(curves, fitted.population.log_sigma, noise.accuracy(rows))


def interval(
    fitted: FittedEquation,
    draws: Draws,
    X: NDArray[Any],
    level: float,
    of: str,
    weight: NDArray[Any] | None = None,
    near: NearRows | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return lower and upper ends, of shape (rows,), that leave out equal probability on both sides.

    Constants drawn from the posterior go through the equation, so the ends respect whatever the equation respects; for
    an observation the noise around each drawn curve is added in closed form. `near` are the rows of the task, where
    their residuals say something about new ones.
    """
    return interval_of_mixture([(fitted, draws, near)], X, level, of, weight)


def interval_of_mixture(
    parts: Sequence[tuple[FittedEquation, Draws, NearRows | None]],
    X: NDArray[Any],
    level: float,
    of: str,
    weight: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what `interval` does, of a mixture in equal parts of equations with their draws and near rows."""
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    # an equation whose rows see each other needs all of them at once
    size = BLOCK if all(part[0].model.equation.mode == "rows" for part in parts) else len(X)
    blocks = [slice(first, first + size) for first in range(0, len(X), size)]
    ends = [_ends(parts, X[block], tails, of, None if weight is None else weight[block]) for block in blocks]
    low, high = torch.cat(ends, dim=1).numpy()
    return low, high


def _ends(
    parts: Sequence[tuple[FittedEquation, Draws, NearRows | None]],
    X: NDArray[Any],
    tails: Tensor,
    of: str,
    weight: NDArray[Any] | None,
) -> Tensor:
    """Return the quantiles of rows, of the mixture of draws, with noise where `of` is an observation."""
    if weight is not None:
        refuse_outcome(parts[0][0].model.noise, "predict_interval, sample_weight", "leave the weights out")
    if of == "observation" and not parts[0][0].model.noise.normal:
        return observed_ends([(fitted, draws.phi, draws.weight) for fitted, draws, _ in parts], X, tails)
    all_curves, all_sds, shares = [], [], []
    for part in parts:
        curves, sd = observations_of_draws(part, X, of, weight)
        draws = part[1]
        shares.append(draws.weight if len(parts) == 1 else draws.weight / draws.weight.sum())
        all_curves.append(curves)
        all_sds.append(sd)
    curves, share = torch.cat(all_curves, dim=1), torch.cat(shares)
    if of == "curve":
        return weighted_quantile(curves, share, tails)
    # members of an average whose noise is lognormal all have that kind
    return _from_scale(parts[0][0].model.noise, _quantiles_with_noise(curves, torch.cat(all_sds, dim=1), share, tails))


def observations_of_draws(
    part: tuple[FittedEquation, Draws, NearRows | None], X: NDArray[Any], of: str, weight: NDArray[Any] | None
) -> tuple[Tensor, Tensor]:
    """Return curves of the draws of an equation, of shape (rows, draws), and the standard deviations of the noise.

    Both are on the scale of the noise where `of` is an observation; of the curve there is no noise.
    """
    fitted, draws, near = part
    rows = one_task(X, copies=draws.phi.shape[1], weight=weight)
    with torch.no_grad():
        curves = fitted.model.predicted(draws.phi, fitted.population.log_sigma, rows)
    if of == "curve":
        return curves, torch.zeros_like(curves)
    sd = _variance(fitted, curves, rows).sqrt()
    if fitted.model.noise.logarithmic:
        _warn_below_zero(curves, draws.weight, X)
    curves = _on_scale(fitted.model.noise, curves)
    if near is not None:
        curves, sd = near.moved(draws.phi, curves, sd, X)
    return curves, sd.expand_as(curves)


def _warn_below_zero(curves: Tensor, weight: Tensor, X: NDArray[Any]) -> None:
    """Warn where curves, of shape (rows, draws), lie below zero, around which lognormal noise has no observation."""
    share = (weight * (curves < 0)).sum(dim=1) / weight.sum()
    if float(share.max()) > NEGLIGIBLE:
        row = int(share.argmax())
        warn(
            f"predict_interval: at X = {X[row].tolist()} the curve is below zero for {float(share[row]):.2%} of the "
            "probability of the constants; noise='lognormal' has no observation there, and the interval is that of the "
            "other curves. Bound the constants so that the curve stays above zero, or take noise='combined'."
        )


def _on_scale(noise: Noise, curves: Tensor) -> Tensor:
    """Return curves on the scale of the noise, one at zero far below all others; below zero there is no observation."""
    return torch.where(curves == 0, LOG_ZERO, noise.on_scale(curves)) if noise.logarithmic else curves


def _from_scale(noise: Noise, ends: Tensor) -> Tensor:
    """Return ends of intervals in the unit of y."""
    values = noise.from_scale(ends)
    return torch.where(ends < 0.5 * LOG_ZERO, 0.0, values) if noise.logarithmic else values


def _quantiles_with_noise(curves: Tensor, sd: Tensor, weight: Tensor, tails: Tensor) -> Tensor:
    """Return the quantiles of rows, by Newton's method on the distribution function of the mixture of normals."""
    usable = torch.isfinite(curves) & torch.isfinite(sd)
    curves, sd = torch.where(usable, curves, 0.0), torch.where(usable, sd, 1.0)
    share = torch.where(usable, weight, 0.0)
    share = (share / share.sum(dim=1, keepdim=True))[None]
    # quantiles of the draws moved by nine standard deviations of the noise bracket the end, however far the tails of
    # the draws reach; halving the bracket wherever a step would leave it gets there too
    low = weighted_quantile(torch.where(usable, curves - BRACKET * sd, torch.nan), weight, tails)
    high = weighted_quantile(torch.where(usable, curves + BRACKET * sd, torch.nan), weight, tails)
    ends = 0.5 * (low + high)
    for _ in range(NEWTON_STEPS):
        z = (ends[..., None] - curves) / sd
        error = (share * torch.special.ndtr(z)).sum(dim=-1) - tails[:, None]
        if bool((error.abs() < ACCURACY).all()):
            break
        density = (share * (-0.5 * z.square()).exp() / sd).sum(dim=-1) / (2 * torch.pi) ** 0.5
        low, high = torch.where(error < 0, ends, low), torch.where(error < 0, high, ends)
        step = ends - error / density
        ends = torch.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    return ends


class Quantity(NamedTuple):
    """A quantity that is computed from the constants of an equation, and reported beside them.

    Give the equation a method ``quantities()`` that returns a dict of name to Quantity: the fitted model and every
    adapted predictor then report them in ``derived_`` and ``summary()``.

    Attributes
    ----------
    function : callable
        ``function(**constants)`` of numpy arrays of one shape returns an array of that shape.
    unit, meaning : str, default=""

    Examples
    --------
    >>> import numpy as np
    >>> from metaest import Quantity
    >>> half_life = Quantity(lambda rate: np.log(2) / rate, unit="h", meaning="half-life")
    >>> round(half_life.function(rate=np.array([0.1]))[0], 2)
    np.float64(6.93)
    """

    function: Callable[..., Any]
    unit: str = ""
    meaning: str = ""


class Derived(NamedTuple):
    """A quantity and the ends of its interval.

    Attributes
    ----------
    value, lower, upper : float or ndarray
    """

    value: Any
    lower: Any
    upper: Any


def derived_from(
    fitted: FittedEquation, posterior: Posterior, draws: Draws, function: Callable[..., Any], level: float
) -> Derived:
    """Compute `function` at the most probable constants and at the draws; see ``AdaptedEquation.derive``."""
    value = computed(fitted, function, posterior.phi)[..., 0]
    parts = (value, *ends_of_interval(computed(fitted, function, draws.phi), draws.weight, level))
    return Derived(*(float(part) if part.ndim == 0 else part.numpy() for part in parts))


def ends_of_interval(drawn: Tensor, weight: Tensor, level: float) -> Tensor:
    """Return the ends of the interval of a quantity at weighted draws, of shape (2, ...)."""
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    # infinite is an answer (never), and counts
    drawn = torch.where(torch.isinf(drawn), drawn.sign() * NEVER, drawn)
    ends = weighted_quantile(drawn.reshape(-1, drawn.shape[-1]), weight, tails).reshape(2, *drawn.shape[:-1])
    return torch.where(ends.abs() > REACHED, ends.sign() * torch.inf, ends)


def quantity_table(fitted: FittedEquation) -> pd.DataFrame:
    """Return one row a quantity that the equation declares, for the median task: value, error, spread of the tasks."""
    columns = ["value", "standard_error", "between_task_sd", "unit", "meaning"]
    declared = _declared(fitted)
    if not declared:
        return _frame({}, columns)
    p = len(fitted.table)
    phi = fitted.population.beta[:p, None]
    error, between = fitted.beta_error[:p], fitted.prior_variance.sqrt()
    finite = torch.where(torch.isfinite(error), error, torch.zeros_like(error))
    step = STEP * torch.where(finite > 0, finite, torch.where(between > 0, between, phi[:, 0].abs().clamp(min=1e-8)))
    around = torch.cat([phi, phi + torch.diag(step), phi - torch.diag(step)], dim=1)
    rows = {}
    for name, quantity in declared.items():
        values = computed(fitted, quantity.function, around)
        slope = (values[1 : 1 + p] - values[1 + p :]) / (2 * step)
        variance = slope @ fitted.beta_covariance[:p, :p] @ slope
        moved = slope.abs() > 0
        rows[name] = {
            "value": float(values[0]),
            "standard_error": float(variance.clamp(min=0).sqrt()) if torch.isfinite(error[moved]).all() else np.inf,
            "between_task_sd": float((slope @ fitted.population.factor).norm()),
            "unit": quantity.unit,
            "meaning": quantity.meaning,
        }
    return _frame(rows, columns)


def quantities_of_task(fitted: FittedEquation, posterior: Posterior, draws: Draws, level: float) -> pd.DataFrame:
    """Return one row a quantity that the equation declares, for one task: value and interval."""
    rows = {}
    for name, quantity in _declared(fitted).items():
        value, lower, upper = derived_from(fitted, posterior, draws, quantity.function, level)
        ends = {"value": value, "lower_90": lower, "upper_90": upper}
        rows[name] = {**ends, "unit": quantity.unit, "meaning": quantity.meaning}
    return _frame(rows, ["value", "lower_90", "upper_90", "unit", "meaning"])


def _declared(fitted: FittedEquation) -> Mapping[str, Quantity]:
    """Return the quantities that the equation declares, by name."""
    equation = fitted.function
    declared: Mapping[str, Quantity] = equation.quantities() if hasattr(equation, "quantities") else {}
    return declared


def _frame(rows: dict[str, dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    index = pd.Index(list(rows), name="quantity")
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def computed(fitted: FittedEquation, function: Callable[..., Any], phi: Tensor) -> Tensor:
    """Return a function of the constants at points of shape (constants, points)."""
    theta = fitted.model.transforms.constrain(phi).numpy()
    with np.errstate(all="ignore"):
        value = np.asarray(function(**dict(zip(fitted.given_names, theta, strict=False))))
    if value.dtype.kind not in "fiub":
        raise ValueError(f"derive: the function returned {value.dtype}, and numbers are wanted.")
    value = value.astype(np.float64)
    if value.shape[-1:] != theta.shape[1:]:
        raise ValueError(
            f"derive: the function returned shape {value.shape} for constants of shape {theta.shape[1:]}; the same "
            "last axis is wanted."
        )
    return torch.from_numpy(value)
