"""Quantities computed from the constants of one task, with the uncertainty of these."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaest.estimators.equations.draws import Draws, weighted_quantile
from metaest.estimators.equations.fitted import Calibrated, Posterior

__all__ = ["Derived", "Quantity", "derived_from", "quantities_of_task", "quantity_table"]

NEVER, REACHED = 1e300, 1e290
# of differences, in standard deviations of a constant: small beside what bends, large beside what rounding leaves
STEP = 1e-4


class Quantity(NamedTuple):
    """A quantity that is computed from the constants of an equation, and reported beside them.

    An equation with a method ``quantities()`` that returns a dict of them by name has them in ``derived_``, of the
    fitted model and of every adapted predictor, and in ``summary()``.

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
    calibrated: Calibrated, posterior: Posterior, draws: Draws, function: Callable[..., Any], level: float
) -> Derived:
    """Compute `function` at the most probable constants and at the draws; see ``AdaptedEquation.derive``."""
    value = _compute(calibrated, function, posterior.phi)[..., 0]
    drawn = _compute(calibrated, function, draws.phi)
    tails = torch.tensor([0.5 - level / 2, 0.5 + level / 2], dtype=torch.float64)
    # infinite is an answer (never), and counts
    drawn = torch.where(torch.isinf(drawn), drawn.sign() * NEVER, drawn)
    ends = weighted_quantile(drawn.reshape(-1, drawn.shape[-1]), draws.weight, tails).reshape(2, *value.shape)
    ends = torch.where(ends.abs() > REACHED, ends.sign() * torch.inf, ends)
    parts = (value, *ends)
    return Derived(*(float(part) if part.ndim == 0 else part.numpy() for part in parts))


def quantity_table(calibrated: Calibrated) -> pd.DataFrame:
    """One row a quantity that the equation declares, for the median task: value, standard error, between-task SD."""
    p = len(calibrated.table)
    phi = calibrated.population.beta[:p, None]
    error, between = calibrated.beta_error[:p], calibrated.prior_variance.sqrt()
    finite = torch.where(torch.isfinite(error), error, torch.zeros_like(error))
    step = STEP * torch.where(finite > 0, finite, torch.where(between > 0, between, phi[:, 0].abs().clamp(min=1e-8)))
    around = torch.cat([phi, phi + torch.diag(step), phi - torch.diag(step)], dim=1)
    rows = {}
    for name, quantity in _declared(calibrated).items():
        values = _compute(calibrated, quantity.function, around)
        slope = (values[1 : 1 + p] - values[1 + p :]) / (2 * step)
        variance = slope @ calibrated.beta_covariance[:p, :p] @ slope
        moved = slope.abs() > 0
        rows[name] = {
            "value": float(values[0]),
            "standard_error": float(variance.clamp(min=0).sqrt()) if torch.isfinite(error[moved]).all() else np.inf,
            "between_task_sd": float((slope @ calibrated.population.factor).norm()),
            "unit": quantity.unit,
            "meaning": quantity.meaning,
        }
    return _frame(rows, ["value", "standard_error", "between_task_sd", "unit", "meaning"])


def quantities_of_task(calibrated: Calibrated, posterior: Posterior, draws: Draws, level: float) -> pd.DataFrame:
    """One row a quantity that the equation declares, for one task: value and interval."""
    rows = {}
    for name, quantity in _declared(calibrated).items():
        value, lower, upper = derived_from(calibrated, posterior, draws, quantity.function, level)
        ends = {"value": value, "lower_90": lower, "upper_90": upper}
        rows[name] = {**ends, "unit": quantity.unit, "meaning": quantity.meaning}
    return _frame(rows, ["value", "lower_90", "upper_90", "unit", "meaning"])


def _declared(calibrated: Calibrated) -> Mapping[str, Quantity]:
    equation = calibrated.model.equation.function
    declared: Mapping[str, Quantity] = equation.quantities() if hasattr(equation, "quantities") else {}
    return declared


def _frame(rows: dict[str, dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    index = pd.Index(list(rows), name="quantity")
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def _compute(calibrated: Calibrated, function: Callable[..., Any], phi: Tensor) -> Tensor:
    """Return a function of the constants at points of shape (constants, points)."""
    theta = calibrated.model.transforms.constrain(phi).numpy()
    with np.errstate(all="ignore"):
        value = np.asarray(function(**dict(zip(calibrated.names, theta, strict=True))))
    if value.dtype.kind not in "fiub":
        raise ValueError(f"derive: the function returned {value.dtype}, and numbers are wanted.")
    value = value.astype(np.float64)
    if value.shape[-1:] != theta.shape[1:]:
        raise ValueError(
            f"derive: the function returned shape {value.shape} for constants of shape {theta.shape[1:]}; the same "
            "last axis is wanted."
        )
    return torch.from_numpy(value)
