"""Whether an equation is compiled: a rule of shapes and counts, never of a clock."""

from __future__ import annotations

import logging
import threading
import weakref
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equations.fitted import Calibrated
from metaest.functional import GaussNewton, HierarchicalModel, Observations
from metaest.jit import CompiledHierarchicalModel, UnavailableError, UnsupportedError

__all__ = ["CompiledEquation", "in_lanes", "lane_model"]

# rows from which compiling is repaid within one fit, and within one adaptation of many tasks
LEAST_FIT, LEAST_ADAPT = 50_000, 500_000
_logger = logging.getLogger("metaest.compile")
_lock = threading.Lock()
# by what it was fitted to, so that it ends with that and is no part of a pickle
_served: weakref.WeakKeyDictionary[Calibrated, Calibrated] = weakref.WeakKeyDictionary()


class CompiledEquation(NamedTuple):
    """The model of a fit, whether it is compiled, and why or why not."""

    model: HierarchicalModel
    compiled: bool
    reason: str


def lane_model(
    settings: Any, model: HierarchicalModel, initial: Tensor, n_random: int, observations: Observations
) -> CompiledEquation:
    """Compile the equation for a fit where that is asked for, possible and worth its while."""
    if settings.compile is False:
        _logger.info("the fit of the equation is not compiled: compile=False")
        return CompiledEquation(model, False, "compile=False")
    reason = _refused(settings, observations)
    if reason is None:
        try:
            lanes = CompiledHierarchicalModel.of(model)
            few = observations.take(torch.arange(min(8, observations.y.shape[1])))
            phi = initial[:, None].expand(-1, few.y.shape[1]).contiguous()
            factor, log_sigma = initial.new_zeros(len(initial), n_random), initial.new_zeros(model.noise.n_constants)
            lanes.prepare(phi, factor, log_sigma, few._replace(full=observations.full))
            _logger.info("the fit of the equation is compiled, vectorised over tasks")
            return CompiledEquation(lanes, True, "compiled, vectorised over tasks")
        except (UnavailableError, UnsupportedError) as error:
            reason = str(error)
    level = logging.WARNING if settings.compile is True else logging.INFO
    _logger.log(level, "the fit of the equation is not compiled: %s", reason)
    return CompiledEquation(model, False, reason)


def _refused(settings: Any, observations: Observations) -> str | None:
    if settings.inner_solver == "gradient":
        return "gradient steps of an equation are not compiled"
    rows = observations.y.numel()
    if settings.compile == "auto" and rows < LEAST_FIT:
        return f"{rows} rows are too few to repay compiling ({LEAST_FIT})"
    return None


def in_lanes(calibrated: Calibrated, setting: str | bool, n_rows: int) -> Calibrated:
    """Return the same population, to be adapted from in machine code where that is asked for and worth its while."""
    wanted = setting is True or (setting == "auto" and n_rows >= LEAST_ADAPT)
    if not wanted or not isinstance(calibrated.solver, GaussNewton) or calibrated.model.equation.mode != "rows":
        return calibrated
    with _lock:
        if calibrated not in _served:
            _served[calibrated] = replace(calibrated, model=CompiledHierarchicalModel.of(calibrated.model))
        return _served[calibrated]
