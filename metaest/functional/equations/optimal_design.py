r"""Greedy optimal design of the next measurements of a task, averaged over its posterior.

Measuring row c adds :math:`w_c z_c z_c^\top` to the precision of u, with :math:`z_c = A^\top d_c` and :math:`w_c` the
expected weight of one observation. D-optimality gains :math:`\log(1 + w_c z_c^\top C z_c)`; for one constant with
direction a the gain is :math:`-\log(\mathrm{var}_\mathrm{after} / \mathrm{var}_\mathrm{before})` of :math:`a^\top u`.
Both are averaged over draws of u, since the slopes of a nonlinear equation depend on unknown constants (Chaloner
and Verdinelli, 1995, :doi:`10.1214/ss/1177009939`).
"""

import torch
from torch import Tensor

__all__ = ["choose_rows"]


def choose_rows(
    covariance: Tensor,
    slopes: Tensor,
    weights: Tensor,
    n: int,
    direction: Tensor | None = None,
    cost: Tensor | None = None,
) -> tuple[list[int], list[float]]:
    """Choose rows one after the other, each the one that gains most, a row at most once.

    Parameters
    ----------
    covariance : Tensor of shape (random, random)
        Covariance of u given the measurements so far.
    slopes : Tensor of shape (draws, candidates, random)
        z of the module's formula.
    weights : Tensor of shape (draws, candidates)
    n : int
        At most the number of candidates.
    direction : Tensor of shape (random,), optional
        a of the module's formula; None for D-optimality.
    cost : Tensor of shape (candidates,), optional
        Gains are divided by it.

    Returns
    -------
    rows : list of int
    gains : list of float
        Gain of each chosen row, not divided by its cost.
    """
    draws = len(slopes)
    C = covariance.expand(draws, -1, -1)
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(n):
        moved = slopes @ C  # (draws, candidates, random)
        spread = weights * (moved * slopes).sum(dim=-1)
        if direction is None:
            gain = spread.log1p()
        else:
            before = (C @ direction) @ direction
            along = moved @ direction
            after = before[:, None] - weights * along.square() / (1 + spread)
            gain = -(after / before[:, None]).clamp(min=1e-12).log()
        mean = torch.nan_to_num(gain, nan=0.0).mean(dim=0)
        total = mean.clone() if cost is None else mean / cost
        total[chosen] = -torch.inf
        best = int(total.argmax())
        chosen.append(best)
        gains.append(float(mean[best]))
        z = moved[:, best]
        w = weights[:, best]
        s = spread[:, best]
        shrunk = C - (w / (1 + s))[:, None, None] * z[:, :, None] * z[:, None, :]
        C = torch.where(torch.isfinite(shrunk).all(dim=(1, 2))[:, None, None], shrunk, C)
    return chosen, gains
