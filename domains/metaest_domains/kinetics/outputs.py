"""What an engineer asks of an adapted equation: times to a fraction, activation energies, TTT curves."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from metaest import AdaptedEquation, Derived
from metaest_domains.kinetics.catalogue import GAS_CONSTANT, Formula

__all__ = ["activation_energy", "half_transformation_time", "pre_exponential", "time_to", "ttt_curve"]


def time_to(
    adapted: AdaptedEquation, fraction: float, *, temperature: float | None = None, level: float = 0.9
) -> Derived:
    """Return the time at which a fraction is transformed.

    Parameters
    ----------
    adapted : AdaptedEquation
        From an isothermal estimator of the catalogue.
    fraction : float
        Above 0 and below 1.
    temperature : float, optional
        In K; of an equation with temperature.
    level : float, default=0.9

    Returns
    -------
    Derived
        ``value``, ``lower``, ``upper``; infinite where the curve levels off below that fraction.

    Raises
    ------
    ValueError
        When the fraction is no fraction, the temperature is missing, or the equation has no such time.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction!r}.")
    formula = _formula(adapted)
    if formula.inverse is None:
        raise ValueError(f"{formula.__name__} has no time to a fraction: its clock is a temperature history.")
    needs = "temperature" in formula.inputs
    if needs != (temperature is not None):
        raise ValueError(
            f"{formula.__name__} {'needs a temperature (K).' if needs else 'does not know of temperature.'}"
        )
    inverse, given = formula.inverse, {"temperature": temperature} if needs else {}
    return adapted.derive(lambda **constants: inverse(fraction, **given, **constants, **formula.fixed), level)


def half_transformation_time(
    adapted: AdaptedEquation, *, temperature: float | None = None, level: float = 0.9
) -> Derived:
    """Return the time at which one half is transformed; see :func:`time_to`."""
    return time_to(adapted, 0.5, temperature=temperature, level=level)


def activation_energy(adapted: AdaptedEquation, *, level: float = 0.9) -> Derived:
    """Return the activation energy in kJ/mol with its interval.

    Parameters
    ----------
    adapted : AdaptedEquation
        From an estimator with a constant ``E``.
    level : float, default=0.9

    Returns
    -------
    Derived

    Raises
    ------
    ValueError
        When the equation has none.
    """
    _require_arrhenius(adapted)
    return adapted.derive(lambda E, **others: E, level)


def pre_exponential(adapted: AdaptedEquation, *, level: float = 0.9) -> Derived:
    r"""Return the natural logarithm of the pre-exponential factor, :math:`\ln k_\mathrm{ref} + E / (R T_\mathrm{ref})`.

    Parameters
    ----------
    adapted : AdaptedEquation
        From an estimator with the constants ``k_ref`` and ``E``.
    level : float, default=0.9

    Returns
    -------
    Derived

    Raises
    ------
    ValueError
        When the equation has none.
    """
    reference = _require_arrhenius(adapted)
    return adapted.derive(lambda k_ref, E, **others: np.log(k_ref) + E / (GAS_CONSTANT * reference), level)


def ttt_curve(
    adapted: AdaptedEquation,
    temperatures: ArrayLike,
    fractions: Sequence[float] = (0.01, 0.5, 0.99),
    *,
    level: float = 0.9,
) -> pd.DataFrame:
    """Return a time-temperature-transformation diagram.

    Parameters
    ----------
    adapted : AdaptedEquation
        From an isothermal estimator with temperature, :class:`JMAKArrheniusRegressor`.
    temperatures : array-like of shape (n,)
        In K. Arrhenius' law has no nose: it holds on one side of it.
    fractions : sequence of float, default=(0.01, 0.5, 0.99)
    level : float, default=0.9

    Returns
    -------
    DataFrame
        ``temperature``, ``fraction``, ``time``, ``lower``, ``upper``.

    Raises
    ------
    ValueError
        As :func:`time_to` does.
    """
    rows: list[dict[str, Any]] = []
    for temperature in np.asarray(temperatures, dtype=np.float64).tolist():
        for fraction in fractions:
            found = time_to(adapted, fraction, temperature=temperature, level=level)
            rows.append(
                {
                    "temperature": temperature,
                    "fraction": fraction,
                    "time": found.value,
                    "lower": found.lower,
                    "upper": found.upper,
                }
            )
    return pd.DataFrame(rows, columns=["temperature", "fraction", "time", "lower", "upper"])


def _formula(adapted: AdaptedEquation) -> Formula:
    formula = adapted.equation_
    if not isinstance(formula, Formula):
        raise ValueError("an equation adapted by an estimator of the catalogue is wanted.")
    return formula


def _require_arrhenius(adapted: AdaptedEquation) -> float:
    formula = _formula(adapted)
    reference = float(formula.fixed.get("reference", math.nan))
    if "temperature" not in formula.inputs and "rate" not in formula.inputs and "history" not in formula.inputs:
        raise ValueError(f"{formula.__name__} has no activation energy.")
    return reference
