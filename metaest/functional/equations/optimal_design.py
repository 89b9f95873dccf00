r"""Greedy optimal design of the next measurements of a task, averaged over its posterior.

Measuring row c adds :math:`w_c z_c z_c^\top` to the precision of u, with :math:`z_c = A^\top d_c` and :math:`w_c` the
expected weight of one observation. D-optimality gains :math:`\log(1 + w_c z_c^\top C z_c)`; for one constant with
direction a the gain is :math:`-\log(\mathrm{var}_\mathrm{after} / \mathrm{var}_\mathrm{before})` of :math:`a^\top u`.
Where residuals correlate in time, a row adds what the rows before and after it do not say: its slopes less theirs,
weighed as by :class:`~metaest.functional.equations.correlation.Bridge`, over what that leaves of the noise. Gains are
averaged over draws of u, since the slopes of a nonlinear equation depend on unknown constants (Chaloner and Verdinelli,
1995, :doi:`10.1214/ss/1177009939`).
"""

import torch
from torch import Tensor

from metaest.functional.equations.correlation import Correlation
from metaest.functional.equations.observations import Observations

__all__ = ["choose_correlated_rows", "choose_rows"]


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


def choose_correlated_rows(
    covariance: Tensor,
    slopes: Tensor,
    before: Tensor | None,
    times: Tensor,
    tau: float,
    n: int,
    direction: Tensor | None = None,
    cost: Tensor | None = None,
) -> tuple[list[int], list[float]]:
    r"""Choose rows one after the other, where residuals at a distance t have the correlation :math:`e^{-t / \tau}`.

    Parameters
    ----------
    covariance : Tensor of shape (random, random)
    slopes : Tensor of shape (draws, candidates, random)
        In standard deviations of the noise.
    before : Tensor of shape (draws, rows, random) or None
        The same of the rows that were measured.
    times : Tensor of shape (candidates + rows,)
        Of the candidates, then of the rows.
    tau : float
    n, direction, cost
        As `choose_rows` takes them.

    Returns
    -------
    rows : list of int
    gains : list of float
    """
    m = slopes.shape[1]
    everything = slopes if before is None else torch.cat([slopes, before], dim=1)
    seen = list(range(m, everything.shape[1]))
    C = covariance.expand(len(slopes), -1, -1)
    chosen: list[int] = []
    gains: list[float] = []
    for _ in range(n):
        z, left = _beside(everything, times, tau, seen, m)
        moved = z @ C
        spread = (moved * z).sum(dim=-1) / left
        if direction is None:
            gain = spread.log1p()
        else:
            whole = (C @ direction) @ direction
            along = moved @ direction
            after = whole[:, None] - along.square() / left / (1 + spread)
            gain = -(after / whole[:, None]).clamp(min=1e-12).log()
        mean = torch.nan_to_num(gain, nan=0.0, posinf=0.0).mean(dim=0)
        total = mean.clone() if cost is None else mean / cost
        total[chosen] = -torch.inf
        best = int(total.argmax())
        chosen.append(best)
        gains.append(float(mean[best]))
        taken = moved[:, best]
        shrunk = C - taken[:, :, None] * taken[:, None, :] / (left[best] * (1 + spread[:, best]))[:, None, None]
        C = torch.where(torch.isfinite(shrunk).all(dim=(1, 2))[:, None, None], shrunk, C)
        seen.append(best)
    return chosen, gains


def _beside(slopes: Tensor, times: Tensor, tau: float, seen: list[int], m: int) -> tuple[Tensor, Tensor]:
    """Return the slopes of the first m rows less what seen rows say of them, and the share of the noise left."""
    if not seen:
        return slopes[:, :m], torch.ones(m, dtype=slopes.dtype)
    given = Observations.stack(times[None, seen, None], times[None, seen], torch.ones(1, len(seen)).to(times))
    new = Observations.stack(times[None, :m, None], times[None, :m], torch.ones(1, m).to(times))
    bridge = Correlation("car1", 0).bridge(given, new, torch.tensor(tau, dtype=times.dtype).log())
    values = slopes[:, seen].transpose(0, 1).reshape(len(seen), -1)
    expected = bridge.mean(values).reshape(m, len(slopes), -1).transpose(0, 1)
    left = bridge.variance[:, 0]
    # at the time of a seen row a measurement would be the same once more
    same = left <= 0
    return torch.where(same[:, None], 0.0, slopes[:, :m] - expected), torch.where(same, 1.0, left)
