"""The decision whether an equation is compiled: a rule of shapes and counts, never of a clock."""

from __future__ import annotations

import logging
import secrets
import threading
import weakref
from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.row_model import RowModel
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.fingerprint import digest
from metaest.functional import HierarchicalModel, Observations
from metaest.jit import (
    CompiledHierarchicalModel,
    CompiledRows,
    UnavailableError,
    UnsupportedError,
)
from metaest.jit.row_functions import Answers, called_by

__all__ = ["CompiledEquation", "agrees_with_torch", "compiled_for_adapting", "compiled_for_fit"]

# rows from which it is repaid within one adaptation of many tasks
LEAST_ADAPT_ROWS = 500_000
# programs of rows that are kept for further fits of the same equations
MOST_PROGRAMS = 64
# largest difference between the two, relative to the largest number
CLOSE = 1e-6
_logger = logging.getLogger("metaest.compile")
_lock = threading.Lock()
_row_programs: OrderedDict[str, CompiledRows] = OrderedDict()
# by the fitted equation, so that an entry ends with that and is no part of a pickle
_compiled: weakref.WeakKeyDictionary[FittedEquation, FittedEquation] = weakref.WeakKeyDictionary()


class CompiledEquation(NamedTuple):
    """The model of a fit, whether it is compiled, and why or why not."""

    model: HierarchicalModel
    compiled: bool
    reason: str


def _key(model: HierarchicalModel, n_features: int) -> str:
    """Return a hash of the equation with all that it reads; where there is none, one that never comes again."""
    try:
        told = [model.equation.function, list(model.equation.names), n_features, str(torch.get_default_dtype())]
        return digest(told)
    except Exception:  # whatever an object that the equation refers to does on being looked at
        return secrets.token_hex()


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
            compiled = _with_programs(model, initial, observations)
            _logger.info("the fit of the equation is compiled, vectorised over rows")
            return CompiledEquation(compiled, True, "compiled, vectorised over rows")
        except (UnavailableError, UnsupportedError) as error:
            reason = str(error)
    level = logging.WARNING if settings.compile is True else logging.INFO
    _logger.log(level, "the fit of the equation is not compiled: %s", reason)
    return CompiledEquation(model, False, reason)


def _with_programs(model: HierarchicalModel, initial: Tensor, observations: Observations) -> RowModel:
    """Return the model with programs of its rows, those of an earlier fit of the same equation where there are such."""
    n_features, weighted = observations.X.shape[1], observations.weight is not None
    noise = replace(model.noise, delta=0.0)  # a number of each fit
    key = digest([_key(model, n_features), model.transforms, noise, weighted])
    with _lock:
        programs = _row_programs.get(key)
        if programs is not None:
            programs = programs.with_answers(Answers(called_by(model, initial, observations.X[0])))
        if programs is not None:
            compiled = RowModel(model.equation, model.transforms, model.noise, programs=programs)
            if _agrees_at_start(compiled, initial, observations):
                _row_programs.move_to_end(key)
                return compiled
        programs = CompiledRows(model, initial, observations.X[0], weighted=weighted)
        compiled = RowModel(model.equation, model.transforms, model.noise, programs=programs)
        if not _agrees_at_start(compiled, initial, observations):
            raise UnsupportedError("the equation gives another result than it does in torch")
        _row_programs[key] = programs.without_answers()
        while len(_row_programs) > MOST_PROGRAMS:
            _row_programs.popitem(last=False)
    return compiled


def _agrees_at_start(compiled: RowModel, initial: Tensor, observations: Observations) -> bool:
    phi = initial[:, None].expand(-1, observations.y.shape[1])
    return agrees_with_torch(compiled, phi, initial.new_zeros(compiled.noise.n_constants), observations)


def agrees_with_torch(compiled: RowModel, phi: Tensor, log_sigma: Tensor, observations: Observations) -> bool:
    """Tell whether programs give what torch gives at every row: something they were made of may have changed.

    Parameters
    ----------
    compiled : RowModel
    phi : Tensor of shape (constants, tasks)
    log_sigma : Tensor of shape (noise constants,)
    observations : Observations
    """
    with torch.no_grad():
        value, expected = (model.information(phi, log_sigma, observations) for model in (compiled, compiled.plain()))
    for part, other in zip(value, expected, strict=True):
        scale = torch.nan_to_num(other, nan=0.0, posinf=0.0, neginf=0.0).abs().amax(dim=-1, keepdim=True)
        if not bool((((part - other).abs() <= CLOSE * (other.abs() + scale)) | ~torch.isfinite(other)).all()):
            return False
    return True


def _reason_against(settings: FitSettings, observations: Observations) -> str | None:
    if settings.by_gradient_steps:
        return "gradient steps of an equation are not compiled"
    if settings.outcome is not None:
        return f"programs of rows are of normal noise, and this is {settings.outcome.kind!r}"
    if settings.n_nodes > 1:
        return "quadrature (n_nodes) is evaluated by torch"
    if settings.noise_correlation is not None:
        return "programs evaluate rows one by one, and correlated residuals see each other (noise_correlation)"
    return None


def compiled_for_adapting(fitted: FittedEquation, setting: str | bool, n_rows: int) -> FittedEquation:
    """Return the same population, to be adapted from in machine code where that is asked for and worth its while."""
    wanted = setting is True or (setting == "auto" and n_rows >= LEAST_ADAPT_ROWS)
    if not wanted or fitted.by_gradient_steps or not fitted.model.noise.normal or fitted.model.equation.mode != "rows":
        return fitted
    with _lock:
        if fitted not in _compiled:
            _compiled[fitted] = replace(fitted, model=CompiledHierarchicalModel.of(fitted.model))
        return _compiled[fitted]
