"""Piecewise linear temperature histories by number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from metaest.tasks.arguments import is_whole
from metaest.tasks.numbers import as_vector
from metaest.tasks.record import Record
from metaest_domains.kinetics.thermal_time import ThermalTimes

__all__ = ["HOTTEST", "MOST", "Histories", "History"]

# K; no furnace reaches this
HOTTEST = 6000.0
# largest number of a history: X, in float64, holds whole numbers exactly up to here
MOST = 2**53


@dataclass(frozen=True, eq=False)
class History(Record):
    """A piecewise linear temperature history; the last temperature holds for all later times.

    Attributes
    ----------
    time, temperature : ndarray of shape (points,)
        Times from 0 on, temperatures in K.
    """

    time: NDArray[Any]
    temperature: NDArray[Any]

    @classmethod
    def read(cls, number: int, time: ArrayLike, temperature: ArrayLike) -> "History":
        """Check and store a history; the message of the ValueError names its number."""
        t = as_vector(time, f"history {number}: times")
        T = as_vector(temperature, f"history {number}: temperatures")
        if t.shape != T.shape or len(t) < 1:
            raise ValueError(
                f"history {number}: times and temperatures must be equally many finite numbers, got {len(t)} times and "
                f"{len(T)} temperatures."
            )
        if t[0] != 0 or (np.diff(t) <= 0).any():
            raise ValueError(f"history {number}: times must rise from 0.")
        if (T < 200).any():
            raise ValueError(f"history {number}: temperatures must be in kelvin (these look like degrees Celsius).")
        if (T > HOTTEST).any():
            raise ValueError(f"history {number}: a temperature is {T.max():g} K, above the limit of {HOTTEST:g} K.")
        return cls(t, T)

    def same(self, other: "History") -> bool:
        """Return whether both histories have the same points."""
        return np.array_equal(self.time, other.time) and np.array_equal(self.temperature, other.temperature)


@dataclass(frozen=True, eq=False)
class Histories:
    """Temperature histories by number.

    Attributes
    ----------
    by_number : dict of int to History
        The histories in the order of their numbers.
    """

    by_number: Mapping[int, History]

    @classmethod
    def read(cls, histories: Mapping[int, tuple[ArrayLike, ArrayLike]]) -> "Histories":
        """Check and store a dict of numbers to (times from 0 on, temperatures in K).

        Raises
        ------
        ValueError
            When times do not rise from 0, or temperatures are not in kelvin; the message names the history.
        """
        if not isinstance(histories, Mapping):
            raise ValueError(
                f"histories must be a dict of numbers to (times, temperatures), got {type(histories).__name__}."
            )
        if not histories:
            raise ValueError("histories: at least one is required, got an empty dict.")
        for number, points in histories.items():
            if not is_whole(number) or abs(int(number)) > MOST:
                raise ValueError(
                    f"histories: {number!r} is not a whole number up to {MOST:,}; X refers to a history by its number."
                )
            if not isinstance(points, Sequence) or isinstance(points, str) or len(points) != 2:
                raise ValueError(f"history {number}: must be a pair (times, temperatures), got {points!r}.")
        return cls({int(number): History.read(number, *histories[number]) for number in sorted(histories)})

    def joined(self, other: "Histories") -> "Histories":
        """Return the union of both; a ValueError names a number that stands for two different histories."""
        for number, history in other.by_number.items():
            if number in self.by_number and not self.by_number[number].same(history):
                raise ValueError(
                    f"histories: number {number} is already in use, with other times or temperatures; give the new "
                    "history another number."
                )
        both = {**other.by_number, **self.by_number}
        return Histories({number: both[number] for number in sorted(both)})

    @property
    def given(self) -> dict[int, tuple[NDArray[Any], NDArray[Any]]]:
        """Points of all histories, in the form that `read` takes."""
        return {number: (history.time, history.temperature) for number, history in self.by_number.items()}

    @cached_property
    def numbers(self) -> Tensor:
        """Sorted numbers, of shape (histories,)."""
        return torch.tensor(list(self.by_number), dtype=torch.float64)

    @cached_property
    def thermal_times(self) -> ThermalTimes:
        """Integrals of Arrhenius' law along the histories."""
        return ThermalTimes(list(self.by_number), [(each.time, each.temperature) for each in self.by_number.values()])

    def __getstate__(self) -> dict[str, Any]:
        # what is computed from the histories is neither copied nor pickled
        return {"by_number": self.by_number}

    def temperature_at(self, time: Any, number: Any) -> Any:
        """Return the temperature of each row, as an array."""
        temperature = np.empty(len(time))
        for name, history in self.by_number.items():
            rows = np.asarray(number) == name
            temperature[rows] = np.interp(time[rows], history.time, history.temperature)
        return temperature
