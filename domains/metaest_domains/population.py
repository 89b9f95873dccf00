"""Models of a catalogue that keep a published population in place of a fit."""

import inspect
from typing import Any, TypeVar

from metaest import EquationRegressor, Population
from metaest.population.json_form import plain_settings

__all__ = ["from_population", "keep_population"]

M = TypeVar("M", bound=EquationRegressor)


def keep_population(cls: type[M], population: Any, settings: dict[str, Any]) -> M:
    """Return a model of a catalogue, which makes its equation of its settings, with the numbers of a population.

    Raises
    ------
    TypeError, ValueError
        When it is no population, belongs to another model, or its settings contradict the given ones.
    """
    if not isinstance(population, Population):
        raise TypeError(f"from_population: a Population is wanted, got {population!r}.")
    for name in population.settings:
        if name not in inspect.signature(cls).parameters:
            raise ValueError(
                f"from_population: the population belongs to {name}={population.settings[name]!r}, and {cls.__name__} "
                "has no such setting."
            )
    chosen = {**population.as_settings(), **plain_settings(population.settings), **settings}
    return cls(parameters=dict(population.constants), **chosen).fit([])


def from_population(cls: Any, /, population: Population, **settings: Any) -> Any:
    """Return a model with the numbers of a population, fitted to no data.

    See :meth:`metaest.EquationRegressor.from_population`; the equation follows from the settings that the population
    states and the further ones.

    Parameters
    ----------
    population : Population
        Of this model: its ``equation`` is the name of the class, or empty.
    **settings : dict
        Further settings of the constructor.

    Returns
    -------
    KineticRegressor or MinimalModelRegressor
        Fitted.

    Raises
    ------
    TypeError, ValueError
        When the population belongs to another model, or settings contradict it.
    """
    return keep_population(cls, population, settings)
