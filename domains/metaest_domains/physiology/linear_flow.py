r"""Amounts in linear compartments after a time, for any rates and times, without cancellation.

With the rates :math:`k_{ij}` from compartment j to i and :math:`k_{0j}` out of the system, amounts follow
:math:`x' = A x + r`. The share of compartment j that is in i after a time t is :math:`P_{ij} = (e^{A t})_{ij}`, and
:math:`P_{0j}` has left. P is computed by scaling and squaring, where no term cancels another; after each squaring the
shares of a compartment add up to 1 (the smaller of what is left and what is gone is kept), so that rounding does not
double with each squaring as it does otherwise: a slow rate keeps its digits beside one that is eleven orders of
magnitude faster.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Flow", "Rates", "System", "flow_after", "rates_of", "solved"]

# rate times step at which the series is used, and its last term: the remainder is 2e-17 of the first one
STEP = 0.05
DEGREE = 8
# squarings at most, for a rate times time of 1e18: beyond it the answer is NaN
MOST_SQUARINGS = 64


class System(Protocol):
    """A linear system of compartments."""

    def rates(self) -> "Rates":
        """Return the rates."""
        ...

    def after(self, time: Tensor, *, inflow: bool) -> "Flow":
        """Return what a time, of shape (n_rows, n_intervals), does to amounts, with the effect of an inflow or not."""
        ...


class Rates(NamedTuple):
    """Rates of linear compartments.

    Attributes
    ----------
    between : Tensor of shape (..., n, n)
        Rates from compartment j to i, of shape [i, j]; 0 on the diagonal.
    out : Tensor of shape (..., n)
        Rates out of the system.
    """

    between: Tensor
    out: Tensor

    def rates(self) -> "Rates":
        """Return these rates."""
        return self

    def after(self, time: Tensor, *, inflow: bool) -> "Flow":
        """Return what a time does to amounts; see `flow_after`."""
        return flow_after(self, time, inflow=inflow)


class Flow(NamedTuple):
    """What a time does to amounts.

    Attributes
    ----------
    share : Tensor of shape (..., n, n)
        Share of compartment j that is in i afterwards.
    gone : Tensor of shape (..., n)
        Share that has left.
    inflow : Tensor of shape (..., n, n) or None
        Amounts in i after an inflow of one unit a time into j.
    """

    share: Tensor
    gone: Tensor
    inflow: Tensor | None

    def of(self, amounts: Tensor, inflow: Tensor | None = None) -> Tensor:
        """Return amounts of shape (..., n) after the time."""
        after = (self.share @ amounts[..., None])[..., 0]
        if inflow is None or self.inflow is None:
            return after
        return after + (self.inflow @ inflow[..., None])[..., 0]


def rates_of(n: int, between: Mapping[tuple[int, int], Tensor], out: Mapping[int, Tensor]) -> Rates:
    """Return rates of n states, from state j to i by (i, j) and out of j by j, all others being 0."""
    keys = [*between, *out]
    parts = torch.broadcast_tensors(*between.values(), *out.values())  # type: ignore[no-untyped-call]
    given, zero = dict[object, Tensor](zip(keys, parts, strict=True)), torch.zeros_like(parts[0])
    rows = [torch.stack([given.get((i, j), zero) for j in range(n)], dim=-1) for i in range(n)]
    return Rates(torch.stack(rows, dim=-2), torch.stack([given.get(j, zero) for j in range(n)], dim=-1))


def flow_after(rates: Rates, time: Tensor, *, inflow: bool) -> Flow:
    """Return what a time does to amounts.

    Parameters
    ----------
    rates : Rates
    time : Tensor of shape (...)
        At least 0.
    inflow : bool
        Whether the effect of an inflow is computed, too.
    """
    total = rates.between.sum(dim=-2) + rates.out
    fastest = total.detach().amax(dim=-1) * time.detach()
    beyond = fastest > STEP * 2.0**MOST_SQUARINGS
    time = torch.where(beyond, torch.nan, time)
    fastest = torch.where(beyond, 0.0, fastest)
    top = float(torch.nan_to_num(fastest, nan=0.0, posinf=0.0).max()) if fastest.numel() else 0.0
    squarings = min(max(math.ceil(math.log2(top) - math.log2(STEP)), 0), MOST_SQUARINGS) if top > 0 else 0
    step = time * 0.5**squarings
    share, gone, entered = _series(rates, total, step, inflow)
    share, gone = _balanced(share, gone)
    for _ in range(squarings):
        if entered is not None:
            entered = entered + share @ entered
        gone = gone + (gone[..., None, :] @ share)[..., 0, :]
        share, gone = _balanced(share @ share, gone)
    return Flow(share, gone, entered)


def _series(rates: Rates, total: Tensor, step: Tensor, inflow: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return shares, what is gone, and the effect of an inflow after a step that is short for all rates."""
    h = step[..., None, None]
    moved = (rates.between - torch.diag_embed(total)) * h
    eye = torch.eye(moved.shape[-1], dtype=moved.dtype).expand_as(moved)
    # sum of moved^k / (k + 1)!, from which both follow
    integral = eye / (DEGREE + 1)
    for k in range(DEGREE, 0, -1):
        integral = (eye + moved @ integral) / k if k > 1 else eye + moved @ integral
    share = eye + moved @ integral
    gone = ((rates.out[..., None, :] * h) @ integral)[..., 0, :]
    return share, gone, integral * h if inflow else None


def _balanced(share: Tensor, gone: Tensor) -> tuple[Tensor, Tensor]:
    """Return shares that add up to 1 with what is gone; the smaller of both parts stays."""
    left = share.sum(dim=-2)
    most = gone > 0.5
    factor = torch.where(most, 1.0, (1 - gone) / torch.where(left > 0, left, 1.0))
    return share * factor[..., None, :], torch.where(most, 1 - left, gone)


def solved(between: Tensor, out: Tensor, right: Tensor) -> Tensor:
    """Return the amounts at which what flows in equals what flows out, by elimination without subtraction.

    Parameters
    ----------
    between : Tensor of shape (..., n, n)
        Rates, or shares in one interval, from compartment j to i; the diagonal is not read.
    out : Tensor of shape (..., n)
        Rates, or shares, out of the system.
    right : Tensor of shape (..., n)
        What flows in, in a unit of time or an interval.
    """
    n = right.shape[-1]
    flow = [[between[..., i, j] for j in range(n)] for i in range(n)]
    lost, entering, leaving = list(out.unbind(-1)), list(right.unbind(-1)), list[Tensor]()
    for k in range(n):
        below = [flow[i][k] for i in range(k + 1, n)]
        pivot = lost[k] + torch.stack(below).sum(dim=0) if below else lost[k]
        leaving.append(pivot)
        for i in range(k + 1, n):
            share = flow[i][k] / pivot
            entering[i] = entering[i] + share * entering[k]
            for j in range(k + 1, n):
                if i != j:
                    flow[i][j] = flow[i][j] + share * flow[k][j]
        for j in range(k + 1, n):
            lost[j] = lost[j] + lost[k] / pivot * flow[k][j]
    amounts: list[Tensor] = [entering[0]] * n
    for k in reversed(range(n)):
        above = [flow[k][j] * amounts[j] for j in range(k + 1, n)]
        amounts[k] = (entering[k] + torch.stack(above).sum(dim=0) if above else entering[k]) / leaving[k]
    return torch.stack(amounts, dim=-1)
