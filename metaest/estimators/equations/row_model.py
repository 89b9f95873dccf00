r"""A hierarchical model whose rows are evaluated in machine code; the rest of a fit's inner work is numpy.

The evidence of a task (Laplace's approximation; see `metaest.functional.equations.evidence`) and its gradient need of a
row no more than the loss, the curve, and their first and second derivatives. With :math:`g` and :math:`T` the gradient
and the true second derivative of the rows' loss in the constants :math:`\varphi = c + A u`, :math:`G` the expected
second derivative, :math:`H = I + A^\top G A`, :math:`K = I + A^\top T A`, :math:`P = H^{-1}` and :math:`q` the gradient
of :math:`\tfrac12 \log\det H` in :math:`\varphi`,

.. math::

    v = K^{-1} A^\top q, \qquad z = \frac{\partial L}{\partial c} = g + q - T A v, \qquad
    \frac{\partial L}{\partial A} = z u^\top + G A P - g v^\top,

at the most probable u, which follows the population (implicit function theorem).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators import matrices
from metaest.estimators.equations.search_steps import NumpySearchState, accept, propose, store
from metaest.functional import GaussNewton, HierarchicalModel, Observations, SolveCode
from metaest.functional.equations.equation import BEND, SHIFT, SMALLEST
from metaest.functional.equations.gauss_newton import MapResult
from metaest.functional.equations.hierarchical import Information, Point
from metaest.jit.row_search import CompiledRowSearch, SearchRows
from metaest.jit.rows import CompiledRows, RowData

__all__ = ["Evidence", "RowModel"]

Array = NDArray[np.float64]

# squared length of the next step, in units of the posterior, below which the evidence is taken where the search is:
# its error is half of that
AT_MAXIMUM = 1e-12
# Newton steps by which the evidence is brought there
POLISHING = 4
# squared length of a step from which Newton's steps are as safe as those of Gauss and Newton
NEAR = 1.0
# share of the tasks that are searched, below which the others are left out
FEW = 1 / 3
# rows that are worked on at a time: what is computed of them stays in a processor's cache
BLOCK_ROWS = 4096
# rows of the padded table over real rows, above which tasks are not searched in one call
MOST_PADDING = 4
# tolerance of searches in one call over that of searches whose last steps are Newton's, which leave a smaller error
SHARPER = 1e-4
# steps of Gauss and Newton that this takes more
MORE_STEPS = 4
# sets of rows that are kept in the form that the programs take
MOST_SETS = 8
# rows, padding included, up to which a set is kept that only a search in one call has asked for
MOST_KEPT = 100_000


# members of an enumeration are slow to look up
UNFINISHED = int(SolveCode.MAX_ITER)
NOT_FINITE = int(SolveCode.NOT_FINITE)


class Evidence(NamedTuple):
    """The negative log-evidence and its gradient.

    Attributes
    ----------
    loss : ndarray of shape (tasks,)
    u : ndarray of shape (random, tasks)
        The most probable deviations.
    center : ndarray of shape (constants, tasks)
        Derivative of each task's loss in its prior centre.
    factor : ndarray of shape (constants, random)
        Derivative of the sum.
    log_sigma : ndarray of shape (noise constants,)
    """

    loss: Array
    u: Array
    center: Array
    factor: Array
    log_sigma: Array


class _Flat(NamedTuple):
    """The rows of tasks, one task after the other."""

    data: RowData
    task: NDArray[np.intp]
    starts: NDArray[np.intp]

    def take(self, tasks: NDArray[np.intp]) -> "_Flat":
        counts = np.diff(np.append(self.starts, len(self.task)))[tasks]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        number = np.repeat(np.arange(len(tasks)), counts)
        rows = np.arange(len(number)) - starts[number] + self.starts[tasks][number]
        return _Flat(self.data.take(rows), number, starts)

    def sums(self, values: Array) -> Array:
        """Return the sums over the rows of each task, along the last axis."""
        return np.add.reduceat(values, self.starts, axis=-1)


@dataclass(eq=False)
class _Set:
    """Observations in the forms that the programs take, each made when it is first asked for."""

    given: Observations

    def holds(self, observations: Observations) -> bool:
        """Tell whether these are the same observations."""
        mine, theirs = self.given, observations
        return mine.X is theirs.X and mine.y is theirs.y and mine.mask is theirs.mask and mine.weight is theirs.weight

    @cached_property
    def blocks(self) -> list[tuple[slice, _Flat]] | None:
        """The rows without padding, some tasks at a time; None where a task has none."""
        observations = self.given
        real = (observations.mask.T > 0).numpy()
        counts = real.sum(axis=1)
        if not counts.all():
            return None
        columns = observations.X.T.reshape(-1, *observations.y.shape).transpose(1, 2).numpy()
        weight = None if observations.weight is None else observations.weight.T.numpy()[real][None]
        data = RowData(np.ascontiguousarray(columns[:, real]), observations.y.T.numpy()[real][None], weight)
        return _blocks(data, counts)

    @cached_property
    def padded(self) -> bool:
        """Whether most rows are padding."""
        mask = self.given.mask
        return mask.numel() > MOST_PADDING * float(mask.sum())

    @cached_property
    def searched(self) -> dict[CompiledRowSearch, SearchRows]:
        """The rows as a search in one call takes them."""
        return {}


class _Sums(NamedTuple):
    """What the rows of each task say about its constants.

    Attributes
    ----------
    loss : ndarray of shape (tasks,)
    gradient : ndarray of shape (constants, tasks)
    matrix, curvature : ndarray of shape (constants, constants, tasks)
        Expected and true second derivative; the latter is None where it was not asked for.
    rows : ndarray
        What the program returned.
    """

    loss: Array
    gradient: Array
    matrix: Array
    curvature: Array | None
    rows: Array


@dataclass(frozen=True, eq=False)
class RowModel(HierarchicalModel):
    """A hierarchical model with a program of its rows.

    Parameters
    ----------
    programs : CompiledRows
    """

    programs: CompiledRows = field(kw_only=True, repr=False)
    _sets: dict[int, _Set] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _of_programs(self) -> bool:
        """Tell whether the noise is the one that the programs were made for."""
        return replace(self.noise, delta=0.0) == replace(self.programs.noise, delta=0.0)

    @cached_property
    def _lower(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the lower half of a matrix of constants."""
        p = len(self.equation.names)
        return np.tril_indices(p)

    @cached_property
    def _entries(self) -> NDArray[np.intp]:
        """Where the entries of a symmetric matrix stand in its lower half."""
        p, lower = len(self.equation.names), self._lower
        table = np.zeros((p, p), dtype=np.intp)
        table[lower] = np.arange(len(lower[0]))
        return np.maximum(table, table.T)

    def plain(self) -> HierarchicalModel:
        """Return the same model without compiled code."""
        return HierarchicalModel(self.equation, self.transforms, self.noise)

    def __reduce__(self) -> Any:
        # machine code is not pickled
        return HierarchicalModel, (self.equation, self.transforms, self.noise)

    # ---------------------------------------------------------------- rows

    def blocks(self, observations: Observations) -> list[tuple[slice, _Flat]] | None:
        """Return the rows without padding, some tasks at a time; None where a task has none."""
        return self._set(observations).blocks

    def _set(self, observations: Observations, most: float = np.inf) -> _Set:
        """Return the forms of some rows, those of an earlier call where it had the same; up to `most` are kept."""
        key = id(observations.y)
        kept = self._sets.get(key)
        if kept is not None and kept.holds(observations):
            return kept
        new = _Set(observations)
        if observations.y.numel() <= most:
            if len(self._sets) >= MOST_SETS:
                self._sets.clear()
            self._sets[key] = new
        return new

    def _takes(self, weight: Any) -> bool:
        """Tell whether the programs have the noise of this model, and the weights of the rows."""
        return self._of_programs and (weight is None or self.programs.weighted)

    def _noise(self, log_sigma: Tensor) -> Array:
        constants = np.empty(log_sigma.shape[0] + 1)
        constants[:-1] = log_sigma.detach().numpy()
        constants[-1] = float(self.noise.delta)
        return constants

    def _sums(self, phi: Array, noise: Array, flat: _Flat, *, true: bool) -> _Sums:
        """Evaluate all rows at the constants of their tasks, and sum over the rows of each task."""
        each = phi.take(flat.task, axis=1)
        holds_noise = self._takes(flat.data.weight)
        true = true and holds_noise
        rows = (self.programs.second if true else self.programs.first)(each, noise, flat.data)
        if not holds_noise:
            self._with_this_noise(rows, noise, flat.data)
        sums = flat.sums(self._terms(rows, len(phi), true))
        if not math.isfinite(sums.sum()):
            self._without_lost_slopes(each, rows, flat)
            if true:
                self._without_lost_bends(each, noise, rows, flat)
            sums = flat.sums(self._terms(rows, len(phi), true))
        p, n = len(phi), len(self._lower[0])
        curvature = sums[1 + p + n :][self._entries] if true else None
        return _Sums(sums[0], sums[1 : 1 + p], sums[1 + p : 1 + p + n][self._entries], curvature, rows)

    def _terms(self, rows: Array, p: int, true: bool) -> Array:
        """Return what is summed over the rows of a task: loss, gradient, expected and true second derivative."""
        one, other = self._lower
        n, slopes = len(one), rows[4 : 4 + p]
        terms = np.empty((1 + p + n * (1 + true), rows.shape[1]))
        terms[0] = rows[0]
        np.multiply(slopes, rows[1], out=terms[1 : 1 + p])
        products = slopes[one] * slopes[other]
        np.multiply(products, rows[2], out=terms[1 + p : 1 + p + n])
        if true:
            np.multiply(products, rows[4 + p], out=products)
            np.multiply(rows[-n:], rows[1], out=terms[1 + p + n :])
            terms[1 + p + n :] += products
        return terms

    def _with_this_noise(self, rows: Array, noise: Array, data: RowData) -> None:
        """Replace what belongs to the noise that the programs were made for."""
        weight = None if data.weight is None else torch.from_numpy(data.weight[0])
        y = torch.from_numpy(data.y[0])
        given = Observations(torch.from_numpy(data.X).T, y, y, True, weight)
        log_sigma = torch.from_numpy(noise[: self.noise.n_constants])
        terms = self.noise.terms(torch.from_numpy(rows[3]), y, log_sigma, self.noise.accuracy(given))
        for k, part in enumerate(terms):
            rows[k] = part.numpy()

    def _without_lost_slopes(self, phi: Array, rows: Array, flat: _Flat) -> None:
        """Set slopes to zero in rows that do not depend on a constant, where 0 times infinity is NaN."""
        for k in range(len(phi)):
            lost = np.flatnonzero(np.isnan(rows[4 + k]))
            if not len(lost):
                continue
            few, data = phi[:, lost], flat.data.take(lost)
            values, still = self.programs.values(few, data), np.ones(len(lost), dtype=bool)
            for sign in (1.0, -1.0):
                moved = few.copy()
                moved[k] += sign * self._step(few[k], k, SHIFT)
                still &= self.programs.values(moved, data) == values
            rows[4 + k, lost[still]] = 0.0

    def _without_lost_bends(self, phi: Array, noise: Array, rows: Array, flat: _Flat) -> None:
        """Take second derivatives that are not finite from differences of the slopes."""
        p, n = len(phi), len(self._lower[0])
        bends = rows[-n:]
        lost = np.flatnonzero(~np.isfinite(bends).all(axis=0))
        if not len(lost):
            return
        few = _Flat(flat.data.take(lost), np.arange(len(lost)), np.arange(len(lost)))
        differences = np.empty((p, p, len(lost)))
        for j in range(p):
            step = self._step(phi[j, lost], j, BEND)
            ends = []
            for sign in (1.0, -1.0):
                moved = phi[:, lost].copy()
                moved[j] += sign * step
                there = self.programs.first(moved, noise, few.data)
                self._without_lost_slopes(moved, there, few)
                ends.append(there[4 : 4 + p])
            differences[j] = (ends[0] - ends[1]) / (2 * step)
        symmetric = 0.5 * (differences + differences.transpose(1, 0, 2))[self._lower]
        bends[:, lost] = np.where(np.isfinite(bends[:, lost]), bends[:, lost], symmetric)

    def _step(self, value: Array, k: int, share: float) -> Array:
        """Return a small step of a constant on the scale on which it is searched."""
        if self.transforms.kinds[k] != "identity":
            return np.full_like(value, share)
        return np.where(value == 0, SMALLEST, share * np.abs(value))

    # ---------------------------------------------------------------- one task's constants

    def curve(self, phi: Tensor, observations: Observations) -> Tensor:
        """Return what the base class does; from the program where no gradient is needed."""
        if phi.requires_grad and torch.is_grad_enabled():
            return super().curve(phi, observations)
        rows, tasks = observations.y.shape
        # the rows of a task one after the other: what row functions work out for its constants serves them all
        features = observations.X.shape[1]
        X = observations.X.T.numpy().reshape(features, rows, tasks).transpose(0, 2, 1).reshape(features, -1)
        values = self.programs.values(np.repeat(phi.detach().numpy(), rows, axis=1), RowData(X, X[:1]))
        return torch.from_numpy(values.reshape(tasks, rows)).T.contiguous()

    def curve_and_slopes(
        self, phi: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return what the base class does; from the program where no gradient is needed."""
        if differentiable:
            return super().curve_and_slopes(phi, observations, differentiable=True)
        shape, each = observations.y.shape, np.tile(phi.detach().numpy(), observations.y.shape[0])
        X = np.ascontiguousarray(observations.X.T.numpy())
        data = RowData(X, observations.y.numpy().reshape(1, -1))
        numbers = np.arange(X.shape[1])
        with np.errstate(all="ignore"):
            rows = self.programs.first(each, self._noise(torch.zeros(self.programs.noise.n_constants)), data)
            self._without_lost_slopes(each, rows, _Flat(data, numbers, numbers))
        values, slopes = torch.from_numpy(rows[3]), torch.from_numpy(rows[4 : 4 + len(each)])
        return values.reshape(shape), slopes.reshape(-1, *shape)

    def information(
        self, phi: Tensor, log_sigma: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> Information:
        """Return what the base class does; from the program where no gradient is needed."""
        blocks = None if differentiable else self.blocks(observations)
        if blocks is not None:
            constants, noise = phi.detach().numpy(), self._noise(log_sigma)
            with np.errstate(all="ignore"):
                sums = [self._sums(constants[:, tasks], noise, flat, true=False)[:3] for tasks, flat in blocks]
            if all(np.isfinite(each[1]).all() for each in sums):
                return Information(*map(_joined, zip(*sums, strict=True)))
        return super().information(phi, log_sigma, observations, differentiable=differentiable)

    def information_and_curvature(
        self, phi: Tensor, log_sigma: Tensor, observations: Observations
    ) -> tuple[Information, Tensor] | None:
        """Return what the rows say with their true second derivative, from the program; None where torch has to."""
        blocks = self.blocks(observations) if self._takes(observations.weight) else None
        if blocks is None:
            return None
        constants, noise = phi.detach().numpy(), self._noise(log_sigma)
        with np.errstate(all="ignore"):
            sums = [self._sums(constants[:, tasks], noise, flat, true=True)[:4] for tasks, flat in blocks]
        parts: list[Any] = list(zip(*sums, strict=True))
        if not all(np.isfinite(each).all() for part in parts[1:] for each in part):
            return None
        *information, curvature = map(_joined, parts)
        return Information(*information), curvature

    def searched(
        self, solver: Any, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, u: Tensor
    ) -> MapResult | None:
        """Search as :class:`~metaest.functional.GaussNewton` does; None where torch has to."""
        if not u.shape[0] or type(solver) is not GaussNewton:
            return None
        given = solver, Point(center, factor, log_sigma), observations, u
        result = self._searched_at_once(*given) or self._searched_in_blocks(*given)
        if result is None:
            return None
        not_finite = result.code.numpy() == NOT_FINITE
        if not_finite.any():
            lost = torch.from_numpy(np.flatnonzero(not_finite))
            again = solver.solve(self.plain(), center[:, lost], factor, log_sigma, observations.take(lost), u[:, lost])
            _put(result, lost, again)
        return result

    def losses_at(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, points: Tensor
    ) -> Tensor:
        """Return what the base class does, in one call of machine code where that can be."""
        program = self._search_program(observations, points.shape[0])
        if program is None:
            return super().losses_at(center, factor, log_sigma, observations, points)
        given = center.numpy(), factor.numpy(), self._noise(log_sigma), program[1], points.numpy().T
        return torch.from_numpy(program[0].losses(*given)).T

    def _search_program(self, observations: Observations, m: int) -> tuple[CompiledRowSearch, SearchRows] | None:
        """Return the program that searches such rows in one call, and what it reads; None where there is none."""
        if not self._takes(observations.weight):
            return None
        rows = self._set(observations, MOST_KEPT)
        program = None if rows.padded else CompiledRowSearch.of(self.programs, m)
        if program is None:
            return None
        if program not in rows.searched:
            rows.searched[program] = program.rows_of(observations)
        return program, rows.searched[program]

    def _searched_at_once(
        self, solver: GaussNewton, point: Point, observations: Observations, u: Tensor
    ) -> MapResult | None:
        """Search in one call of machine code; None where there is no program for it.

        The program takes steps of Gauss and Newton only. Tasks that need the true second derivative go on in numpy;
        those that lose a slope on the way, at a row that does not depend on a constant, begin anew there. A task
        without rows loses nothing, and is not searched by either.
        """
        program = self._search_program(observations, u.shape[0])
        if program is None:
            return None
        rough = solver.newton_after >= solver.max_iter
        steps = solver.max_iter if rough else min(solver.max_iter, solver.newton_after + MORE_STEPS)
        tol = solver.tol if rough else SHARPER * solver.tol
        given = point.center.numpy(), point.factor.numpy(), self._noise(point.log_sigma), program[1], u.numpy()
        *searched, code, lost = program[0].search(steps, tol, *given)
        result = MapResult(*map(torch.from_numpy, (*searched, code)))
        anew = lost | (code == NOT_FINITE)
        unfinished = anew if steps == solver.max_iter else anew | (code == UNFINISHED)
        if unfinished.any():
            left = torch.from_numpy(np.flatnonzero(unfinished))
            start = torch.where(torch.from_numpy(anew), u, result.u)[:, left]
            again = self._searched_in_blocks(solver, point.take(left), observations.take(left), start)
            if again is not None:
                _put(result, left, again)
        return result

    def _searched_in_blocks(
        self, solver: GaussNewton, point: Point, observations: Observations, u: Tensor
    ) -> MapResult | None:
        """Search in numpy; None where a task has no rows."""
        blocks = self.blocks(observations)
        if blocks is None:
            return None
        A, noise, centers, starts = point.factor.numpy(), self._noise(point.log_sigma), point.center.numpy(), u.numpy()
        parts = [self._search(solver, centers[:, tasks], A, noise, flat, starts[:, tasks]) for tasks, flat in blocks]
        return MapResult(*map(_joined, zip(*parts, strict=True)))

    def _at(self, center: Array, factor: Array, noise: Array, flat: _Flat, u: Array, *, true: bool) -> NumpySearchState:
        """Evaluate the posterior of u; with the true second derivative where that is positive definite."""
        sums = self._sums(center + factor @ u, noise, flat, true=true)
        return self._posterior(sums, factor, u, sums.curvature)

    def _posterior(self, sums: _Sums, factor: Array, u: Array, curvature: Array | None) -> NumpySearchState:
        eye = np.eye(len(u))[..., None]
        matrix = matrices.sandwich(factor.T, sums.matrix if curvature is None else curvature) + eye
        root = matrices.cholesky(matrix)
        if curvature is not None and not np.isfinite(root[-1, -1]).all():
            expected = matrices.sandwich(factor.T, sums.matrix) + eye
            matrix = np.where(np.isfinite(root[-1, -1]), matrix, expected)
            root = matrices.cholesky(matrix)
        return NumpySearchState(u, sums.loss + 0.5 * np.add.reduce(u * u), factor.T @ sums.gradient + u, matrix, root)

    def _search(
        self, solver: GaussNewton, center: Array, factor: Array, noise: Array, flat: _Flat, u: Array
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Return u, loss and code of each task."""
        tasks = u.shape[1]
        result = u.copy(), np.empty(tasks), np.zeros(tasks, dtype=np.int64)
        active = np.arange(tasks)
        # away from the centre of the prior, an earlier search ended nearby
        newton = bool(u.any()) and solver.newton_after < solver.max_iter
        with np.errstate(all="ignore"):
            state = self._at(center, factor, noise, flat, u, true=newton)
            damping = np.zeros(tasks)
            code = np.where(state.finite, UNFINISHED, NOT_FINITE)
            for iteration in range(1, solver.max_iter + 1):
                state, step, expected, decrement, code = propose(state, damping, code, solver.tol)
                running = code == UNFINISHED
                left = int(running.sum())
                if not left or iteration == solver.max_iter:
                    break
                if left < FEW * len(active):
                    store(result, active[~running], state.take(np.flatnonzero(~running)), code[~running])
                    chosen = np.flatnonzero(running)
                    active, code, damping, flat = active[chosen], code[chosen], damping[chosen], flat.take(chosen)
                    state, step, center = state.take(chosen), step[:, chosen], center[:, chosen]
                    expected, decrement, running = expected[chosen], decrement[chosen], running[chosen]
                near = bool((decrement[running] < NEAR).all()) and solver.newton_after < solver.max_iter
                newton = near or iteration >= solver.newton_after
                trial = self._at(center, factor, noise, flat, state.u + step, true=newton)
                state, damping = accept(state, trial, damping, running, expected)
            store(result, active, state, code)
        return result

    # ---------------------------------------------------------------- evidence

    def evidence(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, u: Tensor
    ) -> Evidence | None:
        """Return the negative log-evidence of each task and its gradient; None where torch has to.

        Parameters
        ----------
        center : Tensor of shape (constants, tasks)
        factor : Tensor of shape (constants, random)
        log_sigma : Tensor of shape (noise constants,)
        observations : Observations
        u : Tensor of shape (random, tasks)
            The most probable deviations, as a search has left them.

        Returns
        -------
        Evidence or None
        """
        blocks = self.blocks(observations)
        if blocks is None or not self._takes(blocks[0][1].data.weight):
            return None
        A, noise, centers, deviations = factor.numpy(), self._noise(log_sigma), center.numpy(), u.numpy()
        with np.errstate(all="ignore"):
            parts = [self._evidence(centers[:, b], A, noise, flat, deviations[:, b]) for b, flat in blocks]
        if not all(math.isfinite(part.sum()) for evidence in parts for part in evidence):
            return None
        if len(parts) == 1:
            return parts[0]
        loss, deviations, by_center = (np.concatenate(part, axis=-1) for part in list(zip(*parts, strict=True))[:3])
        factors, log_sigmas = np.stack([e.factor for e in parts]), np.stack([e.log_sigma for e in parts])
        return Evidence(loss, deviations, by_center, factors.sum(axis=0), log_sigmas.sum(axis=0))

    def _evidence(self, center: Array, A: Array, noise: Array, flat: _Flat, u: Array) -> Evidence:
        tasks = center.shape[1]
        for polish in range(POLISHING + 1):
            sums = self._sums(center + A @ u, noise, flat, true=True)
            if not len(u):
                break
            state = self._posterior(sums, A, u, sums.curvature)
            root = state.root
            step = matrices.solve(root, state.gradient)
            if polish == POLISHING or not (state.gradient * step).sum(axis=0).max() > AT_MAXIMUM:
                break
            u = u - step
        p, rows, T = len(A), sums.rows, sums.curvature
        assert T is not None
        n = self.noise.n_constants
        slopes, bends = rows[4 : 4 + p], rows[-len(self._lower[0]) :]
        of_curve, of_noise = rows[4 + p : 6 + p], rows[6 + p : 6 + p + 3 * n].reshape(n, 3, -1)
        loss = sums.loss + 0.5 * np.add.reduce(u * u)
        if not len(u):
            log_sigma = of_noise[:, 0].sum(axis=-1)
            return Evidence(loss, u, sums.gradient, np.zeros_like(A), log_sigma)
        expected = matrices.sandwich(A.T, sums.matrix) + np.eye(len(u))[..., None]
        inner = matrices.cholesky(expected)
        P = matrices.inverse(inner)
        loss = loss + 0.5 * matrices.log_determinant(inner)
        spread = matrices.sandwich(A, P)  # A P A'
        along: Array = np.einsum("kjn,jn->kn", spread.take(flat.task, axis=2), slopes)
        height = (along * slopes).sum(axis=0)
        q_rows = 0.5 * of_curve[1] * height * slopes
        q_rows += rows[2] * np.einsum("kn,kjn->jn", along, bends.take(self._entries, axis=0))
        q = flat.sums(q_rows)
        v = matrices.solve(root, A.T @ q)
        moved = A @ v
        z = sums.gradient + q - np.einsum("kjt,jt->kt", T, moved)
        GA = (A.T @ sums.matrix.reshape(p, -1)).reshape(-1, p, tasks)  # (random, constants, tasks)
        of_factor = z @ u.T + np.einsum("mkt,mjt->kj", GA, P) - sums.gradient @ v.T
        shift = (moved.take(flat.task, axis=1) * slopes).sum(axis=0)
        of_sigma = (of_noise[:, 0] + 0.5 * height * of_noise[:, 2] - shift * of_noise[:, 1]).sum(axis=-1)
        return Evidence(loss, u, z, of_factor, of_sigma)


def _blocks(data: RowData, counts: NDArray[np.intp]) -> list[tuple[slice, _Flat]]:
    """Return tasks with their rows, as many at a time as have about BLOCK_ROWS."""
    ends = np.cumsum(counts)
    cuts = [0, *(np.flatnonzero(np.diff((ends - 1) // BLOCK_ROWS)) + 1).tolist(), len(counts)]
    blocks = []
    for first, last in itertools.pairwise(cuts):
        start, end = int(ends[first] - counts[first]), int(ends[last - 1])
        starts = (ends - counts)[first:last] - start
        number = np.repeat(np.arange(last - first), counts[first:last])
        part = data if last - first == len(counts) else data.cut(start, end)
        blocks.append((slice(first, last), _Flat(part, number, starts.astype(np.intp))))
    return blocks


def _joined(parts: Sequence[Array]) -> Tensor:
    """Return arrays of some tasks at a time as one tensor of all."""
    return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1))


def _put(result: MapResult, tasks: Tensor, other: MapResult) -> None:
    """Replace the results of some tasks."""
    for part, new in zip(result, other, strict=True):
        part[..., tasks] = new
