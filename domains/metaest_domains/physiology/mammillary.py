r"""Amounts in one or two compartments, with or without a gut, after a time: the matrix exponential in closed form.

With the rates :math:`\alpha \ge \beta` of the exponentials and D(t), the difference of the two exponentials divided by
that of the rates, the shares of the central compartment are :math:`e^{-\alpha t} + D (k_{21} - \beta)` and
:math:`D k_{12}`; all terms are positive. `linear_flow` computes the same for any linear system, and takes longer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metaest_domains.physiology.disposition import between
from metaest_domains.physiology.linear_flow import Flow, Rates, rates_of

__all__ = ["Mammillary"]

# rate times time below which a series is used, and its terms: the remainder is 1e-15 of the first one
NEAR = 0.01
TERMS = 6


class Mammillary(NamedTuple):
    """A central compartment, with or without a peripheral one and a gut; states in the order gut, central, peripheral.

    Attributes
    ----------
    out : Tensor of shape (n_rows, n_intervals)
        Rate of elimination.
    there, back : Tensor or None
        Rates of exchange with the peripheral compartment.
    entering : Tensor or None
        Rate of absorption from the gut.
    """

    out: Tensor
    there: Tensor | None = None
    back: Tensor | None = None
    entering: Tensor | None = None

    def rates(self) -> Rates:
        """Return the rates as those of any linear system."""
        c = 0 if self.entering is None else 1
        rates: dict[tuple[int, int], Tensor] = {}
        if self.entering is not None:
            rates[c, 0] = self.entering
        if self.there is not None and self.back is not None:
            rates |= {(c + 1, c): self.there, (c, c + 1): self.back}
        return rates_of(c + 1 + (self.there is not None), rates, {c: self.out})

    def after(self, time: Tensor, *, inflow: bool) -> Flow:
        """Return what a time does to amounts, with the effect of an inflow or not."""
        if self.there is None or self.back is None:
            shares, gone, entered = self._one(time)
        else:
            shares, gone, entered = self._two(time, self.there, self.back)
        if self.entering is not None:
            shares, gone, entered = self._from_gut(time, shares, gone, entered)
        zero = torch.zeros_like(gone[0])
        n = len(gone)
        share = _matrix([[shares.get((i, j), zero) for j in range(n)] for i in range(n)])
        flow = _matrix([[entered.get((i, j), zero) for j in range(n)] for i in range(n)]) if inflow else None
        return Flow(share, torch.stack(gone, dim=-1), flow)

    def _one(self, time: Tensor) -> tuple[dict[tuple[int, int], Tensor], list[Tensor], dict[tuple[int, int], Tensor]]:
        gone = -torch.expm1(-self.out * time)
        return {(0, 0): torch.exp(-self.out * time)}, [gone], {(0, 0): gone / self.out}

    def _apart(self, there: Tensor, back: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the fast and the slow rate, their difference, back less the slow one, and the fast one less back."""
        more = self.out + there - back
        apart = (more.square() + 4 * there * back).sqrt()
        fast = 0.5 * (self.out + there + back + apart)
        slow = self.out * back / fast
        # of two differences whose product is there * back, the one that does not cancel
        sure = 0.5 * (more.abs() + apart)
        other = there * back / sure
        return fast, slow, apart, torch.where(more > 0, other, sure), torch.where(more > 0, sure, other)

    def _two(
        self, time: Tensor, there: Tensor, back: Tensor
    ) -> tuple[dict[tuple[int, int], Tensor], list[Tensor], dict[tuple[int, int], Tensor]]:
        fast, slow, _, above_slow, above_back = self._apart(there, back)
        left, shape = torch.exp(-fast * time), between(time, slow, fast)
        fast_area = -torch.expm1(-fast * time) / fast
        area = _area(time, slow, fast)
        shares = {
            (0, 0): left + shape * above_slow,
            (1, 0): shape * there,
            (0, 1): shape * back,
            (1, 1): left + shape * above_back,
        }
        central = fast_area + area * above_slow
        gone = [self.out * central, self.out * area * back]
        entered = {
            (0, 0): central, (1, 0): area * there, (0, 1): area * back, (1, 1): fast_area + area * above_back
        }  # fmt: skip
        return shares, gone, entered

    def _from_gut(
        self, time: Tensor, shares: dict[tuple[int, int], Tensor], gone: list[Tensor],
        entered: dict[tuple[int, int], Tensor],
    ) -> tuple[dict[tuple[int, int], Tensor], list[Tensor], dict[tuple[int, int], Tensor]]:  # fmt: skip
        """Return the same of a system with a gut before it."""
        assert self.entering is not None
        k = self.entering
        moved = {(i + 1, j + 1): part for (i, j), part in shares.items()}
        moved[0, 0] = torch.exp(-k * time)
        flowed = {(i + 1, j + 1): part for (i, j), part in entered.items()}
        if self.there is None or self.back is None:
            moved[1, 0] = k * between(time, self.out, k)
            flowed[1, 0] = k * _area(time, self.out, k)
            arrived = moved[1, 0]
        else:
            fast, slow, apart, above_slow, above_back = self._apart(self.there, self.back)
            of_fast, of_slow = between(time, fast, k), between(time, slow, k)
            moved[1, 0] = k * (above_back * of_fast + above_slow * of_slow) / apart
            moved[2, 0] = k * self.there * (of_slow - of_fast) / apart
            arrived = moved[1, 0] + moved[2, 0]
            fast_area, slow_area = _area(time, fast, k), _area(time, slow, k)
            flowed[1, 0] = k * (above_back * fast_area + above_slow * slow_area) / apart
            flowed[2, 0] = k * self.there * (slow_area - fast_area) / apart
        gone_from_gut = -torch.expm1(-k * time)
        flowed[0, 0] = gone_from_gut / k
        return moved, [(gone_from_gut - arrived).clamp(min=0), *gone], flowed


def _area(t: Tensor, rate: Tensor, other: Tensor) -> Tensor:
    """Return the integral of `between` from 0 to t, of two rates; by its series where the difference would cancel."""
    fast, slow = torch.maximum(rate, other), torch.minimum(rate, other)
    near = fast * t < NEAR
    series, power = torch.zeros_like(near, dtype=t.dtype), t.square() / 2
    sums, last = torch.ones_like(fast), torch.ones_like(fast)  # of all products of n rates, and the n-th power of one
    for n in range(TERMS):
        series = series + sums * power
        last = last * fast
        sums = slow * sums + last
        power = -power * t / (n + 3)
    whole = (-torch.expm1(-slow * t) / slow - between(t, slow, fast)) / fast
    return torch.where(near, series, whole)


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
