r"""Running integrals of Arrhenius' law along one temperature history, and their power series in the activation energy.

The integral up to a knot of a history depends on the constants of the rate as

.. math:: \int_0^t e^{-E (x(s) - x_\mathrm{ref}) / R}\,ds, \qquad x = 1/T

Knots are added so that E/RT changes by 2 at most from knot to knot where E is 600 kJ/mol. Gauss and Legendre's rule of
5 nodes then has a relative error below 1e-9 between knots. The integrals up to all knots are running sums, so that
their cost is proportional to the number of knots. Within a cell of energies the integral is its value at the middle of
the cell times a power series, whose terms are running sums as well. The cells are so narrow that 16 terms leave an
error of 1e-11.
"""

from functools import cache, cached_property
from math import factorial
from typing import Any

import numpy as np
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor

from metaest_domains.kinetics.rates import GAS_CONSTANT

__all__ = ["GREATEST_ENERGY", "LARGEST_EXPONENT", "TERMS", "RunningIntegrals", "legendre"]

# kJ/mol; energies up to here, of either sign, have cells
GREATEST_ENERGY = 600.0
# terms of the power series of a cell
TERMS = 16
# terms of the series that it shortens
_TAYLOR_TERMS = 28
# E/RT within a cell differs by this at most from its value at the middles of cell and history
_REACH = 2.0
# kJ/mol; half the width of a cell of a history of one temperature
_WIDEST = 300.0
# nodes of the rule between knots
_NODES = 5
# 1/K; longest piece between knots in 1/T, over which E/RT changes by 2 where E is 600 kJ/mol
_LONGEST = 2.0 * GAS_CONSTANT / 600.0
# a rate is cut off at exp of this, so that sums of rates are finite
LARGEST_EXPONENT = 600.0


class RunningIntegrals:
    """Integrals of Arrhenius' law from time 0 to each knot of a piecewise linear history.

    Parameters
    ----------
    time, temperature : ndarray of shape (points,)
        Times from 0 on, temperatures in K.

    Attributes
    ----------
    time, temperature, slope : ndarray of shape (knots,)
        The history with further knots; `slope` belongs to the piece after a knot.
    middle : float
        Middle of the range of 1/T.
    half_width : float
        Half the width of a cell of energies, in kJ/mol.
    """

    def __init__(self, time: NDArray[Any], temperature: NDArray[Any]) -> None:
        self.time, self.temperature = _cut(time, temperature)
        self.slope = np.append(np.diff(self.temperature) / np.diff(self.time), 0.0)
        ends = 1 / self.temperature.max(), 1 / self.temperature.min()
        self.middle = 0.5 * (ends[0] + ends[1])
        reach = 0.5 * (ends[1] - ends[0])
        self.half_width = min(_REACH * GAS_CONSTANT / reach, _WIDEST) if reach > 0 else _WIDEST

    @cached_property
    def nodes(self) -> tuple[Tensor, Tensor]:
        """Values of 1/T and weights of the rule between knots, each of shape (knots - 1, nodes)."""
        point, share = legendre(_NODES)
        x = 1 / (self.temperature[:-1, None] + np.diff(self.temperature)[:, None] * point)
        return torch.from_numpy(x), torch.from_numpy(np.diff(self.time)[:, None] * share)

    @cached_property
    def _powers(self) -> Tensor:
        """Coefficients in powers of u of ``exp(-u half_width (x - middle) / R)``: (nodes, knots - 1, terms)."""
        exponent = self.half_width / GAS_CONSTANT * (self.nodes[0].T - self.middle)
        powers: Tensor = torch.linalg.vander(exponent, N=_TAYLOR_TERMS)
        return powers @ _shortened()

    def series(self, energies: Tensor, reference: float) -> Tensor:
        r"""Return the series of the integrals about energies, the middles of cells.

        With :math:`E = E_0 + u h`, h the half-width of the cell and :math:`\bar x` the middle of 1/T, the integral is

        .. math:: e^{-u h (\bar x - x_\mathrm{ref}) / R} \sum_n c_n u^n

        Parameters
        ----------
        energies : Tensor of shape (cells,)
            In kJ/mol.
        reference : float
            The temperature at which the rate is one.

        Returns
        -------
        Tensor of shape (cells, knots, terms)
        """
        rates = self._rates(energies, reference)
        sums = torch.zeros(len(energies), len(self.time), TERMS, dtype=torch.float64)
        parts = sums[:, 1:]
        for node, powers in enumerate(self._powers):
            parts.addcmul_(rates[:, :, node, None], powers)
        return torch.cumsum(sums, dim=1, out=sums)

    def _rates(self, energies: Tensor, reference: float) -> Tensor:
        """Return weights times rates at the nodes, of shape (energies, knots - 1, nodes)."""
        x, weight = self.nodes
        exponent = (1 / reference - x) * (energies / GAS_CONSTANT)[:, None, None]
        return exponent.clamp_(max=LARGEST_EXPONENT).exp_().mul_(weight)


@cache
def _shortened() -> Tensor:
    """Return the matrix from powers of z to a polynomial in u close to ``exp(-u z)``, u between -1 and 1.

    Taylor's series, in which higher powers of u are replaced by the polynomials nearest to them, those of Chebyshev's
    series (Lanczos, 1938, :doi:`10.1002/sapm1938171123`): at the same number of terms it leaves a smaller error.
    """
    rows = np.zeros((_TAYLOR_TERMS, TERMS))
    for power in range(_TAYLOR_TERMS):
        nearest = chebyshev.cheb2poly(chebyshev.poly2cheb(np.eye(_TAYLOR_TERMS)[power])[:TERMS])
        rows[power, : len(nearest)] = (-1) ** power / factorial(power) * nearest
    return torch.from_numpy(rows)


def _cut(t: NDArray[Any], T: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a history with additional knots in pieces that are long in 1/T."""
    x = 1 / T
    extra = [t]
    parts = np.ceil(np.abs(np.diff(x)) / _LONGEST).astype(np.int64)
    for i in np.flatnonzero(parts > 1):
        inner = 1 / np.linspace(x[i], x[i + 1], parts[i] + 1)[1:-1]
        extra.append(t[i] + (t[i + 1] - t[i]) * ((inner - T[i]) / (T[i + 1] - T[i])))
    if len(extra) == 1:
        return t, T
    fine = np.unique(np.concatenate(extra))
    return fine, np.interp(fine, t, T)


def legendre(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return nodes and weights of the Gauss-Legendre rule on [0, 1]."""
    node, weight = np.polynomial.legendre.leggauss(n)
    return 0.5 * (node + 1), 0.5 * weight
