"""What follows from the meta-learned weights once they are settled: the noise of a head, statistics of all tasks."""

from collections.abc import Sequence

import torch

from metaest.estimators.networks.adaptation import Plan
from metaest.functional import BatchForward, Episodes, Params, Rows, repeat_for_tasks
from metaest.functional.modules.forward import batch_statistics
from metaest.functional.modules.normalization import per_step, population_statistics

__all__ = ["settled"]


def settled(plan: Plan, forward: BatchForward, meta: Params, drawn: Sequence[Episodes]) -> Params:
    """Return the meta-parameters with what follows from them.

    Parameters
    ----------
    plan : Plan
    forward : callable
    meta : dict of Tensor
    drawn : sequence of Episodes
        Of as many tasks each.

    Returns
    -------
    dict of Tensor
    """
    if plan.normed:
        meta = {**meta, **_statistics(plan, forward, meta, drawn)}
    if plan.head is None or not plan.head.bayesian or not plan.steps:
        return meta
    with torch.no_grad():
        start = repeat_for_tasks(plan.start(meta), len(drawn[0].query.X))
        return {**meta, **plan.head.settled(forward, start, drawn)}


def _statistics(plan: Plan, forward: BatchForward, meta: Params, drawn: Sequence[Episodes]) -> Params:
    """Return the statistics of all rows of all tasks before adaptation, and those of supports in every inner step."""
    shared, steps = [], []
    for episodes in drawn:
        n_tasks = len(episodes.query.X)
        start = repeat_for_tasks(
            {name: own.detach() for name, own in plan.start(meta, episodes.query).items()}, n_tasks
        )
        rows = Rows(*(torch.cat(parts, dim=1) for parts in zip(*episodes, strict=True)))
        with torch.no_grad():
            shared.append(batch_statistics(forward, start, rows))
        if plan.per_step and plan.head is None and plan.steps:
            support = plan.support(meta, episodes.support)
            path = plan.descent(meta).path(forward, plan.loss, start, support)
            steps.append([{n: v.detach() for n, v in batch_statistics(forward, at, support).items()} for at in path])
    found = population_statistics(shared)
    if steps:
        found |= per_step([population_statistics(list(own)) for own in zip(*steps, strict=True)])
    return found
