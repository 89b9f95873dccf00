r"""A user's equation, written for one task, evaluated for many at once, with its derivatives.

There are three ways. Where every row of the result depends on its own row of X alone ("rows"), the rows of all tasks
are one long X and every constant one long vector: one call of the equation serves all tasks, and one backward pass
gives the whole Jacobian, because the sum of the results has that row's derivative at that row's constant. Where rows
see each other, as in a sum over time, tasks are mapped by ``torch.vmap`` ("vmap"), or taken one after the other
("loop"), and the Jacobian takes one more backward pass for each constant. Tasks stand on the last axis, so that every
operation on the constants runs along memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import vmap

from metaest.functional.equations.observations import Observations

__all__ = ["Equation", "EquationMode", "Observations"]

EquationMode = Literal["rows", "vmap", "loop"]
# step, as a share of the size of a constant, by which it is moved to see whether a row depends on it
SHIFT = 1e-4
# step, as a share of the size of a constant, of differences of slopes: rounding leaves 1e-11 of them, bending 1e-10
BEND = 1e-5
# step of a constant of zero, which has no size: far below any constant, in whatever unit
SMALLEST = 1e-100


@dataclass(frozen=True)
class Equation:
    """An equation, the names of its constants, and the way it is evaluated for many tasks.

    Parameters
    ----------
    function : callable
        ``function(X, **constants)`` with X of shape (rows, features) returns (rows,) or (rows, 1).
    names : sequence of str
        Names of the constants, in the order of every tensor of constants.
    mode : {"rows", "vmap", "loop"}
        See the module; "loop" is always right.
    still : tuple of int, optional
        Indices of the constants whose slope torch may take for NaN in rows whose value does not depend on them, as
        that of k in (k t)^n at t = 0 with n below one; the slope is set to 0 there. None: they are searched for in
        every evaluation, which cannot be traced.
    """

    function: Callable[..., Tensor]
    names: Sequence[str]
    mode: EquationMode = "loop"
    still: tuple[int, ...] | None = None

    def __call__(self, constants: Sequence[Tensor], X: Tensor) -> Tensor:
        """Evaluate one X of shape (rows, features) and check the result, which has shape (rows,)."""
        try:
            value = self.function(X, **dict(zip(self.names, constants, strict=True)))
        except IndexError as error:
            raise ValueError(f"the equation reads a column that X does not have; X has {X.shape[1]}.") from error
        except (RuntimeError, TypeError) as error:
            if "in-place" in str(error) or "inplace" in str(error):
                raise ValueError(
                    "the equation changes a constant or X in place (as k *= 2 does); write it with new tensors (k = 2 "
                    "* k)."
                ) from error
            if "numpy" not in str(error):
                raise
            raise TypeError(
                "the equation uses numpy on its constants; write it with torch functions (torch.exp, torch.log, ...)."
            ) from error
        n = X.shape[0]
        if not isinstance(value, Tensor):
            raise TypeError(
                f"the equation returned {type(value).__name__}; a tensor of shape ({n},) is wanted, made with torch."
            )
        if value.shape == (n, 1):
            value = value[:, 0]
        if value.shape != (n,):
            raise ValueError(
                f"the equation returned shape {tuple(value.shape)} for {n} rows; ({n},) is wanted: one "
                "value a row of X."
            )
        if value.dtype != X.dtype:
            raise TypeError(
                f"the equation returned {value.dtype}; {X.dtype} is wanted: make tensors inside it with dtype=X.dtype."
            )
        return value

    def values(self, theta: Tensor, observations: Observations) -> Tensor:
        """Return the curves of all tasks.

        Parameters
        ----------
        theta : Tensor of shape (constants, tasks)
        observations : Observations

        Returns
        -------
        Tensor of shape (rows, tasks)
        """
        rows, tasks = observations.y.shape
        if self.mode == "rows":
            constants = _for_rows(theta, rows)
            values = self(constants, observations.X).reshape(rows, tasks)
            if theta.requires_grad and torch.is_grad_enabled():
                for k, constant in enumerate(constants):
                    _silence(constant, partial(self._stands_still, k, theta.detach(), observations, values.detach()))
            return values
        # a gradient would be that of the padding, too
        apart = not observations.full and theta.requires_grad and torch.is_grad_enabled()
        values = self._together(theta.unbind(0), observations, apart)
        if not observations.full and not bool((torch.isfinite(values.detach()) | (observations.mask > 0)).all()):
            return self._together(theta.unbind(0), observations, True)
        return values

    def values_apart(self, theta: Tensor, observations: Observations) -> Tensor:
        """Return what `values` does, from rows without padding; by maps of the tasks of each length, or by a loop."""
        return self._together(theta.unbind(0), observations, True)

    def values_and_slopes(
        self, theta: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the curves of all tasks and their derivatives in every constant.

        Parameters
        ----------
        theta : Tensor of shape (constants, tasks)
        observations : Observations
        differentiable : bool, default=False
            Whether both results can be differentiated again, in `theta` and in whatever it was made of.

        Returns
        -------
        values : Tensor of shape (rows, tasks)
        slopes : list of Tensor of shape (rows, tasks), one for each constant
        """
        if differentiable and theta.requires_grad and torch.is_grad_enabled():
            values, slopes = cast(tuple[Tensor, Tensor], _Curve.apply(theta, self, observations))  # type: ignore[no-untyped-call]
            return values, list(slopes.unbind(0))
        values, columns = self._with_slopes(theta.detach(), observations, graph=False)
        return values.detach(), columns

    def flat(self, theta: Tensor, observations: Observations) -> tuple[int, ...]:
        """Return the indices of the constants whose slope torch takes for NaN in some row; see `still`."""
        _, slopes = self._slopes(theta.detach(), observations, graph=False, apart=False)[:2]
        return tuple(k for k, slope in enumerate(slopes) if bool((slope != slope).any()))

    def _with_slopes(self, theta: Tensor, observations: Observations, *, graph: bool) -> tuple[Tensor, list[Tensor]]:
        """Return values and slopes; with a graph, both can be differentiated in `theta`."""
        values, slopes, constants = self._slopes(theta, observations, graph, apart=False)
        if self.mode == "vmap" and not observations.full:
            padding = observations.mask == 0
            parts = torch.stack([values, *slopes]).detach()
            if not bool((torch.isfinite(parts) | ~padding).all()):
                values, slopes, constants = self._slopes(theta, observations, graph, apart=True)
        for k in range(len(slopes)) if self.still is None else self.still:
            lost = slopes[k] != slopes[k]
            if self.still is None and not bool(lost.any()):
                continue
            lost = lost & self._stands_still(k, theta.detach(), observations, values.detach())
            slopes[k] = torch.where(lost, 0.0, slopes[k])
            if graph and constants:
                _silence(constants[k], lost)
        if graph and constants:
            unmoved = torch.stack([slope.detach() == 0 for slope in slopes]).all(dim=0)
            for constant in constants if bool(unmoved.any()) else []:
                _silence(constant, unmoved)
        return values, slopes

    def _slopes(
        self, theta: Tensor, observations: Observations, graph: bool, apart: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return values and slopes as torch finds them, and the constants of every row where these are kept apart."""
        rows, tasks = observations.y.shape
        with torch.enable_grad():
            if self.mode == "rows":
                constants = _for_rows(theta, rows)
                constants = constants if graph else [c.detach().requires_grad_() for c in constants]
                values = self(constants, observations.X)
                gradients = _gradients(values.sum(), constants, graph)
                return values.reshape(rows, tasks), [g.reshape(rows, tasks) for g in gradients], constants
            # each constant a tensor of its own: what is not finite in the slope of one does not reach another's
            leaves = list(theta.unbind(0)) if graph else [c.detach().requires_grad_() for c in theta]
            values = self._together(leaves, observations, apart)
            # the first backward pass is linear in v, and its derivative in v is the Jacobian, one column a pass
            v = torch.zeros_like(values, requires_grad=True)
            slopes = []
            for pulled in _gradients((values * v).sum(), leaves, True):
                if not pulled.requires_grad:
                    slopes.append(torch.zeros_like(values))
                    continue
                (slope,) = torch.autograd.grad(
                    pulled.sum(), v, create_graph=graph, retain_graph=True, materialize_grads=True
                )
                slopes.append(slope)
            return values, slopes, []

    def _stands_still(self, k: int, theta: Tensor, observations: Observations, values: Tensor) -> Tensor:
        """Return whether the value of each row stays the same as a constant is moved up and down a little.

        Its slope is then 0, where torch multiplies 0 by infinity.
        """
        still = torch.ones_like(values, dtype=torch.bool)
        with torch.no_grad():
            for sign in (1.0, -1.0):
                step = torch.where(theta[k] == 0, SMALLEST, SHIFT * theta[k].abs())
                moved = torch.stack([theta[j] + sign * step if j == k else theta[j] for j in range(len(theta))])
                still = still & (self.values(moved, observations) == values)
        return still

    def _together(self, constants: Sequence[Tensor], observations: Observations, apart: bool) -> Tensor:
        """Evaluate tasks one by one, or map all at once, or (`apart`) those of each length without padding."""
        X, rows = observations.by_task(), len(observations.y)
        sizes = observations.mask.sum(dim=0).long().clamp(min=1).tolist()
        if self.mode == "loop":
            curves = [self([c[t] for c in constants], X[t, :n]) for t, n in enumerate(sizes)]
            return torch.stack([_lengthened(curve, rows) for curve in curves], dim=1)

        def one(X: Tensor, *constants: Tensor) -> Tensor:
            return self(constants, X)

        if not apart:
            whole: Tensor = vmap(one)(X, *constants)
            return whole.T
        parts, order = [], []
        for n in sorted(set(sizes)):
            chosen = [t for t, size in enumerate(sizes) if size == n]
            parts.append(_lengthened(vmap(one)(X[chosen, :n], *(c[chosen] for c in constants)), rows))
            order += chosen
        return torch.cat(parts)[torch.tensor(order).argsort()].T


class _Curve(torch.autograd.Function):
    """Values and slopes of an equation; where torch's second derivatives are not finite, differences replace them."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, equation: Equation, observations: Observations) -> tuple[Tensor, Tensor]:
        leaf = theta.detach().requires_grad_()
        with torch.enable_grad():
            values, slopes = equation._with_slopes(leaf, observations, graph=True)
            ctx.graph = leaf, values, torch.stack(slopes)
        ctx.problem = equation, observations
        return values.detach(), ctx.graph[2].detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: Tensor, of_slopes: Tensor) -> tuple[Tensor, None, None]:
        equation, observations = ctx.problem
        leaf, values, slopes = ctx.graph
        if not observations.full:
            row = observations.mask > 0
            of_values, of_slopes = torch.where(row, of_values, 0.0), torch.where(row, of_slopes, 0.0)
        outputs = [(values, of_values), (slopes, of_slopes)]
        outputs = [(output, gradient) for output, gradient in outputs if output.requires_grad]
        result = torch.zeros_like(leaf)
        if outputs:
            # for gradients given beside the outputs torch imports its compiler, which changes the warning filters
            with torch.enable_grad():
                total = torch.stack([(output * gradient).sum() for output, gradient in outputs]).sum()
            (result,) = torch.autograd.grad(total, leaf, materialize_grads=True)
        lost = torch.nonzero(~torch.isfinite(result).all(dim=0))[:, 0]
        if len(lost):
            given = of_values[:, lost], of_slopes[:, :, lost]
            result[:, lost] = _by_differences(equation, leaf.detach()[:, lost], observations.take(lost), *given)
        return result, None, None


def _by_differences(
    equation: Equation, theta: Tensor, observations: Observations, of_values: Tensor, of_slopes: Tensor
) -> Tensor:
    """Return the derivative in `theta` of a function of values and slopes, from slopes at points around."""
    _, slopes = equation.values_and_slopes(theta, observations)
    derivatives = []
    for j in range(len(theta)):
        step = torch.where(theta[j] == 0, SMALLEST, BEND * theta[j].abs())
        ends = []
        for sign in (1.0, -1.0):
            moved = theta.clone()
            moved[j] += sign * step
            ends.append(torch.stack(equation.values_and_slopes(moved, observations)[1]))
        second = torch.where(of_slopes == 0, 0.0, of_slopes * (ends[0] - ends[1]) / (2 * step))
        derivatives.append((of_values * slopes[j]).sum(dim=0) + second.sum(dim=(0, 1)))
    return torch.stack(derivatives)


def _for_rows(theta: Tensor, rows: int) -> list[Tensor]:
    """Repeat the constants of each task for all of its rows."""
    return [value.expand(rows, -1).reshape(-1) for value in theta]


def _lengthened(curve: Tensor, rows: int) -> Tensor:
    """Pad a curve with zeros to a number of rows."""
    return torch.nn.functional.pad(curve, (0, rows - curve.shape[-1]))


def _silence(constant: Tensor, still: Tensor | Callable[[], Tensor]) -> None:
    """Replace NaN by 0 in the gradient of a constant, in rows (`still`) that do not depend on it."""

    def without(gradient: Tensor) -> Tensor:
        lost = gradient != gradient
        if not bool(lost.any()):
            return gradient
        flat = still if isinstance(still, Tensor) else still()
        return torch.where(lost & flat.reshape(-1), 0.0, gradient)

    if constant.requires_grad:
        constant.register_hook(without)  # type: ignore[no-untyped-call]


def _gradients(value: Tensor, inputs: list[Tensor], create_graph: bool) -> tuple[Tensor, ...]:
    """Return gradients of one number, for which torch imports no compiler; zeros where it has no graph."""
    if not value.requires_grad:  # a guard in the equation returned a plain tensor
        return tuple(torch.zeros_like(leaf) for leaf in inputs)
    return torch.autograd.grad(value, inputs, create_graph=create_graph, materialize_grads=True)
