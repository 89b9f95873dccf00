"""Finding and reading the published models: data/DRUG/NAME.json, as :class:`metaest.Population` writes them."""

from importlib.resources import files
from typing import Any

import pandas as pd

from metaest import Population
from metaest_domains.physiology.compartments import CompartmentRegressor
from metaest_domains.physiology.pharmacokinetics import OneCompartmentRegressor, TwoCompartmentRegressor
from metaest_domains.published import PublishedFiles

__all__ = ["list_published", "load_published", "published_model"]

_FILES = PublishedFiles(files("metaest_domains.physiology.published") / "data", "drug")
COMPARTMENTS = {"OneCompartmentRegressor": "one compartment", "TwoCompartmentRegressor": "two compartments"}
MODELS: dict[str, type[CompartmentRegressor]] = {
    "OneCompartmentRegressor": OneCompartmentRegressor,
    "TwoCompartmentRegressor": TwoCompartmentRegressor,
}
ROUTES = {"iv": "intravenous", "oral": "oral"}


def load_published(drug: str, name: str) -> Population:
    """Return a published population model of a drug.

    The model of its ``equation`` keeps it: ``TwoCompartmentRegressor.from_population(population)``. Its ``columns``
    say which covariates of a patient it reads, in which units, and its ``provenance`` says whom it was learned from,
    the DOI, and where codings of one paper differ.

    Parameters
    ----------
    drug, name : str
        As in :func:`list_published`.

    Returns
    -------
    Population

    Raises
    ------
    TypeError
        When `drug` or `name` is no text.
    ValueError
        When there is no such model; the message lists those there are.

    Examples
    --------
    >>> from metaest_domains.physiology import OneCompartmentRegressor, load_published
    >>> drug = load_published("vancomycin", "buelga-2005")
    >>> {name: round(value, 2) for name, value in drug.typical({"crcl": 90.0, "weight": 65.0}).items()}
    {'clearance': 5.83, 'volume': 63.7}
    >>> model = OneCompartmentRegressor.from_population(drug, n_doses=2)
    """
    return _FILES.load(drug, name)


def published_model(drug: str, name: str, *, n_doses: int | None = None, **settings: Any) -> CompartmentRegressor:
    """Return the estimator of a published model: that which its population names, with its population.

    Parameters
    ----------
    drug, name : str
        As in :func:`list_published`.
    n_doses : int, optional
        Doses for which X has columns; see :meth:`CompartmentRegressor.from_population`.
    **settings : dict
        Further settings of the constructor.

    Returns
    -------
    CompartmentRegressor
        Fitted; `adapt` works at once.

    Raises
    ------
    TypeError, ValueError
        As of :func:`load_published`, or when settings contradict the population.

    Examples
    --------
    >>> from metaest_domains.physiology import published_model
    >>> model = published_model("vancomycin", "goti-2018", n_doses=1)
    >>> model.feature_names_in_[-3:].tolist()
    ['crcl', 'weight', 'dialysis']
    """
    population = load_published(drug, name)
    return MODELS[population.equation].from_population(population, n_doses=n_doses, **settings)


def list_published() -> pd.DataFrame:
    """Return the published models: one row each, with the columns drug, name, structure, population and doi.

    A population or a DOI that our source does not state is an empty text.

    Examples
    --------
    >>> from metaest_domains.physiology import list_published
    >>> table = list_published().set_index(["drug", "name"])
    >>> table.loc[("vancomycin", "thomson-2009"), "structure"]
    'two compartments, intravenous'
    """
    rows = []
    for drug, name, population in _FILES.every():
        structure = f"{COMPARTMENTS[population.equation]}, {ROUTES[population.settings.get('route', 'oral')]}"
        if population.settings.get("lag"):
            structure += " with a lag"
        rows.append((drug, name, structure, population.provenance.tasks, population.provenance.doi))
    return pd.DataFrame(rows, columns=["drug", "name", "structure", "population", "doi"])
