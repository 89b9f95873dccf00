r"""Integrals of a rate over a temperature history, differentiable in the constants of the rate.

A history is piecewise linear in time. The integral up to a row depends only on how long each temperature lasted. Over a
bin of :math:`x = 1/T` in which :math:`E/RT` changes by 8, with E at 600 kJ/mol, Arrhenius' law is nearly a polynomial
of x. The time spent in a bin is therefore summarised by Gauss' rule of 8 temperatures, which integrates every
polynomial up to degree 15 exactly. The rules after every point of the furnace log are computed once, by Lanczos' method
(Golub and Welsch, 1969, :doi:`10.1090/S0025-5718-69-99647-1`). A row costs 8 temperatures for each bin that its history
visits and 8 for the piece in which its time lies, however long the log is. From 250 K up the relative error is below
1e-6 for energies up to 600 kJ/mol; the tests check it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from metaest.tasks.arguments import is_whole
from metaest.tasks.numbers import as_vector
from metaest.tasks.record import Record
from metaest_domains.kinetics.rates import GAS_CONSTANT

__all__ = ["Histories", "History", "ramp_integral"]

# nodes of the rule along a linear ramp: enough for a relative error of 1e-8
_RAMP_NODES = 80
# nodes of the rule of a bin of a history: enough for a relative error of 1e-6
_NODES = 8
# argument at which the double exponential rule is cut off; the ends left out are 1e-12 of the interval
_CUT_OFF = 2.9
# K; no furnace reaches this
HOTTEST = 6000.0
# largest number of a history: X, in float64, holds whole numbers exactly up to here
MOST = 2**53
# 1/K; width of a bin of 1/T, over which E/RT changes by 8 when E is 600 kJ/mol
_BIN = 8.0 * GAS_CONSTANT / 600.0
# numbers of one temporary array of rates: 8 MB in float64
_CHUNK = 2**20
# size below which a Lanczos vector is rounding error: the measure has no further points
_VANISHED = 1e-10


def ramp_integral(time: Tensor, start: Tensor, rate: Tensor, k: Callable[[Tensor], Tensor]) -> Tensor:
    r"""Return the integral of :math:`k(T(s))` from 0 to t with :math:`T(s) = T_0 + r s`.

    Over a wide range of temperatures nearly all of the integral comes from the last part of the ramp, or from the first
    one. The double exponential rule (Takahasi and Mori, 1974, :doi:`10.2977/prims/1195192451`), whose nodes crowd at
    both ends, has an error below 1e-8 between 200 and 2,500 K for energies up to 600 kJ/mol of either sign.

    Parameters
    ----------
    time, start, rate : Tensor of shape (n_rows,)
    k : callable
        Rate at temperatures of shape (n_rows, nodes).

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    node, weight = (torch.from_numpy(part).to(time) for part in _double_exponential(_RAMP_NODES))
    temperature = start[:, None] + rate[:, None] * time[:, None] * node
    return time * (k(temperature) * weight).sum(dim=1)


class Rules(NamedTuple):
    """Gauss' rules for the time spent in each bin of 1/T up to each knot of a history.

    Attributes
    ----------
    time, temperature, slope : ndarray of shape (knots,)
        The history, with additional knots where it crosses from bin to bin; `slope` belongs to the piece after a knot.
    node, weight : ndarray of shape (knots, 8)
        Temperatures and times from time 0 to the knot in the bin of the piece before it; zero times at the first knot.
    latest : ndarray of shape (knots, bins)
        For each knot and bin, the last knot up to here at which the rule of that bin was updated.
    """

    time: NDArray[Any]
    temperature: NDArray[Any]
    slope: NDArray[Any]
    node: NDArray[Any]
    weight: NDArray[Any]
    latest: NDArray[Any]


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

    @cached_property
    def rules(self) -> Rules:
        """Rules of all bins at all knots."""
        t, T = _cut(self.time, self.temperature)
        width = np.diff(t)
        rise = np.diff(T)
        bin_of_piece = np.floor(2 / (T[1:] + T[:-1]) / _BIN)
        bins, position = np.unique(bin_of_piece, return_inverse=True)
        point, share = _legendre(_NODES)
        x = 1 / (T[:-1, None] + rise[:, None] * point)
        node = np.full((len(t), _NODES), T[0])
        weight = np.zeros((len(t), _NODES))
        for i, number in enumerate(bins):
            pieces = np.flatnonzero(position == i)
            inside = 2 * (x[pieces] / _BIN - number) - 1
            inside, weight[pieces + 1] = _running(inside, width[pieces, None] * share)
            node[pieces + 1] = 1 / (_BIN * (number + 0.5 * (inside + 1)))
        latest = np.zeros((len(t), len(bins)), dtype=np.int64)
        latest[np.arange(1, len(t)), position] = np.arange(1, len(t))
        return Rules(t, T, np.append(rise / width, 0.0), node, weight, np.maximum.accumulate(latest, axis=0))


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

    def integral(self, time: Tensor, number: Tensor, k: Callable[[Tensor], Tensor]) -> Tensor:
        r"""Return the integral of :math:`k(T(s))` from 0 to the time of each row, along the history of its number.

        Parameters
        ----------
        time, number : Tensor of shape (n_rows,)
        k : callable
            Rate at temperatures of shape (n_rows, nodes): Arrhenius' law, or one equally smooth in 1/T.

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        first, t, T, slope, node, weight, latest = self._tables
        which = torch.searchsorted(self.numbers, number.contiguous()).clamp(max=len(self.numbers) - 1)
        knot = first[which]
        end = first[which + 1] - 1
        for step in reversed(range(len(t).bit_length())):  # bisect for the last knot before the time of each row
            later = torch.minimum(knot + 2**step, end)
            knot = torch.where(t[later] <= time, later, knot)
        point, share = (torch.from_numpy(part).to(time) for part in _legendre(_NODES))
        passed = (time - t[knot])[:, None]
        total = (k(T[knot, None] + slope[knot, None] * passed * point) * passed * share).sum(dim=1)
        for bins in torch.split(latest[knot], max(1, _CHUNK // (_NODES * max(1, len(time)))), dim=1):
            total = total + (k(node[bins].flatten(1)) * weight[bins].flatten(1)).sum(dim=1)
        return total

    @cached_property
    def _tables(self) -> tuple[Tensor, ...]:
        """First knot of each history, and the rules of all, one history after the other."""
        all_rules = [history.rules for history in self.by_number.values()]
        first = np.cumsum([0, *(len(rules.time) for rules in all_rules)])
        most = max(rules.latest.shape[1] for rules in all_rules)
        latest = np.zeros((first[-1], most), dtype=np.int64)
        for start, rules in zip(first, all_rules, strict=False):
            # bins that a history lacks have the rule of its first knot, which is empty
            latest[start : start + len(rules.time), : rules.latest.shape[1]] = rules.latest
            latest[start : start + len(rules.time)] += start
        columns = [np.concatenate(parts) for parts in zip(*(rules[:-1] for rules in all_rules), strict=True)]
        return tuple(torch.from_numpy(table) for table in (first, *columns, latest))

    def temperature_at(self, time: Any, number: Any) -> Any:
        """Return the temperature of each row, as an array."""
        temperature = np.empty(len(time))
        for name, history in self.by_number.items():
            rows = np.asarray(number) == name
            temperature[rows] = np.interp(time[rows], history.time, history.temperature)
        return temperature


def _cut(t: NDArray[Any], T: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a history with additional knots where it crosses from bin to bin."""
    low = np.minimum(1 / T[1:], 1 / T[:-1]) / _BIN
    high = np.maximum(1 / T[1:], 1 / T[:-1]) / _BIN
    extra = [t]
    for i in np.flatnonzero(np.floor(high) > np.floor(low)):
        edges = 1 / (_BIN * np.arange(np.ceil(low[i]), np.floor(high[i]) + 1))
        extra.append(t[i] + (t[i + 1] - t[i]) * np.clip((edges - T[i]) / (T[i + 1] - T[i]), 0, 1))
    fine = np.unique(np.concatenate(extra))
    return fine, np.interp(fine, t, T)


def _running(node: NDArray[Any], weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rules of the running sums of measures, from the rules of each: arrays of shape (measures, nodes).

    Pairs are summed first, then their sums, so that many measures take few calls.
    """
    if len(node) == 1:
        return node, weight
    even = slice(0, len(node) - 1, 2)
    odd = slice(1, None, 2)
    sums = _running(*_gauss(_beside(node[even], node[odd]), _beside(weight[even], weight[odd])))
    running_node = node.copy()
    running_weight = weight.copy()
    running_node[odd] = sums[0]
    running_weight[odd] = sums[1]
    rest = (len(node) - 1) // 2
    if rest:
        running_node[2::2], running_weight[2::2] = _gauss(
            _beside(sums[0][:rest], node[2::2]), _beside(sums[1][:rest], weight[2::2])
        )
    return running_node, running_weight


def _beside(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([first, second], axis=1)


def _gauss(node: NDArray[Any], weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rules of 8 nodes with the moments of discrete measures: arrays of shape (measures, nodes)."""
    mass = weight.sum(axis=1, keepdims=True)
    basis = np.zeros((_NODES, *node.shape))
    jacobi = np.zeros((len(node), _NODES, _NODES))
    basis[0] = np.sqrt(weight / mass)
    for i in range(_NODES):
        following = node * basis[i]
        jacobi[:, i, i] = np.einsum("np,np->n", basis[i], following)
        if i + 1 == _NODES:
            break
        for _ in range(2):  # a single pass leaves them orthogonal to a few digits only
            following -= np.einsum("knp,kn->np", basis, np.einsum("knp,np->kn", basis, following))
        size = np.sqrt(np.einsum("np,np->n", following, following))
        # a measure of fewer points ends here, and the other nodes have no weight
        size[size < _VANISHED] = 0.0
        jacobi[:, i, i + 1] = jacobi[:, i + 1, i] = size
        basis[i + 1] = np.divide(following, size[:, None], out=np.zeros_like(following), where=size[:, None] > 0)
    values, vectors = np.linalg.eigh(jacobi)
    return values, mass * vectors[:, 0, :] ** 2


def _double_exponential(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return nodes and weights of the double exponential rule on [0, 1]."""
    u = np.linspace(-_CUT_OFF, _CUT_OFF, n)
    node = 1 / (1 + np.exp(-np.pi * np.sinh(u)))
    weight = np.cosh(u) * node * (1 - node)
    return node, weight / weight.sum()


def _legendre(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return nodes and weights of the Gauss-Legendre rule on [0, 1]."""
    node, weight = np.polynomial.legendre.leggauss(n)
    return 0.5 * (node + 1), 0.5 * weight
