"""Whether a fit takes its meta-steps in machine code: a rule of shapes and counts, never of a clock."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.networks.adaptation import Plan
from metaest.estimators.networks.class_episodes import ClassSource
from metaest.estimators.networks.drawing import class_draws, policy_draws, regression_draws
from metaest.estimators.networks.episodes import RegressionSource, Source
from metaest.estimators.networks.policies import PolicySource
from metaest.estimators.networks.schedule import Differentiated, Schedule
from metaest.functional import Episodes, Params
from metaest.functional.modules.forward import alone
from metaest.functional.outer import AdamW
from metaest.jit import LaneSteps, UnavailableError, UnsupportedError, traced

__all__ = ["Compiled", "lane_steps"]

# fewer meta-steps are over before a program is compiled
LEAST_STEPS = 300
# bytes that a program works in, above which torch's own products are as fast
MOST_MEMORY = 2**25
MOST_ROWS = 2**31 - 1
# meta-steps drawn at once, and numbers of the rows that are copied for them
MOST_STEPS, MOST_NUMBERS, MOST_TASKS = 256, 4_000_000, 10_000
_logger = logging.getLogger("metaest.compile")


class Compiled(NamedTuple):
    """What takes the steps, or None for torch, and why."""

    steps: LaneSteps | None
    reason: str


def lane_steps(
    model: Any,
    plan: Plan,
    schedule: Schedule,
    source: Source,
    batches: Iterator[NDArray[np.intp]],
    settings: AdamW,
    params: Params,
    losses: Callable[[Params, tuple[Differentiated, Episodes]], Tensor],
) -> Compiled:
    """Compile the meta-steps of a fit where that is asked for, possible and worth its while."""
    if model.compile is False:
        _logger.info("meta-steps are not compiled: compile=False")
        return Compiled(None, "compile=False")
    reason = _refused(model, schedule, source)
    if reason is None:
        assert isinstance(source, (RegressionSource, ClassSource, PolicySource))
        try:
            made = _compiled(model, plan, schedule, source, batches, settings, params, losses)
            _logger.info("meta-steps are compiled: %s", made.reason)
            return made
        except (UnavailableError, UnsupportedError) as error:
            reason = str(error)
    level = logging.WARNING if model.compile is True else logging.INFO
    _logger.log(level, "meta-steps are not compiled: %s", reason)
    return Compiled(None, reason)


def _refused(model: Any, schedule: Schedule, source: Source) -> str | None:
    """Return why a fit is not compiled, as far as its settings tell."""
    if source.network.device.type != "cpu":
        return "lanes are a processor's"
    if schedule.first_order_until or schedule.multi_step_until:
        return "what is differentiated changes from one meta-step to the next"
    if len(source.tasks.X) > MOST_ROWS:
        return f"row numbers beyond {MOST_ROWS}"
    if model.compile == "auto" and model.max_iter < LEAST_STEPS:
        return f"{model.max_iter} meta-steps are too few to repay compiling ({LEAST_STEPS})"
    return None


def _compiled(
    model: Any,
    plan: Plan,
    schedule: Schedule,
    source: RegressionSource | ClassSource | PolicySource,
    batches: Iterator[NDArray[np.intp]],
    settings: AdamW,
    params: Params,
    losses: Callable[[Params, tuple[Differentiated, Episodes]], Tensor],
) -> Compiled:
    kind, one = schedule.end, alone(source.network.forward)
    if isinstance(source, ClassSource):
        shapes, draw = class_draws(source, batches)
        rows = min(model.meta_batch_size, MOST_TASKS) * (shapes.support.rows + shapes.query.rows)
        most_at_once = max(1, MOST_NUMBERS // (rows * (math.prod(shapes.features) + shapes.targets)))
    elif isinstance(source, PolicySource):
        (shapes, draw), most_at_once = policy_draws(source, batches), MOST_STEPS
    else:
        (shapes, draw), most_at_once = regression_draws(source, batches), MOST_STEPS
    # classes may be drawn for more episodes than there are tasks
    n_tasks = (
        model.meta_batch_size if isinstance(source, ClassSource) else min(model.meta_batch_size, len(source.tasks))
    )
    program = traced(lambda own, episodes: plan.losses(one, own, episodes, kind), params, shapes)
    steps = LaneSteps(
        program,
        settings,
        params,
        shapes,
        draw,
        lambda own, episodes: losses(own, (kind, episodes)),
        MOST_MEMORY if model.compile == "auto" else None,
        most_at_once,
        n_tasks,
    )
    return Compiled(steps, f"{steps.lanes} tasks at a time")
