"""Where the numbers of a population come from, and whom they were learned from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metaest.population.frozen import FrozenDict
from metaest.population.numbers import as_float, as_names, as_text

__all__ = ["Provenance"]


@dataclass(frozen=True)
class Provenance:
    """Where a population comes from.

    Parameters
    ----------
    citation : str, optional
        The paper, or what else says these numbers.
    doi : str, optional
        Such as "10.1093/jac/dkp085", without an address before it.
    tasks : str, optional
        Whom, or what, it was learned from, in words: "adults with renal impairment", "12 steels".
    n_tasks, n_rows : int, optional
        How many tasks and observations it was learned from.
    ranges : dict of str to (float, float), optional
        Least and greatest value of properties of those tasks by the names of columns, or others: age, weight,
        temperature. A task outside is warned of.
    notes : str, optional
        What a reader of the numbers should know, such as where two codings of one paper differ.

    Examples
    --------
    >>> from metaest.population import Provenance
    >>> Provenance("Thomson et al. 2009", doi="10.1093/jac/dkp085", ranges={"age": (16, 97)}).outside({"age": 12})
    {'age': (16.0, 97.0)}
    """

    citation: str = ""
    doi: str = ""
    tasks: str = ""
    n_tasks: int | None = None
    n_rows: int | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        for name in ("citation", "doi", "tasks", "notes"):
            as_text(getattr(self, name), f"provenance: {name}")
        if self.doi and not self.doi.startswith("10."):
            raise ValueError(f"provenance: a doi begins with '10.', got {self.doi!r}.")
        for name in ("n_tasks", "n_rows"):
            count = getattr(self, name)
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                raise ValueError(f"provenance: {name} must be a whole number of at least 1, got {count!r}.")
        ranges = {}
        for name, ends in as_names(self.ranges, "provenance: ranges").items():
            if not isinstance(ends, (tuple, list)) or len(ends) != 2:
                raise TypeError(f"provenance: the range of {name!r} must be (least, greatest), got {ends!r}.")
            low, high = (as_float(end, f"provenance: range of {name!r}") for end in ends)
            if low > high:
                raise ValueError(f"provenance: the range of {name!r} goes from {low:g} down to {high:g}.")
            ranges[name] = (low, high)
        object.__setattr__(self, "ranges", FrozenDict(ranges))

    def outside(self, values: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Return the ranges that a task with these properties lies outside of, by name.

        Parameters
        ----------
        values : dict of str to float
            Properties that have no range here are passed over.
        """
        return {
            name: self.ranges[name]
            for name, value in values.items()
            if name in self.ranges and not self.ranges[name][0] <= value <= self.ranges[name][1]
        }

    def __str__(self) -> str:
        parts = [self.citation, f"doi:{self.doi}" if self.doi else "", self.tasks]
        if self.n_tasks:
            parts.append(f"{self.n_tasks} tasks" + (f", {self.n_rows} rows" if self.n_rows else ""))
        return "; ".join(part for part in parts if part) or "source not stated"
