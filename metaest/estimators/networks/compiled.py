"""When a fit or an adaptation runs as machine code: a rule of shapes and counts, never of a clock."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.networks.adaptation import Adaptation, Differentiated, Schedule
from metaest.estimators.networks.classification import ClassSampler, class_draws
from metaest.estimators.networks.episodes import EpisodeSampler
from metaest.estimators.networks.network import Network
from metaest.estimators.networks.policies import PolicySampler, policy_draws
from metaest.estimators.networks.regression import RegressionSampler, regression_draws
from metaest.functional import Episodes, ModuleForward, Params, Rows
from metaest.functional.modules.forward import alone
from metaest.functional.outer import AdamW
from metaest.jit import (
    CompiledAdaptation,
    CompiledMetaSteps,
    UnavailableError,
    UnsupportedError,
    is_permanent,
    padded_rows,
    trace_meta_loss,
)

__all__ = ["Compiled", "adapter_for", "adapts_compiled", "lane_steps", "padded_support"]

# fewer meta-steps are over before a program is compiled
LEAST_STEPS = 300
# bytes that a program works in, above which torch's own products are as fast
MOST_MEMORY = 2**25
MOST_ROWS = 2**31 - 1
# meta-steps drawn at once, and numbers of the rows that are copied for them
MOST_STEPS, MOST_NUMBERS, MOST_TASKS = 256, 4_000_000, 10_000
# tasks adapted in one call from which compiling is repaid
LEAST_TASKS = 2000
# programs that are held for a network, by size of support and settings; the one made longest ago makes room
MOST_PROGRAMS = 32
_lock = threading.Lock()
# by the network they are of, so that they end with it and are no part of a pickle
_adapters: weakref.WeakKeyDictionary[ModuleForward, dict[Any, tuple[Params, CompiledAdaptation | None]]]
_adapters = weakref.WeakKeyDictionary()
_logger = logging.getLogger("metaest.compile")


class Compiled(NamedTuple):
    """What takes the steps, or None for torch, and why."""

    steps: CompiledMetaSteps | None
    reason: str


def lane_steps(
    model: Any,
    plan: Adaptation,
    schedule: Schedule,
    source: EpisodeSampler,
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
        assert isinstance(source, (RegressionSampler, ClassSampler, PolicySampler))
        try:
            made = _compiled(model, plan, schedule, source, batches, settings, params, losses)
            _logger.info("meta-steps are compiled: %s", made.reason)
            return made
        except (UnavailableError, UnsupportedError) as error:
            reason = str(error)
    level = logging.WARNING if model.compile is True else logging.INFO
    _logger.log(level, "meta-steps are not compiled: %s", reason)
    return Compiled(None, reason)


def _refused(model: Any, schedule: Schedule, source: EpisodeSampler) -> str | None:
    """Return why a fit is not compiled, as far as its settings tell."""
    if source.network.device.type != "cpu":
        return "compiled steps run on the CPU only"
    if schedule.first_order_until or schedule.multi_step_until:
        return "what is differentiated changes from one meta-step to the next"
    if len(source.tasks.X) > MOST_ROWS:
        return f"row numbers beyond {MOST_ROWS}"
    if model.compile == "auto" and model.max_iter < LEAST_STEPS:
        return f"{model.max_iter} meta-steps are too few to repay compiling ({LEAST_STEPS})"
    return None


def _compiled(
    model: Any,
    plan: Adaptation,
    schedule: Schedule,
    source: RegressionSampler | ClassSampler | PolicySampler,
    batches: Iterator[NDArray[np.intp]],
    settings: AdamW,
    params: Params,
    losses: Callable[[Params, tuple[Differentiated, Episodes]], Tensor],
) -> Compiled:
    kind, one = schedule.end, alone(source.network.forward)
    if isinstance(source, ClassSampler):
        shapes, draw = class_draws(source, batches)
        rows = min(model.meta_batch_size, MOST_TASKS) * (shapes.support.rows + shapes.query.rows)
        most_at_once = max(1, MOST_NUMBERS // (rows * (math.prod(shapes.features) + shapes.targets)))
    elif isinstance(source, PolicySampler):
        (shapes, draw), most_at_once = policy_draws(source, batches), MOST_STEPS
    else:
        (shapes, draw), most_at_once = regression_draws(source, batches), MOST_STEPS
    # classes may be drawn for more episodes than there are tasks
    n_tasks = (
        model.meta_batch_size if isinstance(source, ClassSampler) else min(model.meta_batch_size, len(source.tasks))
    )
    program = trace_meta_loss(lambda own, episodes: plan.losses(one, own, episodes, kind), params, shapes)
    steps = CompiledMetaSteps(
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


def adapts_compiled(setting: str | bool, n_tasks: int) -> bool:
    """Tell whether so many tasks are adapted in machine code: a matter of their number, so that bits do not change."""
    return setting is True or (setting == "auto" and n_tasks >= LEAST_TASKS)


def adapter_for(network: Network, plan: Adaptation, meta: Params, n_rows: int, like: Rows) -> CompiledAdaptation | None:
    """Return what adapts to supports of up to so many rows, or None where only torch can."""
    solver = plan.solver(meta)
    if not solver.compilable or network.device.type != "cpu":
        return None
    key = (padded_rows(n_rows), plan)
    made = _adapters.get(network.forward, {}).get(key)
    if made is not None and made[0] is meta:  # whoever has a program does not wait for another to be compiled
        return made[1]
    with _lock:
        programs = _adapters.setdefault(network.forward, {})
        if key in programs and programs[key][0] is meta:
            return programs[key][1]
        adapter = None
        try:
            adapter = CompiledAdaptation(network.forward, network.loss, solver, plan.start(meta), key[0], like)
        except (UnavailableError, UnsupportedError) as error:
            _logger.warning("adaptation is not compiled: %s", error)
            if not is_permanent(error):
                return None
        programs.pop(key, None)
        while len(programs) >= MOST_PROGRAMS:
            del programs[next(iter(programs))]
        programs[key] = (meta, adapter)
        return adapter


def padded_support(support: Rows, n_rows: int) -> Rows:
    """Return support rows padded to so many, by repeating the first of each task."""
    more = n_rows - support.X.shape[1]
    if not more:
        return support
    X, y = (torch.cat([own, own[:, :1].expand(-1, more, *own.shape[2:])], dim=1) for own in support[:2])
    return Rows(X, y, torch.cat([support.mask, support.mask.new_zeros(len(support.mask), more)], dim=1))
