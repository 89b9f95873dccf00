"""Quantities derived from an adapted equation: times to a fraction, activation energies, TTT curves."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from metaest import AdaptedEquation, Derived
from metaest.tasks.numbers import as_number, as_one_or_more, as_vector
from metaest_domains.kinetics.catalogue import Formula
from metaest_domains.kinetics.rates import GAS_CONSTANT

__all__ = ["activation_energy", "half_transformation_time", "pre_exponential", "time_to", "ttt_curve"]


def time_to(
    adapted: AdaptedEquation, fraction: float, *, temperature: float | None = None, level: float = 0.9
) -> Derived:
    """Return the time at which a fraction is transformed, or another target is reached.

    Parameters
    ----------
    adapted : AdaptedEquation
        From an estimator of the catalogue whose curve rises with time.
    fraction : float
        Above 0, and below 1 where the target is a fraction.
    temperature : float, optional
        Constant temperature in K; required by equations with temperature, those along temperature histories included.
    level : float, default=0.9

    Returns
    -------
    Derived
        ``value``, ``lower``, ``upper``; infinite where the curve levels off below that fraction, 0 where it starts
        above it.

    Raises
    ------
    ValueError
        When the fraction is outside 0 to 1, the temperature is missing, or the equation has no such time.
    """
    formula = formula_of(adapted)
    if formula.inverse is None:
        raise ValueError(f"{formula.__name__} has no formula for the time at which a {formula.target} is reached.")
    most = formula.target_facts.upper
    wanted = "a number above 0" if np.isinf(most) else f"a number above 0 and below {most:g}"
    fraction = as_number(fraction, formula.target, above=0, below=most, wanted=wanted)
    needs = "temperature" in {*formula.inputs, *signature(formula.inverse).parameters}
    if needs != (temperature is not None):
        raise ValueError(
            f"{formula.__name__} {'needs a temperature (K).' if needs else 'does not depend on temperature.'}"
        )
    least, message = formula.limits.get("temperature", (0.0, ""))
    if temperature is not None:
        temperature = as_number(temperature, "temperature", wanted="a number of kelvin")
        if temperature < least:
            raise ValueError(f"temperature is {temperature:g}: {message}.")
    inverse = formula.inverse
    given = {"temperature": temperature} if needs else {}

    def time(**constants: Any) -> Any:
        return np.maximum(inverse(fraction, **given, **constants, **formula.fixed), 0.0)

    return adapted.derive(time, level)


def half_transformation_time(
    adapted: AdaptedEquation, *, temperature: float | None = None, level: float = 0.9
) -> Derived:
    """Return the time at which half is transformed; see :func:`time_to`."""
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
        When the equation has no such constant.
    """
    formula = _require(adapted, "E")
    return adapted.derive(lambda **constants: _with_fixed(formula, constants)["E"], level)


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
        When the equation has no such constant.
    """
    formula = _require(adapted, "E", "k_ref", "reference")

    def logarithm(**constants: Any) -> Any:
        values = _with_fixed(formula, constants)
        return np.log(values["k_ref"]) + values["E"] / (GAS_CONSTANT * values["reference"])

    return adapted.derive(logarithm, level)


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
        From an estimator whose rate follows Arrhenius' law, isothermal or along temperature histories.
    temperatures : array-like of shape (n,)
        In K. Arrhenius' law holds on one side of the nose of a diagram; the curves have none.
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
    at = as_one_or_more(temperatures, "ttt_curve: temperatures")
    shares = as_vector(fractions, "ttt_curve: fractions")
    if not len(at) or not len(shares):
        raise ValueError("ttt_curve: at least one temperature and one fraction are required.")
    for temperature in at.tolist():
        for fraction in shares.tolist():
            time = time_to(adapted, fraction, temperature=temperature, level=level)
            rows.append(
                {
                    "temperature": temperature,
                    "fraction": fraction,
                    "time": time.value,
                    "lower": time.lower,
                    "upper": time.upper,
                }
            )
    return pd.DataFrame(rows, columns=["temperature", "fraction", "time", "lower", "upper"])


def formula_of(adapted: AdaptedEquation) -> Formula:
    """Return the formula of the catalogue that an adapted equation evaluates, or raise a ValueError."""
    formula = getattr(adapted, "equation_", None)
    if not isinstance(formula, Formula):
        raise ValueError(
            "the result of adapt of an estimator of metaest_domains.kinetics is required, not a model or another "
            "equation."
        )
    return formula


def _require(adapted: AdaptedEquation, *names: str) -> Formula:
    formula = formula_of(adapted)
    for name in names:
        if name not in formula.fixed and name not in adapted.params_.index:
            raise ValueError(f"{formula.__name__} has no activation energy: it has no constant {name!r}.")
    return formula


def _with_fixed(formula: Formula, constants: dict[str, Any]) -> dict[str, Any]:
    """Return all constants, held ones included, as arrays of one shape."""
    like = next(iter(constants.values()))
    return {**constants, **{name: np.full_like(like, value) for name, value in formula.fixed.items()}}
