"""Whether a fit or an adaptation runs as machine code; shapes and counts decide, timings do not."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.estimators.fingerprint import digest
from metaest.estimators.networks.adaptation import Adaptation, Differentiated, Schedule
from metaest.estimators.networks.episodes import Batches, EpisodeSampler
from metaest.estimators.networks.network import Network
from metaest.estimators.networks.settings import Settings
from metaest.functional import Episodes, ModuleForward, Params, Rows
from metaest.functional.modules.forward import alone
from metaest.functional.outer import AdamW
from metaest.jit import (
    CompiledAdaptation,
    CompiledMetaSteps,
    Stage,
    UnavailableError,
    UnsupportedError,
    is_permanent,
    padded_rows,
    trace_meta_loss,
)

__all__ = ["Compiled", "adapter_for", "adapts_compiled", "compiled_steps", "padded_support"]

# fits of fewer meta-steps end before compiling would have paid
LEAST_STEPS = 300
# bytes that a program works in, above which torch's own products are as fast
MOST_MEMORY = 2**25
# row numbers are 32-bit integers
MOST_ROWS = 2**31 - 1
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


def compiled_steps(
    settings: Settings,
    adaptation: Adaptation,
    schedule: Schedule,
    sampler: EpisodeSampler,
    batches: Batches,
    loop: AdamW,
    params: Params,
    losses: Callable[[Params, tuple[Differentiated, Episodes]], Tensor],
) -> Compiled:
    """Compile the meta-steps of a fit where that is asked for, possible and worth its while."""
    asked = settings.engine.compile
    if asked is False:
        _logger.info("meta-steps are not compiled: compile=False")
        return Compiled(None, "compile=False")
    reason = _refused(settings, adaptation, sampler)
    if reason is None:
        try:
            made = _compiled(asked, adaptation, schedule, sampler, batches, loop, params, losses)
            _logger.info("meta-steps are compiled: %s", made.reason)
            return made
        except (UnavailableError, UnsupportedError) as error:
            reason = str(error)
    level = logging.WARNING if asked is True else logging.INFO
    _logger.log(level, "meta-steps are not compiled: %s", reason)
    return Compiled(None, reason)


def _refused(settings: Settings, adaptation: Adaptation, sampler: EpisodeSampler) -> str | None:
    """Return why a fit is not compiled, as far as its settings tell."""
    if sampler.network.device.type != "cpu":
        return "compiled steps run on the CPU only"
    if not adaptation.compilable:
        return f"inner_solver={settings.inner.solver_name} cannot be compiled"
    if int(sampler.tasks.offsets[-1]) > MOST_ROWS:
        return f"row numbers beyond {MOST_ROWS}"
    max_iter = settings.outer.max_iter
    if settings.engine.compile == "auto" and max_iter < LEAST_STEPS:
        return f"{max_iter} meta-steps are too few to repay compiling ({LEAST_STEPS})"
    return None


def _compiled(
    asked: str | bool,
    adaptation: Adaptation,
    schedule: Schedule,
    sampler: EpisodeSampler,
    batches: Batches,
    loop: AdamW,
    params: Params,
    losses: Callable[[Params, tuple[Differentiated, Episodes]], Tensor],
) -> Compiled:
    """Trace the meta-loss of a task and compile what takes the steps."""
    one, loss = alone(sampler.network.forward), sampler.network.loss
    draws = sampler.draws(batches)

    def stage(steps: range) -> Stage:
        gradient, weights = schedule.at(steps[0])

        def of_one_task(meta: Params, episodes: Episodes, weights: Sequence[Tensor] | None) -> Tensor:
            return adaptation.losses(one, loss, meta, episodes, (gradient, weights))

        n_weights = 0 if weights is None else len(weights)
        program = trace_meta_loss(of_one_task, params, draws.shapes, n_weights)
        return Stage(program, steps, (lambda step: schedule.at(step)[1] or []) if n_weights else None)

    steps = CompiledMetaSteps(
        [stage(steps) for steps in schedule.stages(loop.max_iter)],
        loop,
        params,
        draws.shapes,
        draws.draw,
        lambda meta, drawn: losses(meta, (schedule.at(drawn[0]), drawn[1])),
        MOST_MEMORY if asked == "auto" else None,
        draws.most_at_once,
        draws.n_tasks,
    )
    return Compiled(steps, f"{steps.lanes} tasks at a time")


def adapts_compiled(setting: str | bool, n_tasks: int) -> bool:
    """Tell whether so many tasks are adapted in machine code: a matter of their number, so that bits do not change."""
    return setting is True or (setting == "auto" and n_tasks >= LEAST_TASKS)


def adapter_for(
    network: Network, adaptation: Adaptation, meta: Params, n_rows: int, like: Rows
) -> CompiledAdaptation | None:
    """Return what adapts to supports of up to so many rows, or None where only torch can."""
    solver = adaptation.solver(meta)
    if not solver.compilable or network.device.type != "cpu":
        return None
    # rates of a solver of the user's may be tensors, which cannot be compared by ==
    given = None if adaptation.solver_object is None else digest(adaptation.solver_object)
    key = padded_rows(n_rows), replace(adaptation, solver_object=None), given
    made = _adapters.get(network.forward, {}).get(key)
    if made is not None and made[0] is meta:  # whoever has a program does not wait for another to be compiled
        return made[1]
    with _lock:
        programs = _adapters.setdefault(network.forward, {})
        if key in programs and programs[key][0] is meta:
            return programs[key][1]
        adapter = None
        try:
            adapter = CompiledAdaptation(network.forward, network.loss, solver, adaptation.start(meta), key[0], like)
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
    more = n_rows - support.mask.shape[1]
    if not more:
        return support
    X, y = (torch.cat([part, part[:, :1].expand(-1, more, *part.shape[2:])], dim=1) for part in support[:2])
    return Rows(X, y, torch.cat([support.mask, support.mask.new_zeros(len(support.mask), more)], dim=1))
