"""The constants of a domain's equation: which are fitted, from which initial values, and which are held.

Every model of a domain overrides ``problem(tasks)`` of :class:`metaest.EquationRegressor`, and assembles the parameters
that it returns with these two functions.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from metaest import Parameter
from metaest.tasks.numbers import as_number

__all__ = ["as_mapping", "hold", "parameters_to_fit", "refuse_unknown"]


def parameters_to_fit(
    constants: Mapping[str, Parameter], replacements: Mapping[str, Any] | None, guessed: Mapping[str, float]
) -> dict[str, Parameter]:
    """Return the parameters of a model: those of the user, and the model's with initial values read off the data.

    Parameters
    ----------
    constants : dict of str to Parameter
        Parameters of the model.
    replacements : dict of str to Parameter or float, or None
        The setting ``parameters`` of the user; a number is the initial value of a parameter without bounds.
    guessed : dict of str to float
        Initial values; one outside the bounds of its parameter is ignored.
    """
    given = as_mapping(replacements, "parameters")
    refuse_unknown(given, constants, "parameters")
    table = {}
    for name, parameter in constants.items():
        if name in given:
            value = given[name]
            table[name] = value if isinstance(value, Parameter) else Parameter(as_number(value, f"parameters: {name}"))
        elif name in guessed:
            table[name] = replace(parameter, initial=_inside(guessed[name], parameter))
        else:
            table[name] = parameter
    return table


def hold(
    table: dict[str, Parameter],
    fixed: Mapping[str, float] | None,
    held: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, float]:
    """Remove the constants that the user holds from the table, and return all held constants with their values.

    Parameters
    ----------
    table : dict of str to Parameter
        Parameters to fit; those that the user holds are removed.
    fixed : dict of str to float, or None
        The setting ``fixed`` of the user.
    held : dict of str to float, optional
        Constants that the model holds, with their usual values.
    bounds : dict of str to (float, float), optional
        Bounds of held constants, in addition to those of the table.
    """
    values = dict(held or {})
    for name, value in as_mapping(fixed, "fixed").items():
        refuse_unknown([name], {**table, **values}, "fixed")
        number = as_number(value, f"fixed: {name}")
        low, high = table.pop(name).bounds if name in table else (-np.inf, np.inf)
        least, most = (bounds or {}).get(name, (-np.inf, np.inf))
        low = max(low, least)
        high = min(high, most)
        if not low < number < high:
            raise ValueError(f"fixed: {name} = {number:g} is not inside its bounds ({low:g}, {high:g}).")
        values[name] = number
    return values


def as_mapping(given: Any, name: str) -> dict[str, Any]:
    """Return a setting that is a dict by name, empty for None."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{name} must be a dict by name, got {given!r}.")
    return dict(given or {})


def refuse_unknown(names: Any, available: Mapping[str, Any], setting: str) -> None:
    """Raise a ValueError for the first name that is not available."""
    for name in names:
        if name not in available:
            raise ValueError(f"{setting}: there is no {name!r}; there are {', '.join(available) or 'none'}.")


def _inside(value: float, parameter: Parameter) -> float:
    low, high = parameter.bounds
    if not np.isfinite(value) or not low < value < high:
        return parameter.initial
    return float(value)
