"""A hierarchical model whose evaluations and MAP searches are compiled, vectorised over tasks."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from metaest.functional import GaussNewton, HierarchicalModel, Noise, Observations, SolveCode
from metaest.functional.equations.gauss_newton import MapResult
from metaest.functional.equations.hierarchical import Information
from metaest.functional.generator import undrawn
from metaest.jit.errors import UnavailableError, UnsupportedError, is_permanent
from metaest.jit.function import padded_rows
from metaest.jit.map_search import CompiledMapSearch

__all__ = ["CompiledHierarchicalModel"]

# tasks on which compiled code is compared with torch
CHECKED = 8
# largest difference between the two, relative to the largest number
CLOSE = 1e-6
# distances by which constants are moved from where a search begins, to see which slopes may be NaN: in units of the
# scale on which bounded ones are searched, in units of their size for the others
AWAY = (0.0, -1.0, 1.0, -3.0, 3.0)
_logger = logging.getLogger("metaest.compile")
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class CompiledHierarchicalModel(HierarchicalModel):
    """A hierarchical model that runs compiled code where no gradient is needed; torch does the rest, and what fails.

    A program is compiled for each number of rows; rows are padded so that there are few of these. Its results for the
    first tasks are compared with torch's.
    """

    programs: dict[Any, CompiledMapSearch | None] = field(default_factory=dict, init=False, repr=False)

    def plain(self) -> HierarchicalModel:
        """Return the same model without compiled code."""
        return HierarchicalModel(self.equation, self.transforms, self.noise)

    @classmethod
    def of(cls, model: HierarchicalModel) -> CompiledHierarchicalModel:
        """Return a model of the same equation.

        Raises
        ------
        UnsupportedError
            Where rows see each other.
        """
        if model.equation.mode != "rows":
            raise UnsupportedError("the equation's rows see each other")
        return cls(model.equation, model.transforms, model.noise)

    def __getstate__(self) -> dict[str, Any]:
        # machine code is not pickled
        return {**self.__dict__, "programs": {}}

    def _arranged(self, observations: Observations) -> Observations:
        """Return the rows as programs take them: padded, and in the order of time where residuals correlate in it."""
        correlation = self.noise.correlation
        order = None if correlation is None else correlation.order(observations)
        return _padded(observations if order is None else observations.arranged(order))

    def prepare(self, phi: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations) -> None:
        """Compile the program for such tasks, so that a failure shows before the program is needed.

        Raises
        ------
        UnsupportedError, UnavailableError
            When it cannot be compiled.
        """
        padded, first = self._arranged(observations), torch.tensor([0])
        if self.programs.get(_shape(padded)) is None:
            # a program does not look at numbers: it is told which slopes may be NaN where they should be 0
            still = _flat(self, phi, padded)
            model = replace(self.plain(), equation=replace(self.equation, still=still), noise=_in_order(self.noise))
            program = CompiledMapSearch(model, phi[:, first], factor, log_sigma, padded.take(first))
            _compare(self.plain(), program, phi, log_sigma, padded)
            self.programs[_shape(padded)] = program

    def _program(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, padded: Observations
    ) -> CompiledMapSearch | None:
        """Return the program for tasks of such a shape, made when it is first asked for; None where torch has to."""
        shape = _shape(padded)
        if shape in self.programs:  # whoever has a program does not wait for another to be compiled
            return self.programs[shape]
        with _lock:
            if shape not in self.programs:
                try:
                    self.prepare(center, factor, log_sigma, padded)
                except (UnavailableError, UnsupportedError) as error:
                    _logger.warning("the equation is not compiled for %d rows: %s", len(padded.y), error)
                    if not is_permanent(error):
                        return None
                    self.programs[shape] = None
            return self.programs[shape]

    def information(
        self, phi: Tensor, log_sigma: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> Information:
        """Return what the base class does; compiled where a program for such tasks exists and no gradient is needed."""
        padded = self._arranged(observations)
        program = None if differentiable else self.programs.get(_shape(padded))
        if program is not None:
            result = program.informed(phi, log_sigma, padded)
            if bool(torch.isfinite(result.gradient).all()):
                return result
        return super().information(phi, log_sigma, observations, differentiable=differentiable)

    def posterior_at(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, u: Tensor
    ) -> Information:
        """Return what the base class does; compiled where a program for such tasks exists."""
        padded = self._arranged(observations)
        program = self.programs.get(_shape(padded))
        if program is not None and program.m == len(u):
            result = program.curved(center, factor, log_sigma, padded, u)
            if bool(torch.isfinite(result.gradient).all()):
                return result
        return super().posterior_at(center, factor, log_sigma, observations, u)

    def losses_at(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, points: Tensor
    ) -> Tensor:
        """Return what the base class does; compiled where a program for such tasks exists."""
        padded = self._arranged(observations)
        program = self.programs.get(_shape(padded))
        if program is None:
            return super().losses_at(center, factor, log_sigma, observations, points)
        tasks, n = center.shape[1], points.shape[1]
        repeated = torch.arange(tasks).repeat_interleave(n)
        phi = center[:, repeated] + factor @ points.repeat(1, tasks)
        return program.informed(phi, log_sigma, padded.take(repeated)).loss.reshape(tasks, n)

    def searched(
        self, solver: Any, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, u: Tensor
    ) -> MapResult | None:
        """Search with compiled code; return None where torch has to."""
        if not len(u) or type(solver) is not GaussNewton:
            return None
        padded = self._arranged(observations)
        program = self._program(center, factor, log_sigma, padded)
        if program is None or program.m != len(u):
            return None
        settings = solver.max_iter, solver.newton_after, solver.tol
        result = program.solve(*settings, center, factor, log_sigma, padded, u)
        lost = torch.nonzero(result.code == SolveCode.NOT_FINITE)[:, 0]
        if len(lost):
            again = solver.solve(self.plain(), center[:, lost], factor, log_sigma, observations.take(lost), u[:, lost])
            for part, other in zip(result, again, strict=True):
                part[..., lost] = other
        return result


def _flat(model: HierarchicalModel, phi: Tensor, observations: Observations) -> tuple[int, ...]:
    """Return the indices of constants whose slope is NaN in some row, at `phi` or at points that a search may pass.

    Points at which the equation fails are left out: the search leaves them, too.
    """
    few = torch.arange(min(CHECKED, phi.shape[1]))
    at, some = phi[:, few], observations.take(few)
    indices: set[int] = set()
    with undrawn():
        for away in AWAY:
            for k, kind in enumerate(model.transforms.kinds):
                moved = at.clone()
                moved[k] += away * (1.0 if kind != "identity" else at[k].abs())
                with contextlib.suppress(Exception):  # whatever a user's equation may raise
                    indices.update(model.equation.flat(model.transforms.constrain(moved), some))
    return tuple(sorted(indices))


def _in_order(noise: Noise) -> Noise:
    """Return the noise of rows that stand in the order of time, which a program cannot look at."""
    if noise.correlation is None:
        return noise
    return replace(noise, correlation=replace(noise.correlation, sorted=True))


def _shape(padded: Observations) -> tuple[int, int, bool, bool]:
    return len(padded.y), padded.X.shape[1], padded.full, padded.weight is not None


def _padded(observations: Observations) -> Observations:
    """Return the same rows, padded to one of a few numbers of rows."""
    rows, tasks = observations.y.shape
    more = padded_rows(rows) - rows
    if not more:
        return observations
    X = observations.X.T.reshape(-1, rows, tasks)
    X = torch.cat([X, X[:, -1:].expand(-1, more, -1)], dim=1)
    y = torch.cat([observations.y, observations.y[-1:].expand(more, -1)])
    mask = torch.cat([observations.mask, observations.mask.new_zeros(more, tasks)])
    weight = observations.weight
    if weight is not None:
        weight = torch.cat([weight, weight[:1].expand(more, -1)])
    return Observations(X.reshape(len(X), -1).T, y, mask, False, weight)


def _compare(
    model: HierarchicalModel, program: CompiledMapSearch, phi: Tensor, log_sigma: Tensor, observations: Observations
) -> None:
    few = torch.arange(min(CHECKED, phi.shape[1]))
    some, at = observations.take(few), phi[:, few]
    compiled, eager = program.informed(at, log_sigma, some), model.information(at, log_sigma, some)
    for value, expected in zip(compiled, eager, strict=True):
        scale = torch.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0).abs().max()
        if not torch.allclose(value, expected, rtol=CLOSE, atol=float(CLOSE * scale), equal_nan=True):
            raise UnsupportedError("the equation gives another result than it does in torch")
