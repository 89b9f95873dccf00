"""Temperature histories one after the other, and sums along them at energies for which there are no tables."""

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from metaest_domains.kinetics.knots import Knots
from metaest_domains.kinetics.rates import GAS_CONSTANT
from metaest_domains.kinetics.running import GREATEST_ENERGY, LARGEST_EXPONENT, RunningIntegrals

__all__ = ["Arranged", "Runs"]

Array = NDArray[Any]

# pieces between knots of one temporary array
_PIECES = 2**13
# decrease of E/RT to where rates are left out, all times together below 1e-13 of the integral
_NEGLIGIBLE = 45.0
# exponent below which exp is 0 in double precision
_NOTHING = 746.0
# kJ/mol; energies without bound are cut off here, where rates are 0 or too large for any number
_BEYOND = 1e15


class Runs(NamedTuple):
    """Rows of the same history and energy that follow one another: what they have in common is computed once.

    Attributes
    ----------
    energy : ndarray of shape (runs,)
    group, length : integer ndarray of shape (runs,)
        The history of each run, and how many rows it has.
    knot : integer ndarray of shape (rows,)
        The knot up to which each row wants an integral.
    """

    energy: Array
    group: Array
    length: Array
    knot: Array

    @classmethod
    def of(cls, energy: Array, group: Array, knot: Array) -> "Runs":
        """Return the runs of rows, of which there is one at least."""
        new = (energy[1:] != energy[:-1]) | (group[1:] != group[:-1])
        first = np.flatnonzero(np.concatenate([[True], new]))
        return cls(energy[first], group[first], np.diff(np.append(first, len(energy))), knot)

    def where(self, chosen: Array) -> tuple["Runs", Array]:
        """Return some of the runs, and the numbers of their rows."""
        rows = np.flatnonzero(np.repeat(chosen, self.length))
        return Runs(self.energy[chosen], self.group[chosen], self.length[chosen], self.knot[rows]), rows


class Arranged(NamedTuple):
    """The histories that rows have asked for so far.

    Attributes
    ----------
    group : integer ndarray of shape (histories,)
        Place of each history among those asked for, -1 for the others.
    running : tuple of RunningIntegrals
    knots : Knots
        Times, a group for each.
    temperature, slope : ndarray of shape (knots,)
    middle, half_width : ndarray of shape (groups,)
    cells : integer ndarray of shape (groups,)
        Number of cells of energies above zero, and as many below.
    table : integer ndarray of shape (groups,)
        Number of the table of the first cell.
    fastest : ndarray of shape (2, knots)
        The least 1/T up to each knot, where the rate of a positive energy is greatest; and the least -1/T.
    x, weight : ndarray of shape (nodes, knots)
        Values of 1/T and weights of the rule between a knot and the next one.
    """

    group: Array
    running: tuple[RunningIntegrals, ...]
    knots: Knots
    temperature: Array
    slope: Array
    middle: Array
    half_width: Array
    cells: Array
    table: Array
    fastest: Array
    x: Array
    weight: Array

    @classmethod
    def of(cls, group: Array, running: Sequence[RunningIntegrals]) -> "Arranged":
        """Arrange histories one after the other."""
        half_width = np.array([one.half_width for one in running])
        cells = np.array([ceil(GREATEST_ENERGY / (2 * width)) for width in half_width])
        fastest = [np.minimum.accumulate([1 / one.temperature, -1 / one.temperature], axis=1) for one in running]
        x, weight = (
            np.concatenate([np.pad(one.nodes[i].numpy().T, ((0, 0), (0, 1))) for one in running], axis=1)
            for i in (0, 1)
        )
        return cls(
            group,
            tuple(running),
            Knots.of([one.time for one in running]),
            np.concatenate([one.temperature for one in running]),
            np.concatenate([one.slope for one in running]),
            np.array([one.middle for one in running]),
            half_width,
            cells,
            np.cumsum([0, *(2 * cells[:-1])]),
            np.concatenate(fastest, axis=1),
            x,
            weight,
        )

    def sums(self, runs: Runs, reference: float, orders: Sequence[int]) -> Array:
        """Return derivatives of the integrals up to knots, from sums along the histories.

        Parameters
        ----------
        runs : Runs
        reference : float
        orders : sequence of int
            0 for the integrals themselves.

        Returns
        -------
        ndarray of shape (orders, rows)
        """
        _, group, length, knot = runs
        energy = np.clip(runs.energy, -_BEYOND, _BEYOND)
        last = np.cumsum(length)
        first = last - length
        earliest, latest = np.minimum.reduceat(knot, first), np.maximum.reduceat(knot, first)
        start = self._start(group, energy, earliest, latest, reference)
        size = np.maximum(latest - start, 0)
        end = np.cumsum(size)
        begin = end - size
        results = np.zeros((len(orders), len(knot)))
        a = 0
        while a < len(energy):
            b = max(a + 1, int(np.searchsorted(end, begin[a] + _PIECES, side="right")))
            ahead = begin[a:b] - begin[a]
            pieces = np.arange(end[b - 1] - begin[a]) + np.repeat(start[a:b] - ahead, size[a:b])
            parts = self._pieces(pieces, np.repeat(energy[a:b], size[a:b]), reference, orders)
            for i, j in zip(ahead.tolist(), (ahead + size[a:b]).tolist(), strict=True):
                np.add.accumulate(parts[:, i:j], axis=1, out=parts[:, i:j])
            number = knot[first[a] : last[b - 1]] - np.repeat(start[a:b], length[a:b])
            some = np.flatnonzero(number > 0)
            at = (number + np.repeat(ahead - 1, length[a:b]))[some]
            results[:, first[a] + some] = parts[:, at]
            a = b
        return results

    def _start(self, owner: Array, energies: Array, earliest: Array, latest: Array, reference: float) -> Array:
        """Return the knot before which the rate of each history may be left out.

        Parameters
        ----------
        owner : integer ndarray of shape (runs,)
            A history.
        energies : ndarray of shape (runs,)
        earliest, latest : integer ndarray of shape (runs,)
            The first and the last knot up to which an integral is wanted.
        reference : float

        Returns
        -------
        integer ndarray of shape (runs,)
        """
        n, fastest = self.fastest.shape[1], self.fastest.ravel()
        side, size = n * (energies < 0), np.abs(energies) / GAS_CONSTANT
        # where a rate is not a number above 0 yet
        limit = np.minimum(
            fastest[side + earliest] + _NEGLIGIBLE / size, np.sign(energies) / reference + _NOTHING / size
        )
        first = self.knots.first[owner]
        before, start = first - 1, latest + 1
        for _ in range(int((start - before).max()).bit_length()):
            middle = (before + start) >> 1
            counts = fastest[side + np.maximum(middle, 0)] <= limit
            start, before = np.where(counts & (middle > before), middle, start), np.where(counts, before, middle)
        # the rate rises from the knot before: that piece counts, too
        before_it: Array = np.maximum(start - 1, first)
        return before_it

    def _pieces(self, knot: Array, energy: Array, reference: float, orders: Sequence[int]) -> Array:
        """Return derivatives of the integrals from knots to the ones after them, of shape (orders, knots)."""
        away = (1 / reference - self.x.take(knot, axis=1)) / GAS_CONSTANT
        rates = np.minimum(away * energy, LARGEST_EXPONENT)
        torch.exp(torch.from_numpy(rates), out=torch.from_numpy(rates))  # three times as fast as numpy's
        rates *= self.weight.take(knot, axis=1)
        parts = np.empty((len(orders), len(knot)))
        for part, order in zip(parts, orders, strict=True):
            (rates * away**order if order else rates).sum(axis=0, out=part)
        return parts
