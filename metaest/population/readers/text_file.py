"""The text of a file that another program wrote, and the numbers in it."""

import re
from os import PathLike

from metaest.population.numbers import as_path

__all__ = ["as_number_of", "text_of"]

# Fortran leaves the E out where an exponent has three digits: 1.00000-101
_EXPONENT_ALONE = re.compile(r"(?<=[0-9.])(?=[+-][0-9]{3}$)")


def text_of(path: str | PathLike[str]) -> str:
    """Return the text of a file, or raise a ValueError that names it."""
    try:
        return as_path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the file {path} is no text in UTF-8: {error}") from error


def as_number_of(text: str, where: str) -> float:
    """Return the number that a text is, infinite or NaN too, or raise a ValueError that begins with `where`."""
    try:
        return float(_EXPONENT_ALONE.sub("E", text.strip()))
    except ValueError:
        raise ValueError(f"{where}: {text.strip()[:40]!r} is no number.") from None
