r"""New observations of a task beside those it was adapted to, whose residuals say something where they correlate.

With the residual of a seen row known, a new one near it is no longer free: given the constants, it is normal with the
mean and the variance of ``Correlation.bridge``, in units of its noise. Several new observations are drawn together:
from residuals without regard to the seen rows, moved by what the bridge makes of the difference to the seen ones
(Matheron's rule; Journel and Huijbregts, 1978; Hoffman and Ribak, 1991, :doi:`10.1086/186160`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.batches import one_task
from metaest.estimators.equations.fitted import FittedEquation
from metaest.functional import Observations
from metaest.functional.equations.correlation import Bridge

__all__ = ["NearRows", "correlated_noise"]

# smallest conditional standard deviation of a new row, in those of the noise: at the time of a seen row it would be 0
SMALLEST = 1e-6


@dataclass(frozen=True)
class NearRows:
    """The rows that a task was adapted to, for residuals that correlate in time.

    Parameters
    ----------
    fitted : FittedEquation
        With ``noise_correlation="car1"``.
    X, y, weight : ndarray, ndarray, ndarray or None
    """

    fitted: FittedEquation
    X: NDArray[Any]
    y: NDArray[Any]
    weight: NDArray[Any] | None

    @classmethod
    def of(
        cls, fitted: FittedEquation, X: NDArray[Any], y: NDArray[Any], weight: NDArray[Any] | None
    ) -> "NearRows | None":
        """Return the rows; None where they say nothing about new ones, or new ones have no place among them."""
        correlation = fitted.model.noise.correlation
        if correlation is None or correlation.column is None or not len(X):
            return None
        return cls(fitted, X, y, weight)

    def moved(self, phi: Tensor, curves: Tensor, sd: Tensor, new: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations of new observations, given constants and the seen rows.

        Parameters
        ----------
        phi : Tensor of shape (constants, draws)
        curves, sd : Tensor of shape (new rows, draws)
            Curves at these constants, and standard deviations of the noise, on its scale.
        new : ndarray of shape (new rows, features)
        """
        bridge, residuals = self.bridge(new, phi)
        return curves + sd * bridge.mean(residuals), sd * bridge.variance.sqrt().clamp(min=SMALLEST)

    def bridge(self, new: NDArray[Any], phi: Tensor) -> tuple[Bridge, Tensor]:
        """Return how new rows hang on the seen ones, and the standardised residuals of these, (rows, draws)."""
        noise, log_sigma = self.fitted.model.noise, self.fitted.population.log_sigma
        assert noise.correlation is not None
        chosen = self.neighbours(new)
        weight = None if self.weight is None else self.weight[chosen]
        bridge = noise.correlation.bridge(one_task(self.X[chosen]), one_task(new), log_sigma[-1])
        seen = one_task(self.X[chosen], self.y[chosen], phi.shape[1], weight)
        with torch.no_grad():
            curves = self.fitted.model.curve(phi, seen)
            sd = noise.variance(curves, log_sigma, noise.accuracy(seen)).sqrt()
            residuals = noise.residual(curves, seen.y) / sd
        return bridge, residuals

    def slopes(self, phi: Tensor, factor: Tensor) -> Tensor:
        """Return slopes of the seen rows in u, in standard deviations of the noise, of shape (draws, rows, random)."""
        noise = self.fitted.model.noise
        seen = one_task(self.X, copies=phi.shape[1], weight=self.weight)
        values, slopes = self.fitted.model.curve_and_slopes(phi, seen)
        sd = noise.variance(values, self.fitted.population.log_sigma, noise.accuracy(seen)).sqrt()
        z = torch.einsum("km,kct->tcm", factor, (noise.slopes_on_scale(values, slopes) / sd).detach())
        return torch.nan_to_num(z, nan=0.0, posinf=0.0, neginf=0.0)

    def neighbours(self, new: NDArray[Any]) -> NDArray[np.intp]:
        """Return the numbers of the seen rows that are next to a new one; all for an equation whose rows need them."""
        correlation = self.fitted.model.noise.correlation
        assert correlation is not None
        if self.fitted.model.equation.mode != "rows":
            return np.arange(len(self.X))
        times = self.X[:, correlation.column].astype(np.float64)
        order = np.argsort(times, kind="stable")
        right = np.searchsorted(times[order], new[:, correlation.column].astype(np.float64), side="right")
        places = np.concatenate([right - 1, right])
        return np.unique(order[places[(places >= 0) & (places < len(times))]])


def correlated_noise(
    fitted: FittedEquation, near: NearRows | None, phi: Tensor, new: NDArray[Any], rng: np.random.Generator
) -> Tensor:
    """Return standardised residuals of new rows that correlate with one another, and with the seen rows.

    Parameters
    ----------
    fitted : FittedEquation
    near : NearRows or None
    phi : Tensor of shape (constants, draws)
    new : ndarray of shape (rows, features)
    rng : Generator

    Returns
    -------
    Tensor of shape (rows, draws)
    """
    if near is None:
        return _drawn(fitted, one_task(new), phi.shape[1], rng)
    bridge, residuals = near.bridge(new, phi)
    # either may have further columns; the one of times is in both
    seen, width = near.X[near.neighbours(new)], min(new.shape[1], near.X.shape[1])
    free = _drawn(fitted, one_task(np.concatenate([new[:, :width], seen[:, :width]])), phi.shape[1], rng)
    return free[: len(new)] + bridge.mean(residuals - free[len(new) :])


def _drawn(fitted: FittedEquation, rows: Observations, draws: int, rng: np.random.Generator) -> Tensor:
    """Return residuals of the rows of one task, of shape (rows, draws)."""
    correlation = fitted.model.noise.correlation
    assert correlation is not None
    normal = torch.from_numpy(rng.standard_normal((len(rows.y), draws)))
    lags = correlation.lags(rows, fitted.population.log_sigma[-1])
    order = torch.arange(len(normal)) if lags.order is None else lags.order[:, 0]
    series = torch.empty_like(normal)
    last = normal[0]
    series[order[0]] = last
    for i in range(1, len(normal)):
        last = lags.rho[i - 1] * last + lags.root[i - 1] * normal[i]
        series[order[i]] = last
    return series
