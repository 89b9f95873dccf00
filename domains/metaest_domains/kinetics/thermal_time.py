"""Integrals of Arrhenius' law along many temperature histories, differentiable in the activation energy.

A row finds the last knot of its history before its time, and in the table of its cell of energies the power series of
the integral up to that knot (`running.py`). The piece from the knot to its time, where there is one, is integrated by
Gauss and Legendre's rule. What a row costs does not depend on the length of its history. A table is made when a row
first asks for it; it depends on nothing but the history, the cell and the reference temperature.
"""

import threading
from collections.abc import Sequence
from math import ceil, comb
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest_domains.kinetics.knots import Knots
from metaest_domains.kinetics.rates import GAS_CONSTANT
from metaest_domains.kinetics.running import GREATEST_ENERGY, LARGEST_EXPONENT, TERMS, RunningIntegrals, legendre

__all__ = ["ThermalTimes"]

# rows of one call: the arrays of so many stay in a processor's cache
_ROWS = 2**15
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
# rates of one temporary array
_CHUNK = 2**16
# decrease of E/RT to where rates are left out, all times together below 1e-13 of the integral
_NEGLIGIBLE = 45.0
# kJ/mol; energies without bound are cut off here, where rates are 0 or too large for any number
_BEYOND = 1e15


class _Arranged(NamedTuple):
    """The histories that rows have asked for so far.

    Attributes
    ----------
    group : integer Tensor of shape (histories,)
        Place of each history among those asked for, -1 for the others.
    running : tuple of RunningIntegrals
    knots : Knots
        Times, a group for each.
    temperature, slope : Tensor of shape (knots,)
    middle, half_width : Tensor of shape (groups,)
    cells : integer Tensor of shape (groups,)
        Number of cells of energies above zero, and as many below.
    table : integer Tensor of shape (groups,)
        Number of the table of the first cell.
    fastest : Tensor of shape (2, knots)
        The least 1/T up to each knot, where the rate of a positive energy is greatest; and the least -1/T.
    x, weight : Tensor of shape (knots, nodes)
        Values of 1/T and weights of the rule between a knot and the next one.
    """

    group: Tensor
    running: tuple[RunningIntegrals, ...]
    knots: Knots
    temperature: Tensor
    slope: Tensor
    middle: Tensor
    half_width: Tensor
    cells: Tensor
    table: Tensor
    fastest: Tensor
    x: Tensor
    weight: Tensor

    @classmethod
    def of(cls, group: Tensor, running: Sequence[RunningIntegrals]) -> "_Arranged":
        """Arrange histories one after the other."""
        half_width = np.array([one.half_width for one in running])
        cells = np.array([ceil(GREATEST_ENERGY / (2 * width)) for width in half_width])
        arrays = [
            np.concatenate([one.temperature for one in running]),
            np.concatenate([one.slope for one in running]),
            np.array([one.middle for one in running]),
            half_width,
            cells,
            np.cumsum([0, *(2 * cells[:-1])]),
            np.concatenate(
                [np.minimum.accumulate([1 / one.temperature, -1 / one.temperature], axis=1) for one in running], axis=1
            ),
        ]
        knots = Knots.of([one.time for one in running])
        nodes = [torch.cat([torch.nn.functional.pad(one.nodes[i], (0, 0, 0, 1)) for one in running]) for i in (0, 1)]
        return cls(group, tuple(running), knots, *(torch.from_numpy(array) for array in arrays), *nodes)

    def start(self, owner: Tensor, energies: Tensor, earliest: Tensor) -> Tensor:
        """Return the knot before which the rate of each history may be left out.

        Parameters
        ----------
        owner : integer Tensor of shape (pairs,)
            A history.
        energies : Tensor of shape (pairs,)
        earliest : integer Tensor of shape (pairs,)
            The first knot up to which an integral is wanted.

        Returns
        -------
        integer Tensor of shape (pairs,)
        """
        side = (energies < 0).long()
        limit = self.fastest[side, earliest] + _NEGLIGIBLE * GAS_CONSTANT / energies.abs()
        before, start = self.knots.first[owner] - 1, earliest
        for _ in range(int((start - before).max()).bit_length()):
            middle = (before + start) // 2
            counts = (self.fastest[side, middle.clamp(min=0)] <= limit) | (middle <= before)
            before, start = torch.where(counts, before, middle), torch.where(counts & (middle > before), middle, start)
        # the rate rises from the knot before: that piece counts, too
        return torch.maximum(start - 1, self.knots.first[owner])

    def integrals(self, knots: Tensor, energies: Tensor, reference: float, orders: Sequence[int]) -> list[Tensor]:
        """Return derivatives of the integrals from the first of some knots up to each, histories at different energies.

        Parameters
        ----------
        knots : integer Tensor of shape (histories, knots)
            Knots of a history one after the other, filled up with the last of them.
        energies : Tensor of shape (histories,)
        reference : float
        orders : sequence of int
            0 for the integrals themselves.

        Returns
        -------
        list of Tensor of shape (histories, knots), one for each order
        """
        away = (1 / reference - self.x[knots]) / GAS_CONSTANT
        rates = (away * energies[:, None, None]).clamp_(max=LARGEST_EXPONENT).exp_().mul_(self.weight[knots])
        results = []
        for order in orders:
            parts = (rates * away**order if order else rates).sum(dim=2)
            results.append(torch.nn.functional.pad(parts[:, :-1].cumsum(dim=1), (1, 0)))
        return results


class _Tables:
    """Power series of the integrals up to all knots of a history, for cells of energies, at one reference temperature.

    Parameters
    ----------
    reference : float
    """

    def __init__(self, reference: float) -> None:
        self.reference = reference
        self.first = torch.empty(0, dtype=torch.int64)
        self.clear()

    def clear(self) -> None:
        """Drop all tables."""
        self.first = torch.full_like(self.first, -1)
        self.series = torch.empty(_FIRST_KNOTS, TERMS, dtype=torch.float64)
        self.used = 0

    def first_rows(self, tables: Tensor) -> Tensor:
        """Return the row of the first knot of each table, -1 for a table that is not there."""
        most = int(tables.max()) + 1
        if most > len(self.first):
            self.first = torch.cat([self.first, torch.full((most - len(self.first),), -1)])
        return self.first[tables]

    def add(self, tables: Sequence[int], arranged: _Arranged) -> None:
        """Add tables that are not there, one at least, and the others as long as there is room."""
        owners = np.searchsorted(arranged.table.numpy(), tables, side="right") - 1
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
                    self.first_rows(torch.tensor(max(tables)))
                    room = max(_MOST_KNOTS // knots, 1)
                added = True
                batch, some = some[: min(room, _AT_ONCE)], some[min(room, _AT_ONCE) :]
                energies = (2.0 * torch.tensor(batch, dtype=torch.float64) - (2 * first_cell - 1)) * running.half_width
                end = self.used + knots * len(batch)
                if end > len(self.series):
                    more = torch.empty(max(end, 2 * len(self.series)), TERMS, dtype=torch.float64)
                    more[: self.used] = self.series[: self.used]
                    self.series = more
                self.series[self.used : end] = running.series(energies, self.reference).flatten(0, 1)
                self.first[batch] = torch.arange(self.used, end, knots)
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

    def __init__(self, numbers: Sequence[int], points: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> None:
        self._points = points
        self._numbers = Knots.of([np.array(numbers, dtype=np.float64)])
        self._arranged: _Arranged | None = None
        self._tables = _Tables(np.nan)
        self._places: list[tuple[Any, Any, tuple[_Arranged, Tensor, Tensor]]] = []
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
        slopes_too = energy.requires_grad and torch.is_grad_enabled()
        integral: Tensor = _Integral.apply(energy, time, number, self, reference, 0, slopes_too)[0]  # type: ignore[no-untyped-call]
        return integral

    def derivatives(
        self, energy: Tensor, time: Tensor, number: Tensor, reference: float, orders: Sequence[int]
    ) -> list[Tensor]:
        """Return derivatives of the integrals in the energy, one tensor for each of the orders.

        Tensors have any shape, all the same.
        """
        flat, clock, n = energy.reshape(-1), time.reshape(-1), energy.numel()
        arranged, group, knot = self._place(time, number)
        results = [torch.empty(n, dtype=torch.float64) for _ in orders]
        for first in range(0, n, _ROWS):
            rows = slice(first, first + _ROWS)
            parts = self._derivatives(flat[rows], clock[rows], (arranged, group[rows], knot[rows]), reference, orders)
            for result, part in zip(results, parts, strict=True):
                result[rows] = part
        return [result.reshape(energy.shape) for result in results]

    def _derivatives(
        self,
        energy: Tensor,
        time: Tensor,
        place: tuple[_Arranged, Tensor, Tensor],
        reference: float,
        orders: Sequence[int],
    ) -> list[Tensor]:
        arranged, group, knot = place
        ordinary = energy.abs() <= GREATEST_ENERGY
        if bool(ordinary.all()):
            sums = self._by_series(energy, group, knot, reference, orders, arranged)
        else:
            sums = [torch.full_like(energy, torch.nan) for _ in orders]
            for rows, way in ((ordinary, self._by_series), (energy.abs() > GREATEST_ENERGY, self._one_by_one)):
                some = torch.nonzero(rows)[:, 0]
                parts = way(energy[some], group[some], knot[some], reference, orders, arranged) if len(some) else []
                for total, part in zip(sums, parts, strict=False):
                    total[some] = part
        passed = time - arranged.knots.value[knot]
        rest = torch.nonzero(passed > 0)[:, 0]
        if len(rest):
            at = knot[rest]
            parts = _to_row(energy[rest], passed[rest], arranged.temperature[at], arranged.slope[at], reference, orders)
            for total, part in zip(sums, parts, strict=True):
                total[rest] += part
        return sums

    def _place(self, time: Tensor, number: Tensor) -> tuple[_Arranged, Tensor, Tensor]:
        """Return the histories asked for, each row's history among them, and the last knot before its time.

        A fit evaluates the same rows many times: the places of the last few tensors are kept, as long as these have the
        same memory and version. They are kept as well, so that their memory is not given to others.
        """
        key = [(part.data_ptr(), part._version, part.shape, part.stride()) for part in (time, number)]
        for entry in self._places:
            if entry[0] == key:
                return entry[2]
        arranged, group = self._groups(number.reshape(-1))
        place = arranged, group, arranged.knots.at_or_before(time.reshape(-1), group)
        if len(group) <= _ROWS_KEPT:
            self._places = [(key, (time, number), place), *self._places[: _KEPT - 1]]
        return place

    def _groups(self, number: Tensor) -> tuple[_Arranged, Tensor]:
        """Return the histories that rows have asked for, these rows included, and the place of each row's history."""
        which = self._numbers.at_or_before(number, torch.tensor(0))
        arranged = self._arranged
        if arranged is not None:
            group = arranged.group[which]
            if bool((group >= 0).all()):
                return arranged, group
        with self._lock:
            arranged = self._arranged
            if arranged is None:
                groups, running = torch.full((len(self._points),), -1), []
            else:
                groups, running = arranged.group.clone(), list(arranged.running)
            wanted = torch.unique(which)
            new = wanted[groups[wanted] < 0].tolist()
            groups[new] = torch.arange(len(running), len(running) + len(new))
            running += [RunningIntegrals(*self._points[i]) for i in new]
            self._arranged = arranged = _Arranged.of(groups, running) if new or arranged is None else arranged
            return arranged, arranged.group[which]

    def _by_series(
        self, energy: Tensor, group: Tensor, knot: Tensor, reference: float, orders: Sequence[int], arranged: _Arranged
    ) -> list[Tensor]:
        """Return integrals up to knots, and their derivatives, from the power series of cells of energies."""
        half_width = arranged.half_width[group]
        cells = arranged.cells[group]
        # an energy on the upper end of the last cell is of that cell
        cell = torch.minimum((energy / (2 * half_width)).floor().long(), cells - 1)
        u = energy / half_width - (2 * cell + 1)
        table = arranged.table[group] + cells + cell
        series = self._series(table, knot - arranged.knots.first[group], reference, arranged)
        powers = torch.linalg.vander(u, N=TERMS)
        away = (1 / reference - arranged.middle[group]) / GAS_CONSTANT
        factor = torch.exp(u * half_width * away)
        terms = []
        for order in range(max(orders) + 1):
            terms.append(torch.einsum("rk,rk->r", series, powers[:, : TERMS - order]) / half_width**order)
            series = series[:, 1:] * torch.arange(1, TERMS - order)
        return [
            factor * sum(comb(order, j) * away ** (order - j) * terms[j] for j in range(order + 1)) for order in orders
        ]

    def _series(self, table: Tensor, knot: Tensor, reference: float, arranged: _Arranged) -> Tensor:
        """Return the coefficients of the series of each row, from its table and its knot's number in its history."""
        rows = torch.arange(len(table))
        result = None
        while True:
            with self._lock:
                if self._tables.reference != reference:
                    self._tables = _Tables(reference)
                tables = self._tables
                first = tables.first_rows(table)
                there = first >= 0
                if result is None and bool(there.all()):
                    return tables.series.index_select(0, first + knot)
                if result is None:
                    result = torch.empty(len(table), TERMS, dtype=torch.float64)
                result[rows[there]] = tables.series[first[there] + knot[there]]
                rows, table, knot = rows[~there], table[~there], knot[~there]
                if not len(rows):
                    return result
                tables.add(torch.unique(table).tolist(), arranged)

    def _one_by_one(
        self, energy: Tensor, group: Tensor, knot: Tensor, reference: float, orders: Sequence[int], arranged: _Arranged
    ) -> list[Tensor]:
        """Return what `_by_series` does, from sums over all knots for every energy of every history."""
        results = [torch.empty_like(energy) for _ in orders]
        energies, number = torch.unique(energy.clamp(min=-_BEYOND, max=_BEYOND), return_inverse=True)
        pairs, pair = torch.unique(group * len(energies) + number, return_inverse=True)
        owner, energies = pairs // len(energies), energies[pairs % len(energies)]
        earliest = torch.full_like(owner, len(arranged.slope)).scatter_reduce(0, pair, knot, "amin")
        latest = torch.zeros_like(owner).scatter_reduce(0, pair, knot, "amax")
        start = arranged.start(owner, energies, earliest)
        size = latest - start + 1
        # pairs of like size together, since the smaller ones are filled up
        sorted_pairs = size.argsort(stable=True)
        place = torch.empty_like(pairs)
        place[sorted_pairs] = torch.arange(len(pairs))
        place = place[pair]
        first = 0
        while first < len(pairs):
            total = size[sorted_pairs[first:]] * torch.arange(1, len(pairs) - first + 1)
            some = sorted_pairs[first : first + max(1, int((total <= _CHUNK // _NODES).sum()))]
            knots = start[some, None] + torch.arange(int(size[some[-1]]))
            knots = torch.minimum(knots, latest[some, None])
            sums = arranged.integrals(knots, energies[some], reference, orders)
            rows = torch.nonzero((place >= first) & (place < first + len(some)))[:, 0]
            at = place[rows] - first, knot[rows] - start[pair[rows]]
            for result, part in zip(results, sums, strict=True):
                result[rows] = part[at]
            first += len(some)
        return results


def _to_row(
    energy: Tensor, passed: Tensor, temperature: Tensor, slope: Tensor, reference: float, orders: Sequence[int]
) -> list[Tensor]:
    """Return the integral from the last knot before each row to the time of the row, and its derivatives."""
    point, share = (torch.from_numpy(part) for part in legendre(_NODES))
    x = 1 / (temperature[:, None] + slope[:, None] * passed[:, None] * point)
    away = (1 / reference - x) / GAS_CONSTANT
    rates = passed[:, None] * share * torch.exp((energy[:, None] * away).clamp(max=LARGEST_EXPONENT))
    return [(rates * away**order if order else rates).sum(dim=1) for order in orders]


class _Integral(torch.autograd.Function):
    """A derivative of the integrals in the energy, of any order, which is differentiable in the energy."""

    @staticmethod
    def forward(
        energy: Tensor,
        time: Tensor,
        number: Tensor,
        times: ThermalTimes,
        reference: float,
        order: int,
        slopes_too: bool,
    ) -> tuple[Tensor, Tensor]:
        orders = [order, order + 1] if slopes_too else [order]
        value, *slope = times.derivatives(energy, time, number, reference, orders)
        return value, slope[0] if slopes_too else value.new_empty(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        energy, time, number, *ctx.rest = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(energy, time, number, output[1])

    @staticmethod
    def backward(ctx: Any, of_value: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        energy, time, number, slope = ctx.saved_tensors
        times, reference, order, slopes_too = ctx.rest
        if not slopes_too or torch.is_grad_enabled():
            again = torch.is_grad_enabled()
            slope = _Integral.apply(energy, time, number, times, reference, order + 1, again)[0]  # type: ignore[no-untyped-call]
        return of_value * slope, None, None, None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], energy: Tensor, time: Tensor, number: Tensor, *rest: Any
    ) -> tuple[Any, Any]:
        rows = []
        for part, dim in zip((energy, time, number), in_dims, strict=False):
            rows.append(part.unsqueeze(0) if dim is None else part.movedim(dim, 0))
        shape = torch.broadcast_shapes(*(part.shape for part in rows))  # type: ignore[no-untyped-call]
        value, slope = _Integral.apply(*(part.expand(shape) for part in rows), *rest)  # type: ignore[no-untyped-call]
        return (value, slope), (0, 0 if rest[-1] else None)
