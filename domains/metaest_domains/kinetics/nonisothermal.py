"""JMAK kinetics and conversion along a temperature history, by the additivity rule."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from metaest import Parameter, Population, TaskSet
from metaest_domains.kinetics.catalogue import Inputs, KineticRegressor
from metaest_domains.kinetics.guesses import half_time
from metaest_domains.kinetics.history import HOTTEST, Histories
from metaest_domains.kinetics.jmak import PLATEAU, avrami_argument
from metaest_domains.kinetics.ramp import ramp_integral
from metaest_domains.kinetics.rates import arrhenius, begun

__all__ = ["AlongHistory", "NonIsothermalJMAKRegressor"]

# K; a ramp that ends below this was given with a rate in other units
COLDEST = 20.0
# kJ/mol; first guess of the activation energy of a reaction that proceeds on cooling
_ENERGY_ON_COOLING = -150.0
# shares of the largest value between which a curve counts as half transformed
_AMID = (0.2, 0.8)


class AlongHistory(KineticRegressor):
    r"""An equation of the thermal time :math:`\theta = \int_0^t k(T(s))\,ds` along a temperature history.

    A subclass defines ``shape(theta, **constants)``; its constants include ``k_ref`` and ``E``.

    Parameters
    ----------
    histories : dict of int to (times, temperatures), optional
        Piecewise linear histories by number: times from 0 on, temperatures in K; the last temperature is held. Without
        them the inputs are ``time``, ``start`` (K) and ``rate`` (K per unit of time) of a linear ramp; with them
        ``time`` and ``history``, the number of the row's history.
    columns, optional, fixed, parameters
        As :class:`KineticRegressor` takes them; the rest as :class:`metaest.EquationRegressor` does.
    """

    read_off = ("reference",)
    shape: Callable[..., Tensor]

    def __init__(
        self,
        *,
        histories: Mapping[int, tuple[ArrayLike, ArrayLike]] | None = None,
        columns: Mapping[str, str | int] | None = None,
        optional: Sequence[str] = (),
        fixed: Mapping[str, float] | None = None,
        parameters: Mapping[str, Parameter | float] | None = None,
        random: Sequence[str] | None = None,
        covariance: str | Mapping[str, str] = "full",
        levels: Mapping[str, Sequence[str]] | None = None,
        noise: str = "additive",
        noise_correlation: str | None = None,
        correlation_time: str | int | None = None,
        limit: float | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        objective: str = "evidence",
        inner_solver: str = "gauss-newton",
        inner_steps: int = 5,
        meta_gradient: str = "exact",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        n_episodes: int | None = None,
        meta_lr: float = 0.05,
        meta_batch_size: int = 25,
        max_iter: int = 300,
        compile: str | bool = "auto",
        prior: Population | None = None,
        prior_weight: float | str = np.inf,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            columns=columns,
            optional=optional,
            fixed=fixed,
            parameters=parameters,
            random=random,
            covariance=covariance,
            levels=levels,
            noise=noise,
            noise_correlation=noise_correlation,
            correlation_time=correlation_time,
            limit=limit,
            covariates=covariates,
            objective=objective,
            inner_solver=inner_solver,
            inner_steps=inner_steps,
            meta_gradient=meta_gradient,
            support_size=support_size,
            split=split,
            n_episodes=n_episodes,
            meta_lr=meta_lr,
            meta_batch_size=meta_batch_size,
            max_iter=max_iter,
            compile=compile,
            prior=prior,
            prior_weight=prior_weight,
            random_state=random_state,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            verbose=verbose,
        )
        self.histories = histories

    def with_histories(self, histories: Mapping[int, tuple[ArrayLike, ArrayLike]]) -> "AlongHistory":
        """Return a copy of the fitted model with further temperature histories, such as those of future batches.

        Parameters
        ----------
        histories : dict of int to (times, temperatures)

        Returns
        -------
        AlongHistory
            The copy has the same constants, and the histories of the fit as well; the model itself is not changed.

        Raises
        ------
        ValueError
            When a history is invalid, its number is already in use for another history, or the model was fitted to
            ramps.
        """
        check_is_fitted(self)
        formula: Any = self.equation_
        if formula.function.histories is None:
            raise ValueError("with_histories: this model was fitted to linear ramps, which need no histories.")
        fitted: Histories = formula.function.histories
        none = isinstance(histories, Mapping) and not len(histories)
        merged = fitted if none else fitted.joined(Histories.read(histories))
        other = self.with_equation(replace(formula, function=Along(formula.function.shape, merged)))
        other.histories = merged.given
        return other

    def _inputs(self) -> tuple[str, ...]:
        return ("time", "start", "rate") if self.histories is None else ("time", "history")

    def _formula(self) -> Callable[..., Tensor]:
        read = None if self.histories is None else Histories.read(self.histories)
        return Along(type(self).shape, read)

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Take the temperature at which tasks are half transformed as the reference, and the rate there."""
        if self.histories is None:
            temperature = inputs["start"] + inputs["rate"] * inputs["time"]
        else:
            temperature = Histories.read(self.histories).temperature_at(inputs["time"], inputs["history"])
        amid = (y > _AMID[0] * y.max()) & (y < _AMID[1] * y.max())
        chosen = temperature[amid] if amid.any() else temperature
        times = inputs["time"][amid] if amid.any() else inputs["time"]
        width = np.ptp(times) if len(times) > 1 and np.ptp(times) > 0 else half_time(inputs["time"], y, tasks)
        initial = {"k_ref": float(1 / width), "reference": float(np.round(chosen.mean()))}
        if np.mean(chosen) < np.mean(temperature[inputs["time"] <= np.median(inputs["time"])]):
            initial["E"] = _ENERGY_ON_COOLING
        return initial


class Along:
    """Formula of an equation of thermal time."""

    # the attributes that a saved file holds
    _written_fields = ("shape", "histories", "__qualname__")
    memory = (
        "a fraction is an integral along the temperatures before its row, so that a constant cannot follow a column "
        "from row to row"
    )

    def __init__(self, shape: Callable[..., Tensor], histories: Histories | None) -> None:
        self.shape = shape
        self.histories = histories
        self.__qualname__ = shape.__qualname__

    def check_inputs(self, inputs: Inputs) -> None:
        """Raise a ValueError when a row names a history that was not given, or a ramp ends at an impossible value."""
        if self.histories is None:
            with np.errstate(over="ignore", invalid="ignore"):
                end = inputs["start"] + inputs["rate"] * inputs["time"]
            wrong = np.flatnonzero(~((end >= COLDEST) & (end <= HOTTEST)))
            if len(wrong):
                raise ValueError(
                    f"the ramp reaches {end[wrong[0]]:g} K in row {wrong[0]}; rate must be in kelvin per unit of time "
                    "(K/s where time is in s)."
                )
        else:
            numbers = self.histories.numbers.numpy()
            wrong = np.flatnonzero(~np.isin(inputs["history"], numbers))
            if len(wrong):
                raise ValueError(
                    f"history is {inputs['history'][wrong[0]]:g} in row {wrong[0]}; there are "
                    f"{', '.join(f'{number:g}' for number in numbers)} (see with_histories)."
                )

    def __call__(self, time: Tensor, *where: Tensor, k_ref: Any, E: Any, reference: float, **constants: Any) -> Tensor:
        energy = torch.as_tensor(E, dtype=time.dtype).expand_as(time)
        if self.histories is None:
            start, speed = where
            theta = ramp_integral(time.clamp(min=0.0), start, speed, energy, reference)
        else:
            (number,) = where
            theta = self.histories.thermal_times.integral(time, number, energy, reference)
        return self.shape(begun(k_ref * theta), **constants)


class NonIsothermalJMAKRegressor(AlongHistory):
    r"""JMAK kinetics along a temperature history, by the additivity rule.

    .. math:: X = X_\infty \left(1 - e^{-\theta^n}\right), \qquad
              \theta = \int_0^t k_\mathrm{ref} \exp\left(-\frac{E}{R}\left(\frac1{T(s)} - \frac1{T_\mathrm{ref}}\right)
              \right) ds

    Additivity (Scheil, 1935) is exact only for isokinetic reactions, whose rate is a function of X times a function of
    T: here, where n does not depend on temperature. For other reactions it is an approximation whose error this
    estimator cannot estimate.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``k_ref``       1/time    above 0  rate at the reference temperature
    ``E``           kJ/mol             activation energy; negative where cooling speeds up
    ``n``                     above 0  Avrami exponent
    ``plateau``               above 0  optional, otherwise 1
    ``reference``   K                  held: where the training curves are half-way
    =============== ========= ======== ==================================================

    The parameters are those of :class:`AlongHistory`.

    References
    ----------
    E. Scheil (1935). Anlaufzeit der Austenitumwandlung. Archiv für das Eisenhüttenwesen 8, 565-567. J. W. Cahn (1956).
    Transformation kinetics during continuous cooling. Acta Metallurgica 4, 572-575.

    Examples
    --------
    >>> from metaest_domains.kinetics import NonIsothermalJMAKRegressor
    >>> quench_and_hold = {1: ([0, 20, 3600], [1100, 700, 700]), 2: ([0, 20, 3600], [1100, 650, 650])}  # s, K
    >>> NonIsothermalJMAKRegressor(histories=quench_and_hold, optional=["plateau"])
    NonIsothermalJMAKRegressor(histories=..., optional=['plateau'])
    """

    constants = {
        "k_ref": Parameter(1.0, lower=0, unit="1/time", meaning="rate at the reference temperature"),
        "E": Parameter(150.0, unit="kJ/mol", meaning="activation energy"),
        "n": Parameter(2.0, lower=0, meaning="Avrami exponent"),
    }
    optional_constants = {"plateau": PLATEAU}

    @staticmethod
    def shape(theta: Tensor, n: Tensor, plateau: Tensor) -> Tensor:
        """Return X after a thermal time."""
        return plateau * (1 - torch.exp(-(theta**n)))

    @staticmethod
    def inverse(fraction: Any, temperature: Any, k_ref: Any, E: Any, n: Any, plateau: Any, reference: float) -> Any:
        """Return the time at which a fraction is transformed at a constant temperature."""
        return avrami_argument(fraction, n, plateau) / arrhenius(temperature, k_ref, E, reference)
