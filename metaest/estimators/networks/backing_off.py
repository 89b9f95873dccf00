r"""The inner rate of a fit, lowered where it overshoots on the tasks before the first meta-step.

A rate beyond 2 over the largest eigenvalue of the Hessian of a support loss multiplies the error at every inner step.
With relu and few features some tasks reach infinity in five steps, and the meta-loss with them. Adaptation halves the
rate for a single task. A fit halves it for all tasks until their mean support loss does not more than double; a
meta-learned start takes care of a few tasks that still overshoot. Lower rates, at which no task overshoots, gave worse
fits.
"""

import copy

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.episodes import EpisodeSampler
from metaest.exceptions import OvershootWarning, warn
from metaest.functional import BatchForward, Episodes, Params, repeat_for_tasks
from metaest.functional.inner.damping import highest_loss

__all__ = ["back_off", "warn_of_rate"]

# number of meta-batches whose support losses are compared
BATCHES = 4
# the rate is not lowered beyond a millionth: then something else is wrong
MOST_HALVINGS = 20


def back_off(
    plan: Adaptation, meta: Params, forward: BatchForward, source: EpisodeSampler, batch_size: int, seed: int
) -> tuple[Adaptation, Params]:
    """Return a plan and its meta-parameters at a rate that does not overshoot.

    Parameters
    ----------
    plan : Adaptation
    meta : dict of Tensor
        Where the fit starts.
    forward : callable
    source : EpisodeSampler
        Its random state is not advanced.
    batch_size : int
    seed : int

    Returns
    -------
    plan : Adaptation
    meta : dict of Tensor
        Both unchanged where nothing overshoots.
    """
    if plan.head is not None or not plan.steps or not plan.rate:
        return plan, meta
    probe = copy.copy(source)
    probe.rng = np.random.default_rng(seed)
    batches = probe.batches(batch_size)
    drawn = [probe.episodes(next(batches)) for _ in range(BATCHES)]
    parts = [part for episodes in drawn for part in episodes.parts(source.at_once(meta))]
    module = source.network.forward.module
    training = module.training
    module.eval()
    try:
        for halvings in range(MOST_HALVINGS + 1):
            slower, slowed = plan.slower(meta, 2.0**halvings) if halvings else (plan, meta)
            before, after = _support_losses(slower, slowed, forward, parts)
            if bool(after.mean() <= highest_loss(before.mean())):
                return slower, slowed
    finally:
        module.train(training)
    return plan, meta


def warn_of_rate(asked: float, plan: Adaptation, earlier: float | None) -> None:
    """Warn that a fit used a lower rate than `inner_lr`, unless an earlier fit with the same rate warned of it."""
    if plan.rate in (asked, earlier):
        return
    warn(
        f"inner_lr={asked:.2g} overshoots on the tasks of this fit (their support losses rise at its start); the fit "
        f"{'started from' if plan.learn else 'used'} inner_lr={plan.rate:.2g}. Setting that rate, or a smaller "
        "network, avoids this warning.",
        OvershootWarning,
    )


def _support_losses(
    plan: Adaptation, meta: Params, forward: BatchForward, parts: list[Episodes]
) -> tuple[Tensor, Tensor]:
    """Return the support loss of every task before and after adaptation."""
    before, after = [], []
    for episodes in parts:
        start = repeat_for_tasks(plan.start(meta, episodes.query), len(episodes.query.X))
        support = plan.support(meta, episodes.support)
        start = {name: value.detach() for name, value in start.items()}
        adapted = plan.descent(meta).solve(forward, plan.loss, start, support)
        with torch.no_grad():
            before.append(plan.loss(forward(start, support), support.y, support.mask))
            after.append(plan.loss(forward(adapted, support), support.y, support.mask))
    return torch.cat(before), torch.cat(after)
