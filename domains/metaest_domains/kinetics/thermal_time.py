"""Integrals of Arrhenius' law along many temperature histories, differentiable in the activation energy.

A row finds the last knot of its history before its time, and in the table of its cell of energies the power series of
the integral up to that knot (`running.py`). The piece from the knot to its time, where there is one, is integrated by
Gauss and Legendre's rule. What a row costs does not depend on the length of its history. A table is made when a row
first asks for it; it depends on nothing but the history, the cell and the reference temperature.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.functional import RowFunction
from metaest_domains.kinetics.arranged import Arranged, Runs
from metaest_domains.kinetics.knots import Knots
from metaest_domains.kinetics.rates import GAS_CONSTANT
from metaest_domains.kinetics.running import GREATEST_ENERGY, LARGEST_EXPONENT, TERMS, RunningIntegrals, legendre

__all__ = ["ThermalTimes"]

Array = NDArray[Any]

# rows of one call: the arrays of so many stay in a processor's cache
_ROWS = 2**12
# sets of rows whose places are kept, and the most rows of such a set
_KEPT = 4
_ROWS_KEPT = 2**17
# knots of all tables together at most, where more than one table is kept: 134 MB
_MOST_KNOTS = 2**20
# tables of a history that are made at once
_AT_ONCE = 4
# knots for which memory is taken at first
_FIRST_KNOTS = 2**12
# nodes of the rule from a knot to the time of a row
_NODES = 5


class _Tables:
    """Power series of the integrals up to all knots of a history, for cells of energies, at one reference temperature.

    Parameters
    ----------
    reference : float
    """

    def __init__(self, reference: float) -> None:
        self.reference = reference
        self.first = np.empty(0, dtype=np.intp)
        self.clear()

    def clear(self) -> None:
        """Drop all tables."""
        self.first = np.full_like(self.first, -1)
        self.series = np.empty((_FIRST_KNOTS, TERMS))
        self.used = 0

    def first_rows(self, tables: Array) -> Array:
        """Return the row of the first knot of each table, -1 for a table that is not there."""
        most = int(tables.max()) + 1
        if most > len(self.first):
            self.first = np.concatenate([self.first, np.full(most - len(self.first), -1)])
        return self.first[tables]

    def add(self, tables: Sequence[int], arranged: Arranged) -> None:
        """Add tables that are not there, one at least, and the others as long as there is room."""
        owners = np.searchsorted(arranged.table, tables, side="right") - 1
        added = False
        for owner in np.unique(owners).tolist():
            running, first_cell = arranged.running[owner], int(arranged.table[owner]) + int(arranged.cells[owner])
            knots = len(running.time)
            some = [table for table, of in zip(tables, owners, strict=True) if of == owner]
            while some:
                room = max((_MOST_KNOTS - self.used) // knots, 0 if self.used else 1)
                if not room and added:
                    return
                if not room:
                    self.clear()
                    self.first_rows(np.array([max(tables)]))
                    room = max(_MOST_KNOTS // knots, 1)
                added = True
                batch, some = some[: min(room, _AT_ONCE)], some[min(room, _AT_ONCE) :]
                energies = (2.0 * torch.tensor(batch, dtype=torch.float64) - (2 * first_cell - 1)) * running.half_width
                end = self.used + knots * len(batch)
                if end > len(self.series):
                    more = np.empty((max(end, 2 * len(self.series)), TERMS))
                    more[: self.used] = self.series[: self.used]
                    self.series = more
                self.series[self.used : end] = running.series(energies, self.reference).flatten(0, 1).numpy()
                self.first[batch] = np.arange(self.used, end, knots)
                self.used = end


class ThermalTimes:
    """Integrals of Arrhenius' law along histories, up to the time of each row.

    Parameters
    ----------
    numbers : sequence of int
        Sorted numbers of the histories.
    points : sequence of (times, temperatures)
        The points of each.
    """

    def __init__(self, numbers: Sequence[int], points: Sequence[tuple[Array, Array]]) -> None:
        self._points = points
        self._numbers = Knots.of([np.array(numbers, dtype=np.float64)])
        self._arranged: Arranged | None = None
        self._tables = _Tables(np.nan)
        self._places: list[tuple[Any, Any, tuple[Arranged, Array, Array]]] = []
        self._lock = threading.Lock()

    def integral(self, time: Tensor, number: Tensor, energy: Tensor, reference: float) -> Tensor:
        r"""Return :math:`\int_0^t e^{-E (1/T(s) - 1/T_\mathrm{ref}) / R} ds` of each row.

        Parameters
        ----------
        time, number, energy : Tensor of shape (n_rows,)
            The result is differentiable in the energy, to any order.
        reference : float

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        return _Integral(self, reference)(energy, time, number)

    def derivatives(
        self, energy: Tensor, time: Tensor, number: Tensor, reference: float, orders: Sequence[int]
    ) -> list[Tensor]:
        """Return derivatives of the integrals in the energy, one tensor for each of the orders.

        All tensors have shape (rows,).
        """
        E, clock = energy.detach().numpy(), time.detach().numpy()
        if not len(E):
            return [torch.empty_like(energy) for _ in orders]
        arranged, group, knot = self._place(time.detach(), number.detach())
        result = np.empty((len(orders), len(E)))
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(E), _ROWS):
                rows = slice(first, first + _ROWS)
                result[:, rows] = self._up_to_knots(E[rows], group[rows], knot[rows], reference, orders, arranged)
            passed = clock - arranged.knots.value[knot]
            rest = np.flatnonzero(passed > 0)
            for first in range(0, len(rest), _ROWS):
                some = rest[first : first + _ROWS]
                at = knot[some]
                piece = passed[some], arranged.temperature[at], arranged.slope[at]
                result[:, some] += _to_row(E[some], *piece, reference, orders)
        return list(torch.from_numpy(result))

    def _up_to_knots(
        self, energy: Array, group: Array, knot: Array, reference: float, orders: Sequence[int], arranged: Arranged
    ) -> Array:
        """Return integrals up to knots, and their derivatives; NaN where the energy is."""
        runs = Runs.of(energy, group, knot)
        size = np.abs(runs.energy)
        ordinary = size <= GREATEST_ENERGY
        if ordinary.all():
            return self._by_series(runs, reference, orders, arranged)
        result = np.full((len(orders), len(knot)), np.nan)
        some, rows = runs.where(ordinary)
        if len(rows):
            result[:, rows] = self._by_series(some, reference, orders, arranged)
        some, rows = runs.where(size > GREATEST_ENERGY)
        if len(rows):
            result[:, rows] = arranged.sums(some, reference, orders)
        return result

    def _place(self, time: Tensor, number: Tensor) -> tuple[Arranged, Array, Array]:
        """Return the histories asked for, each row's history among them, and the last knot before its time.

        A fit evaluates the same rows many times: the places of the last few tensors are kept, as long as these have the
        same memory and version. They are kept as well, so that their memory is not given to others.
        """
        key = [(part.data_ptr(), part._version, part.shape, part.stride()) for part in (time, number)]
        for entry in self._places:
            if entry[0] == key:
                return entry[2]
        arranged, group = self._groups(number.numpy())
        place = arranged, group, arranged.knots.at_or_before(time.numpy(), group)
        if len(group) <= _ROWS_KEPT:
            self._places = [(key, (time, number), place), *self._places[: _KEPT - 1]]
        return place

    def _groups(self, number: Array) -> tuple[Arranged, Array]:
        """Return the histories that rows have asked for, these rows included, and the place of each row's history."""
        first = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
        count = np.diff(np.append(first, len(number)))
        which = np.repeat(self._numbers.at_or_before(number[first], np.zeros(len(first), dtype=np.intp)), count)
        arranged = self._arranged
        if arranged is not None:
            group = arranged.group[which]
            if (group >= 0).all():
                return arranged, group
        with self._lock:
            arranged = self._arranged
            if arranged is None:
                groups, running = np.full(len(self._points), -1), []
            else:
                groups, running = arranged.group.copy(), list(arranged.running)
            wanted = np.unique(which)
            new = wanted[groups[wanted] < 0]
            groups[new] = np.arange(len(running), len(running) + len(new))
            running += [RunningIntegrals(*self._points[i]) for i in new]
            self._arranged = arranged = Arranged.of(groups, running) if len(new) or arranged is None else arranged
            return arranged, arranged.group[which]

    def _by_series(self, runs: Runs, reference: float, orders: Sequence[int], arranged: Arranged) -> Array:
        """Return what `Arranged.sums` does, from the power series of cells of energies."""
        energy, group, length, knot = runs
        half_width, cells = arranged.half_width[group], arranged.cells[group]
        scaled = energy / half_width
        # an energy on the upper end of the last cell is of that cell
        cell = np.minimum(np.floor(0.5 * scaled).astype(np.intp), cells - 1)
        u = scaled - (2 * cell + 1)
        table = arranged.table[group] + cells + cell
        run = np.repeat(np.arange(len(energy)), length)
        series = self._series(table, run, knot - arranged.knots.first[group][run], reference, arranged)
        away = (1 / reference - arranged.middle[group]) / GAS_CONSTANT
        factor = np.exp(u * half_width * away)
        result = np.empty((len(orders), len(knot)))
        powers = _powers(u, half_width, max(orders))
        for part, order in zip(result, orders, strict=True):
            weights = sum((comb(order, j) * away ** (order - j))[:, None] * powers[j] for j in range(order + 1))
            np.einsum("rk,rk->r", series, (factor[:, None] * weights).take(run, axis=0), out=part)
        return result

    def _series(self, table: Array, run: Array, knot: Array, reference: float, arranged: Arranged) -> Array:
        """Return the coefficients of the series of each row, from the table of its run and its knot's number in it."""
        result, left = None, np.ones(len(table), dtype=bool)
        while True:
            with self._lock:
                if self._tables.reference != reference:
                    self._tables = _Tables(reference)
                tables = self._tables
                first = tables.first_rows(table)
                there = first >= 0
                if result is None and there.all():
                    return tables.series.take(first[run] + knot, axis=0)
                if result is None:
                    result = np.empty((len(knot), TERMS))
                rows = np.flatnonzero((there & left)[run])
                result[rows] = tables.series[first[run[rows]] + knot[rows]]
                left &= ~there
                if not left.any():
                    return result
                tables.add(np.unique(table[left]).tolist(), arranged)


def _powers(u: Array, half_width: Array, greatest: int) -> list[Array]:
    """Return powers of u, (runs, terms), and their derivatives in the energy up to an order."""
    powers = [np.vander(u, TERMS, increasing=True)]
    for _ in range(greatest):
        lower = np.zeros_like(powers[-1])
        np.multiply(powers[-1][:, :-1], np.arange(1.0, TERMS), out=lower[:, 1:])
        powers.append(lower / half_width[:, None])
    return powers


def _to_row(
    energy: Array, passed: Array, temperature: Array, slope: Array, reference: float, orders: Sequence[int]
) -> Array:
    """Return the integral from the last knot before each row to the time of the row, and its derivatives."""
    point, share = legendre(_NODES)
    x = 1 / (temperature[:, None] + slope[:, None] * passed[:, None] * point)
    away = (1 / reference - x) / GAS_CONSTANT
    rates = passed[:, None] * share * np.exp(np.minimum(energy[:, None] * away, LARGEST_EXPONENT))
    return np.stack([(rates * away**order if order else rates).sum(axis=1) for order in orders])


@dataclass(frozen=True, eq=False)
class _Integral(RowFunction):
    """The integrals as a function of the energy of a row, given its time and the number of its history."""

    times: ThermalTimes
    reference: float

    def derivatives(self, number: Tensor, given: tuple[Tensor, ...], orders: Sequence[int]) -> list[Tensor]:
        time, history = given
        return self.times.derivatives(number, time, history, self.reference, orders)
