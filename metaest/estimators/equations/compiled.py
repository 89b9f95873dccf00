"""The decision whether an equation is compiled: a rule of shapes and counts, never of a clock."""

from __future__ import annotations

import logging
import threading
import weakref
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.settings import FitSettings
from metaest.functional import HierarchicalModel, Observations
from metaest.jit import CompiledHierarchicalModel, UnavailableError, UnsupportedError

__all__ = ["CompiledEquation", "compiled_for_adapting", "compiled_for_fit"]

# rows from which compiling is repaid within one fit, with compile="auto"
LEAST_FIT_ROWS = 50_000
# rows from which it is repaid within one adaptation of many tasks
LEAST_ADAPT_ROWS = 500_000
# tasks that the compiler sees as an example
EXAMPLE_TASKS = 8
_logger = logging.getLogger("metaest.compile")
_lock = threading.Lock()
# by the fitted equation, so that an entry ends with that and is no part of a pickle
_compiled: weakref.WeakKeyDictionary[FittedEquation, FittedEquation] = weakref.WeakKeyDictionary()


class CompiledEquation(NamedTuple):
    """The model of a fit, whether it is compiled, and why or why not."""

    model: HierarchicalModel
    compiled: bool
    reason: str


def compiled_for_fit(
    settings: FitSettings, model: HierarchicalModel, initial: Tensor, n_random: int, observations: Observations
) -> CompiledEquation:
    """Compile the equation for a fit where that is asked for, possible and worth its while."""
    if settings.compile is False:
        _logger.info("the fit of the equation is not compiled: compile=False")
        return CompiledEquation(model, False, "compile=False")
    reason = _reason_against(settings, observations)
    if reason is None:
        try:
            compiled = CompiledHierarchicalModel.of(model)
            few = observations.take(torch.arange(min(EXAMPLE_TASKS, observations.y.shape[1])))
            phi = initial[:, None].expand(-1, few.y.shape[1]).contiguous()
            factor, log_sigma = initial.new_zeros(len(initial), n_random), initial.new_zeros(model.noise.n_constants)
            compiled.prepare(phi, factor, log_sigma, few._replace(full=observations.full))
            _logger.info("the fit of the equation is compiled, vectorised over tasks")
            return CompiledEquation(compiled, True, "compiled, vectorised over tasks")
        except (UnavailableError, UnsupportedError) as error:
            reason = str(error)
    level = logging.WARNING if settings.compile is True else logging.INFO
    _logger.log(level, "the fit of the equation is not compiled: %s", reason)
    return CompiledEquation(model, False, reason)


def _reason_against(settings: FitSettings, observations: Observations) -> str | None:
    if settings.by_gradient_steps:
        return "gradient steps of an equation are not compiled"
    rows = observations.y.numel()
    if settings.compile == "auto" and rows < LEAST_FIT_ROWS:
        return f"{rows} rows are too few to repay compiling ({LEAST_FIT_ROWS})"
    return None


def compiled_for_adapting(fitted: FittedEquation, setting: str | bool, n_rows: int) -> FittedEquation:
    """Return the same population, to be adapted from in machine code where that is asked for and worth its while."""
    wanted = setting is True or (setting == "auto" and n_rows >= LEAST_ADAPT_ROWS)
    if not wanted or fitted.by_gradient_steps or fitted.model.equation.mode != "rows":
        return fitted
    with _lock:
        if fitted not in _compiled:
            _compiled[fitted] = replace(fitted, model=CompiledHierarchicalModel.of(fitted.model))
        return _compiled[fitted]
