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

from metaest.estimators.fingerprint import digest
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.episodes import EpisodeSampler
from metaest.estimators.networks.settings import InnerSettings
from metaest.exceptions import OvershootWarning, warn
from metaest.functional import BatchForward, Episodes, Loss, Params, repeat_for_tasks
from metaest.functional.inner.damping import highest_loss

__all__ = ["back_off", "warn_of_rate"]

# number of meta-batches whose support losses are compared
BATCHES = 4
# the rate is not lowered beyond a millionth: then something else is wrong
MOST_HALVINGS = 20


def back_off(
    adaptation: Adaptation, meta: Params, forward: BatchForward, sampler: EpisodeSampler, batch_size: int, seed: int
) -> tuple[Adaptation, Params]:
    """Return an adaptation and its meta-parameters at a rate that does not overshoot.

    Parameters
    ----------
    adaptation : Adaptation
    meta : dict of Tensor
        Where the fit starts.
    forward : callable
    sampler : EpisodeSampler
        Its random state is not advanced.
    batch_size : int
    seed : int

    Returns
    -------
    adaptation : Adaptation
    meta : dict of Tensor
        Both unchanged where nothing overshoots.
    """
    if adaptation.backed_off(meta, 1.0) is None:
        return adaptation, meta
    probe = copy.copy(sampler)
    probe.rng = np.random.default_rng(seed)
    batches = probe.batches(batch_size)
    drawn = [probe.episodes(next(batches)) for _ in range(BATCHES)]
    parts = [part for episodes in drawn for part in episodes.parts(sampler.at_once(meta))]
    module = sampler.network.forward.module
    training = module.training
    module.eval()
    try:
        for halvings in range(MOST_HALVINGS + 1):
            lowered = adaptation.backed_off(meta, 2.0**halvings) if halvings else (adaptation, meta)
            if lowered is None:
                break
            before, after = _support_losses(*lowered, forward, sampler.network.loss, parts)
            if bool(after.mean() <= highest_loss(before.mean())):
                return lowered
    finally:
        module.train(training)
    return adaptation, meta


def warn_of_rate(inner: InnerSettings, adaptation: Adaptation, earlier: Adaptation | None) -> None:
    """Warn that a fit used lower rates than those asked for, unless an earlier fit with the same rates warned."""
    if inner.given is not None and adaptation.solver_object is not None:
        used = adaptation.solver_object
        told = [inner.given] if earlier is None else [inner.given, earlier.solver_object]
        if digest(used) not in map(digest, told):
            warn(
                f"inner_solver={inner.solver_name} overshoots on the tasks of this fit (their support losses rise at "
                f"its start); the fit used {used.describe_rate()}.",
                OvershootWarning,
            )
        return
    asked = inner.rate
    if adaptation.rate in (asked, None if earlier is None else earlier.rate):
        return
    warn(
        f"inner_lr={asked:.2g} overshoots on the tasks of this fit (their support losses rise at its start); the fit "
        f"{'started from' if adaptation.learn else 'used'} inner_lr={adaptation.rate:.2g}. Setting that rate, or a "
        "smaller network, avoids this warning.",
        OvershootWarning,
    )


def _support_losses(
    adaptation: Adaptation, meta: Params, forward: BatchForward, loss: Loss, parts: list[Episodes]
) -> tuple[Tensor, Tensor]:
    """Return the support loss of every task before and after adaptation."""
    before, after = [], []
    for episodes in parts:
        start = repeat_for_tasks(adaptation.start(meta, episodes.query), len(episodes.query.mask))
        support = adaptation.support(meta, episodes.support)
        start = {name: value.detach() for name, value in start.items()}
        adapted = adaptation.solver(meta).solve(forward, loss, start, support)
        with torch.no_grad():
            before.append(loss(forward(start, support), support.y, support.mask))
            after.append(loss(forward(adapted, support), support.y, support.mask))
    return torch.cat(before), torch.cat(after)
