"""Whether a fit takes its meta-steps in machine code: a rule of shapes and counts, never of a clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.episodes import RegressionSource, Source
from metaest.estimators.plan import Plan
from metaest.estimators.schedule import Differentiated, Schedule
from metaest.functional import AdamW, Episodes, Params, alone
from metaest.lanes import (
    ORDERED,
    Draws,
    LaneSteps,
    Shapes,
    Side,
    UnavailableError,
    UnsupportedError,
    ordered,
    traced,
)
from metaest.tasks import Split, order_rows, widths

__all__ = ["Compiled", "lane_steps"]

# fewer meta-steps are over before a program is compiled
LEAST_STEPS = 300
# bytes that a program works in, above which torch's own products are as fast
MOST_MEMORY = 2**25
MOST_ROWS = 2**31 - 1
_logger = logging.getLogger("metaest")


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
        return Compiled(None, "compile=False")
    reason = _refused(model, schedule, source)
    if reason is None:
        assert isinstance(source, RegressionSource)
        try:
            return _compiled(model, plan, schedule, source, batches, settings, params, losses)
        except (UnavailableError, UnsupportedError) as error:
            reason = str(error)
    level = logging.WARNING if model.compile is True else logging.INFO
    _logger.log(level, "meta-steps are not compiled: %s", reason)
    return Compiled(None, reason)


def _refused(model: Any, schedule: Schedule, source: Source) -> str | None:
    """Return why a fit is not compiled, as far as its settings tell."""
    if not isinstance(source, RegressionSource):
        return "classes of a task are not compiled yet"
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
    source: RegressionSource,
    batches: Iterator[NDArray[np.intp]],
    settings: AdamW,
    params: Params,
    losses: Callable[[Params, tuple[Differentiated, Episodes]], Tensor],
) -> Compiled:
    kind, one = schedule.end, alone(source.network.forward)
    support, query = widths(source.tasks, source.support_size, source.split)
    X, y = source.standardised
    shapes = Shapes(Side(support[1], support[0] != support[1]), Side(query[1], query[0] != query[1]),
                    tuple(X.shape[1:]), y.shape[1])  # fmt: skip
    program = traced(lambda own, episodes: plan.losses(one, own, episodes, kind), params, shapes)

    def draw(count: int) -> Draws:
        drawn = source.draw_batches(batches, count)
        if source.tasks._support is None and drawn.keys.shape[1] <= ORDERED:
            sizes, starts = source.tasks.sizes[drawn.chosen], source.tasks.offsets[drawn.chosen]
            return ordered(drawn.keys, sizes, starts, drawn.n_support, count, support[1], query[1])
        return _draws(order_rows(source.tasks, drawn), count, support[1], query[1])

    most = MOST_MEMORY if model.compile == "auto" else None
    steps = LaneSteps(
        program, settings, params, (X, y), shapes, draw, lambda own, episodes: losses(own, (kind, episodes)), most
    )
    return Compiled(steps, f"{steps.lanes} tasks at a time")


def _draws(split: Split, count: int, n_support: int, n_query: int) -> Draws:
    """Return the rows of so many meta-steps, each padded to the same length."""

    def padded(own: NDArray[np.intp], length: int) -> NDArray[np.int32]:
        found: NDArray[np.int32] = np.empty((count, len(own) // count, length), dtype=np.int32)
        rows = found.reshape(-1, length)
        rows[:, : own.shape[1]] = own
        rows[:, own.shape[1] :] = own[:, :1]
        return found

    def counts(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        found: NDArray[np.int32] = mask.sum(axis=1, dtype=np.int32).reshape(count, -1)
        return found

    return Draws(
        padded(split.support, n_support),
        counts(split.support_mask),
        padded(split.query, n_query),
        counts(split.query_mask),
    )
