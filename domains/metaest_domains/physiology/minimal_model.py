"""Bergman's minimal model: glucose after it is given into the vein, with insulin as it was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from metaest import EquationRegressor, Parameter, TaskSet
from metaest_domains.physiology.integrated import integrate

__all__ = ["MinimalModelRegressor", "insulin_rows"]


def insulin_rows(
    times: ArrayLike, insulin_times: ArrayLike, insulin: ArrayLike, basal_glucose: float, basal_insulin: float
) -> pd.DataFrame:
    """Return rows of X for glucose at given times, each with the insulin of its test.

    Parameters
    ----------
    times : array-like of shape (n_rows,)
        Since glucose was given; at least 0.
    insulin_times, insulin : array-like of shape (n_measurements,)
        Rising times, and insulin then; linear between, and held at both ends. All tests of a fit need as many.
    basal_glucose, basal_insulin : float
        Before the test.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        When times do not rise, a value is negative, or lengths differ.
    """
    at, known, level = (np.atleast_1d(np.asarray(own, dtype=np.float64)) for own in (times, insulin_times, insulin))
    if known.shape != level.shape or len(known) < 2 or not (np.diff(known) > 0).all():
        raise ValueError("insulin needs two measurements or more, at rising times, one value each.")
    values = np.concatenate([at, known, level, [basal_glucose, basal_insulin]])
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("times, insulin and basal values must be numbers of at least 0.")
    n = len(known)
    rows = np.column_stack([at, np.tile(np.concatenate([known, level, [basal_glucose, basal_insulin]]), (len(at), 1))])
    names = [*(f"insulin_time_{i + 1}" for i in range(n)), *(f"insulin_{i + 1}" for i in range(n))]
    return pd.DataFrame(rows, columns=["time", *names, "basal_glucose", "basal_insulin"])


@dataclass(frozen=True)
class MinimalModel:
    """Glucose as a function of X, the columns of :func:`insulin_rows`."""

    n: int

    def __call__(self, X: Tensor, effectiveness: Tensor, sensitivity: Tensor, action: Tensor, start: Tensor) -> Tensor:
        """Return glucose, of shape (n_rows,)."""
        time, known, level = X[:, 0], X[:, 1 : 1 + self.n].contiguous(), X[:, 1 + self.n : 1 + 2 * self.n]
        basal, basal_insulin = X[:, -2], X[:, -1]

        def slope(t: Tensor, state: Tensor) -> Tensor:
            glucose, remote = state
            right = torch.searchsorted(known, t[:, None].contiguous()).clamp(1, self.n - 1)
            t0, t1, i0, i1 = (own.gather(1, right + k)[:, 0] for own in (known, level) for k in (-1, 0))
            insulin = i0 + (i1 - i0) * ((t - t0) / (t1 - t0)).clamp(0, 1)
            return torch.stack(
                [
                    effectiveness * (basal - glucose) - remote * glucose,
                    action * (sensitivity * (insulin - basal_insulin) - remote),
                ]
            )

        zero = torch.zeros_like(time)
        found = integrate(slope, torch.stack([start + zero, zero]), zero, time)
        return found[0]

    def check_rows(self, X: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Raise a ValueError when rows cannot be those of a test."""
        wrong = np.flatnonzero((X < 0).any(axis=1))
        if len(wrong):
            raise ValueError(f"a time or a concentration is negative in row {wrong[0]}.")
        if not (np.diff(X[:, 1 : 1 + self.n], axis=1) > 0).all():
            raise ValueError("the times of insulin do not rise; see insulin_rows.")


class MinimalModelRegressor(EquationRegressor):
    r"""Glucose and insulin in a glucose tolerance test, by Bergman's minimal model.

    .. math:: \frac{dG}{dt} = S_G (G_b - G) - X G, \qquad \frac{dX}{dt} = p_2 \left(S_I (I(t) - I_b) - X\right),
              \qquad G(0) = G_0, \quad X(0) = 0,

    with insulin I as it was measured, linear between measurements. Needs torchdiffeq (``pip install metaest[ode]``).

    ================= ===================== ======== ====================================================
    constant          unit                  bounds   meaning
    ================= ===================== ======== ====================================================
    ``effectiveness`` 1/time                above 0  S_G, how glucose falls without insulin above basal
    ``sensitivity``   1/time/concentration  above 0  S_I, how much faster a unit of insulin makes it
    ``action``        1/time                above 0  p_2, how fast insulin comes to act
    ``start``         concentration         above 0  G_0, as if glucose given at time 0 were mixed at once
    ================= ===================== ======== ====================================================

    Parameters
    ----------
    parameters : dict of str to Parameter, optional
        In place of those above; the defaults are rough values in minutes, mg/dL and uU/mL.
    random, covariance, noise, limit, covariates, support_size, split, max_iter, compile, random_state, verbose
        As :class:`metaest.EquationRegressor` takes them; ``covariance="diagonal"`` by default.

    References
    ----------
    R. N. Bergman, Y. Z. Ider, C. R. Bowden, C. Cobelli (1979). Quantitative estimation of insulin sensitivity.
    :doi:`10.1152/ajpendo.1979.236.6.E667`

    Examples
    --------
    >>> from metaest_domains.physiology import insulin_rows
    >>> insulin_rows([2.0, 10.0], [0, 4, 20, 180], [10, 80, 30, 10], 90.0, 10.0).shape
    (2, 11)
    """

    _guards = True
    inner_solver, inner_steps, meta_gradient, meta_lr, meta_batch_size = "gauss-newton", 0, "exact", 0.05, 25
    objective, n_episodes = "evidence", None
    constants = {
        "effectiveness": Parameter(0.02, lower=0, unit="1/time", meaning="glucose effectiveness"),
        "sensitivity": Parameter(5e-4, lower=0, unit="1/time/concentration", meaning="insulin sensitivity"),
        "action": Parameter(0.03, lower=0, unit="1/time", meaning="rate at which insulin comes to act"),
        "start": Parameter(250.0, lower=0, unit="concentration", meaning="glucose at time 0"),
    }

    def __init__(
        self,
        *,
        parameters: Mapping[str, Parameter | float] | None = None,
        random: Sequence[str] | None = None,
        covariance: str = "diagonal",
        noise: str = "additive",
        limit: float | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        max_iter: int = 300,
        compile: str | bool = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.parameters = parameters  # type: ignore[assignment]
        self.random = random
        self.covariance = covariance
        self.noise = noise
        self.limit = limit
        self.covariates = covariates
        self.support_size = support_size
        self.split = split
        self.max_iter = max_iter
        self.compile = compile
        self.random_state = random_state
        self.verbose = verbose

    def _problem(self, tasks: TaskSet) -> tuple[MinimalModel, dict[str, Parameter]]:
        names = list(tasks.feature_names or [])
        n = sum(name.startswith("insulin_time_") for name in names)
        expected = [
            "time",
            *(f"insulin_time_{i + 1}" for i in range(n)),
            *(f"insulin_{i + 1}" for i in range(n)),
            "basal_glucose",
            "basal_insulin",
        ]
        if n < 2 or names != expected:
            raise ValueError(f"X must have the columns of insulin_rows, got {names or tasks.X.shape[1]}.")
        own = dict(self.parameters or {})
        for name in own:
            if name not in self.constants:
                raise ValueError(f"parameters: there is no {name!r}; there are {', '.join(self.constants)}.")
        given = {name: p if isinstance(p, Parameter) else Parameter(float(p)) for name, p in own.items()}
        return MinimalModel(n), {**self.constants, **given}
