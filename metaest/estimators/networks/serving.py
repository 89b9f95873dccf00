"""Adaptation at serving time: compiled once for a size of support, then used for every task of that size."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

import torch

from metaest.estimators.networks.adaptation import Plan
from metaest.estimators.networks.network import Network
from metaest.functional import GradientDescent, ModuleForward, Params, Rows
from metaest.jit import LaneAdapter, UnavailableError, UnsupportedError, lasts, padded_rows

__all__ = ["adapter_for", "adapts_compiled", "padded_support"]

# tasks adapted in one call from which compiling is repaid
LEAST_TASKS = 2000
# programs that are held for a network, by size of support and settings; the one made longest ago makes room
MOST_PROGRAMS = 32
_logger = logging.getLogger("metaest.compile")
_lock = threading.Lock()
# by the network they are of, so that they end with it and are no part of a pickle
_adapters: weakref.WeakKeyDictionary[ModuleForward, dict[Any, tuple[Params, LaneAdapter | None]]]
_adapters = weakref.WeakKeyDictionary()


def adapts_compiled(setting: str | bool, n_tasks: int) -> bool:
    """Tell whether so many tasks are adapted in machine code: a matter of their number, so that bits do not change."""
    return setting is True or (setting == "auto" and n_tasks >= LEAST_TASKS)


def adapter_for(network: Network, plan: Plan, meta: Params, n_rows: int, like: Rows) -> LaneAdapter | None:
    """Return what adapts to supports of up to so many rows, or None where only torch can."""
    solver = plan.solver(meta)
    if not isinstance(solver, GradientDescent) or not solver.steps or network.device.type != "cpu":
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
            adapter = LaneAdapter(network.forward, network.loss, solver, plan.start(meta), key[0], like)
        except (UnavailableError, UnsupportedError) as error:
            _logger.warning("adaptation is not compiled: %s", error)
            if not lasts(error):
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
