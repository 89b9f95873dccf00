"""Finding and reading published kinetics: data/MATERIAL/NAME.json, as :class:`metaest.Population` writes them."""

from importlib.resources import files
from typing import Any

import pandas as pd

from metaest import Population
from metaest_domains.kinetics.catalogue import KineticRegressor
from metaest_domains.kinetics.conversion import NthOrderConversionRegressor
from metaest_domains.kinetics.jmak import JMAKArrheniusRegressor
from metaest_domains.published import PublishedFiles

__all__ = ["list_published", "load_published", "published_model"]

_FILES = PublishedFiles(files("metaest_domains.kinetics.published") / "data", "material")
MODELS: dict[str, type[KineticRegressor]] = {
    "JMAKArrheniusRegressor": JMAKArrheniusRegressor,
    "NthOrderConversionRegressor": NthOrderConversionRegressor,
}
STRUCTURES = {
    "JMAKArrheniusRegressor": "JMAK with Arrhenius' law, isothermal",
    "NthOrderConversionRegressor": "order n with Arrhenius' law, along a ramp",
}


def load_published(material: str, name: str) -> Population:
    """Return published kinetic constants of a material, with their variation between laboratories or samples.

    The model of its ``equation`` keeps it, see :func:`published_model`. Its ``columns`` say which columns of X it
    reads, in which units, and its ``provenance`` where the numbers come from, what was computed of them, and what is
    assumed.

    Parameters
    ----------
    material, name : str
        As in :func:`list_published`.

    Returns
    -------
    Population

    Raises
    ------
    TypeError
        When `material` or `name` is no text.
    ValueError
        When there are no such constants; the message lists those there are.

    Examples
    --------
    >>> from metaest_domains.kinetics import load_published
    >>> pmma = load_published("pmma", "macfp-2021")
    >>> {name: round(value, 4) for name, value in pmma.typical().items()}
    {'k_ref': 0.0031, 'E': 168.1, 'order': 1.163}
    """
    return _FILES.load(material, name)


def published_model(material: str, name: str, **settings: Any) -> KineticRegressor:
    """Return the estimator of published constants: that which their population names, with the population.

    Parameters
    ----------
    material, name : str
        As in :func:`list_published`.
    **settings : dict
        Further settings of the constructor.

    Returns
    -------
    KineticRegressor
        Fitted; `adapt` works at once.

    Raises
    ------
    TypeError, ValueError
        As of :func:`load_published`, or when settings contradict the population.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import published_model
    >>> model = published_model("pmma", "macfp-2021")
    >>> ramp = [[1980.0, 300.0, 10 / 60]]  # s, K and K/s: 10 K/min from 300 K, at 630 K
    >>> model.predict(ramp).round(2)
    array([0.42])
    """
    population = load_published(material, name)
    model: KineticRegressor = MODELS[population.equation].from_population(population, **settings)
    return model


def list_published() -> pd.DataFrame:
    """Return the published constants: one row each, with the columns material, name, structure, population and doi.

    A DOI that is not stated where the numbers were read is an empty text.

    Examples
    --------
    >>> from metaest_domains.kinetics import list_published
    >>> list_published()["material"].tolist()
    ['pmma', 'poly-butylene-adipate']
    """
    rows = [
        (material, name, STRUCTURES[each.equation], each.provenance.tasks, each.provenance.doi)
        for material, name, each in _FILES.every()
    ]
    return pd.DataFrame(rows, columns=["material", "name", "structure", "population", "doi"])
