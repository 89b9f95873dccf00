"""Hardness of tempered martensite in thirty-seven steels."""

import csv

import pandas as pd

from metaest import TaskSet
from metaest_datasets.cache import fetch_file

__all__ = ["fetch_steel_tempering"]

_FILE = "steel_tempering/Tempering data for carbon and low alloy steels - Raiipa(in).csv"
_ELEMENTS = ["C", "Mn", "P", "S", "Si", "Ni", "Cr", "Mo", "V", "Al", "Cu"]
_COLUMNS = ["source", "steel", "initial_hardness", "time_s", "celsius", *_ELEMENTS, "hardness"]


def fetch_steel_tempering() -> TaskSet:
    """Return the hardness of carbon and low-alloy steels after tempering, by time, temperature and composition.

    A task is one composition of one steel: three names of steels have several compositions.

    Returns
    -------
    TaskSet
        37 tasks, 1,466 rows; features ``time`` (h), ``temperature`` (K) and the contents of eleven elements (wt%,
        constant within a task), target ``hardness`` (HRC).

    Raises
    ------
    OSError
        When the file is neither in the cache nor available for download.

    References
    ----------
    R. A. Grange, R. W. Baughman (1956). Hardness of tempered martensite in carbon and low alloy steels. Transactions
    of the ASM 48, 165-197. J. H. Hollomon, L. D. Jaffe (1945). Time-temperature relations in tempering steel.
    Transactions of the AIME 162, 223-249. R. N. Penha (2010). Compiled by Raiipa Technologies; fetched from the GitHub
    repository HachemAhmed/steel-tempering-optimizer.

    Examples
    --------
    >>> from metaest_datasets import fetch_steel_tempering
    >>> tasks = fetch_steel_tempering()  # doctest: +SKIP
    """
    with fetch_file(_FILE).open(encoding="utf-8-sig", newline="") as file:
        rows = [_repair(row) for row in list(csv.reader(file))[1:] if row]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    numbers = ["time_s", "celsius", *_ELEMENTS, "hardness"]
    table[numbers] = table[numbers].astype(float)
    table["steel"] = table["steel"].str.strip().str.replace(",", ".")
    composition = table[_ELEMENTS].apply(tuple, axis=1)
    versions = composition.groupby(table["steel"]).transform(lambda of_steel: pd.factorize(of_steel)[0])
    several = composition.groupby(table["steel"]).transform("nunique") > 1
    table["task"] = table["steel"].where(~several, table["steel"] + " (" + (versions + 1).astype(str) + ")")
    table["time"] = table["time_s"] / 3600
    table["temperature"] = table["celsius"] + 273.15
    return TaskSet.from_frame(table, task="task", features=["time", "temperature", *_ELEMENTS], target="hardness")


def _repair(row: list[str]) -> list[str]:
    """Return a row of the file with its defects repaired: an unquoted comma in the first field, or a quoted row."""
    if len(row) == 1:
        row = next(csv.reader(row))
    return [f"{row[0]},{row[1]}", *row[2:]] if len(row) == len(_COLUMNS) + 1 else row
