"""The tables of a NONMEM file: a title, a line of labels, and rows of numbers."""

import re
from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from metaest.population.readers.text_file import as_number_of, text_of

__all__ = ["NonmemTable", "read_table"]

_TITLE = re.compile(r"\s*TABLE NO\.\s*([0-9]+)\s*:?\s*(.*)")


@dataclass(frozen=True)
class NonmemTable:
    """One table of a file.

    Attributes
    ----------
    number : int
    method : str
        The method of estimation, as its title has it.
    labels : tuple of str
    rows : ndarray of shape (n_rows, n_labels)
    """

    number: int
    method: str
    labels: tuple[str, ...]
    rows: NDArray[np.float64]


def read_table(path: str | PathLike[str], first_label: str, table: int | None) -> NonmemTable:
    """Return the one table of a file, or the one with this number.

    Raises
    ------
    ValueError
        When the file has no table, several and none was chosen, or one that is not as NONMEM writes it; the message
        names the line.
    """
    if table is not None and (isinstance(table, bool) or not isinstance(table, int)):
        raise TypeError(f"table must be the number of a table, or None for the only one, got {table!r}.")
    parts = _split(text_of(path), path)
    titles = "; ".join(f"{number} ({method})" for number, method, _ in parts)
    if table is None and len(parts) > 1:
        raise ValueError(f"the file {path} has {len(parts)} tables: {titles}. Choose one by its number, table=.")
    chosen = [part for part in parts if table is None or part[0] == table]
    if len(chosen) != 1:
        what = "no table" if not chosen else f"{len(chosen)} tables"
        raise ValueError(f"the file {path} has {what} with the number {table}; it has {titles}.")
    number, method, lines = chosen[0]
    if not lines or _cells(lines[0][1])[0] != first_label:
        raise ValueError(
            f"the file {path}: table {number} has no line of labels that begins with {first_label}, as NONMEM writes "
            "unless NOLABEL=1."
        )
    labels = _cells(lines[0][1])
    rows = []
    for place, line in lines[1:]:
        cells = _cells(line)
        if len(cells) != len(labels):
            raise ValueError(
                f"the file {path}, line {place}: {len(cells)} numbers for the {len(labels)} labels of table {number}."
            )
        rows.append([as_number_of(cell, f"the file {path}, line {place}") for cell in cells])
    return NonmemTable(number, method, tuple(labels), np.array(rows).reshape(len(rows), len(labels)))


def _split(text: str, path: object) -> list[tuple[int, str, list[tuple[int, str]]]]:
    """Return the number, the method and the numbered lines of each table."""
    parts: list[tuple[int, str, list[tuple[int, str]]]] = []
    for place, line in enumerate(text.splitlines(), 1):
        title = _TITLE.match(line)
        if title:
            method = re.split(r":\s*(?:Goal Function|Problem)\s*=", title[2])[0].strip()
            parts.append((int(title[1]), method or "no method", []))
        elif line.strip():
            if not parts:
                raise ValueError(
                    f"the file {path} does not begin with a title, TABLE NO. 1: ..., as NONMEM writes unless NOTITLE=1."
                )
            parts[-1][2].append((place, line))
    if not parts:
        raise ValueError(f"the file {path} holds no table.")
    return parts


def _cells(line: str) -> list[str]:
    """Return the cells of a line, between commas or white space (NONMEM's FORMAT); commas of labels are inside ()."""
    outside = re.split(r",(?![^(]*\))", line)
    return [cell.strip() for cell in outside] if len(outside) > 1 else line.split()
