"""Probes of a user's equation on a few rows, before a fit relies on it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import vmap

from metaest.functional.equations.equation import Equation, EquationMode, Observations

__all__ = ["agrees_one_by_one", "check_equation", "choose_mode"]

# step of differences, as a share of a constant's reach
SHIFT = 1e-4
# change of the curve over a constant's reach, as a share of the curve, below which a row is not compared
FELT = 1e-6
# powers of ten by which a constant is multiplied to values at which its slope may be compared
ELSEWHERE = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 60, 100, 150, 200, 250, 300)
# differences that count as rounding, as a share of the largest value of the curve
ROUNDING = 1e-12
# rows beside which each of many others is evaluated
MOST_BESIDE = 8


def check_equation(equation: Equation, theta: Tensor, X: Tensor, reach: Tensor | None = None) -> None:
    """Evaluate the rows of one task; raise where the equation changes them, is random, or hides a constant from torch.

    Parameters
    ----------
    equation : Equation
    theta : Tensor of shape (constants,)
    X : Tensor of shape (rows, features)
    reach : Tensor of shape (constants,), optional
        Change of each constant over which the curve bends little, in its unit; by default the size of its value.

    Raises
    ------
    ValueError, TypeError
        With a message about the equation; also where it returns something else than one number a row.
    """
    reach = theta.abs() if reach is None else reach
    version = X._version
    constants = [value.clone().requires_grad_() for value in theta]
    value = equation(constants, X)
    if X._version != version:
        raise ValueError(
            "the equation changes X in place (as t /= 2 does); write it with new tensors (t = t / 2): the same X is "
            "used again."
        )
    if not torch.equal(torch.nan_to_num(equation(constants, X)), torch.nan_to_num(value)):
        raise ValueError("the equation gave two results for the same X and constants; it must not draw random numbers.")
    for k, name in enumerate(equation.names):
        if _slope_fails(equation, theta, k, X, float(reach[k])) and not _slope_holds_elsewhere(equation, theta, k, X):
            raise TypeError(
                f"the equation depends on {name!r} in a way torch cannot differentiate, or its slope is wrong; write "
                "it with torch functions of the constants, without math, numpy, float, detach, round or item."
            )


def _slope_fails(equation: Equation, theta: Tensor, k: int, X: Tensor, reach: float) -> bool | None:
    """Tell whether torch's slope in one constant differs from that of differences; None without a row to compare."""
    step = SHIFT * reach
    if not step > 0:  # a constant of zero has no size by which to move it
        return None
    constants = [value.clone().requires_grad_() for value in theta]
    value = equation(constants, X)
    # the slope of every row, by torch and by differences; a kink spoils the comparison in a row or two
    slope = torch.zeros_like(value)
    if value.requires_grad:
        v = torch.ones_like(value, requires_grad=True)
        # the sum of products, and not the products as `grad_outputs`, for which torch imports its compiler
        (pulled,) = torch.autograd.grad((value * v).sum(), constants[k], create_graph=True, materialize_grads=True)
        if pulled.requires_grad:
            (slope,) = torch.autograd.grad(pulled.sum(), v, retain_graph=True, materialize_grads=True)
    ends = []
    for sign in (1, -1):
        moved = theta.clone()
        moved[k] += sign * step
        with torch.no_grad():
            ends.append(equation(moved.unbind(0), X))
    difference = (ends[0] - ends[1]) / (2 * step)
    rounding = 1e-14 * value.detach().abs() / step
    size = torch.maximum(slope.abs(), difference.abs())
    wrong = (slope - difference).abs() > 1e-2 * size + rounding
    # rows that hardly respond are not compared
    felt = size * reach > FELT * float(torch.nan_to_num(value.detach()).abs().max())
    usable = torch.isfinite(slope) & torch.isfinite(difference) & felt
    if not int(usable.sum()):
        return None
    return int((wrong & usable).sum()) > 0.5 * int(usable.sum())


def _slope_holds_elsewhere(equation: Equation, theta: Tensor, k: int, X: Tensor) -> bool:
    """Tell whether torch differentiates an equation in one constant at other values of it.

    Far from all sensible values, differences may consist of rounding alone, as those of 1 - exp(-k t) at k = 1e-12.
    """
    for exponent in ELSEWHERE:
        for power in (exponent, -exponent):
            away = theta.clone()
            away[k] = (theta[k] if theta[k] != 0 else 1.0) * 10.0**power
            try:
                fails = _slope_fails(equation, away, k, X, float(away[k].abs()))
            except (ArithmeticError, RuntimeError, ValueError):  # an equation may refuse values so far off
                continue
            if fails is False:
                return True
    return False


def choose_mode(
    equation: Equation, theta: Tensor, observations: Observations, neighbours: Tensor | None = None
) -> tuple[EquationMode, str]:
    """Try which way of evaluating many tasks gives what one task at a time gives.

    Parameters
    ----------
    equation : Equation
    theta : Tensor of shape (constants, tasks)
        Constants that differ between the tasks.
    observations : Observations
        A few tasks with the rows the probe may use.
    neighbours : Tensor of shape (n, features), optional
        Rows of other tasks, the extreme ones of every column among them: what a row gives may not depend on them.

    Returns
    -------
    mode : {"rows", "vmap", "loop"}
    reason : str
    """
    expected = Equation(equation.function, equation.names, "loop").values(theta, observations)
    real = observations.mask > 0

    def agrees(got: Tensor) -> bool:
        return _same(got[real], expected[real], 1e-9)

    candidates: tuple[EquationMode, ...] = ("rows", "vmap")
    reasons = []
    for mode in candidates:
        try:
            candidate = Equation(equation.function, equation.names, mode)
            together = agrees(candidate.values(theta, observations))
            # constants that reach no further than their own row, whatever rows stand beside it
            alone = mode == "vmap" or agrees(_row_by_row(equation, theta, observations))
            if together and alone and (mode == "vmap" or _heeds_no(neighbours, equation, theta)):
                return mode, f"{mode}: gives what one task at a time gives"
            reasons.append(f"{mode}: gives another result than one task at a time")
        except Exception as error:  # whatever an equation does with rows of other tasks: it is not made for them
            reasons.append(f"{mode}: {(str(error) or type(error).__name__).splitlines()[0]}")
    return "loop", "; ".join(reasons)


def agrees_one_by_one(equation: Equation, theta: Tensor, observations: Observations) -> bool:
    """Tell whether tasks evaluated together give the same as each one alone.

    An equation may branch on a constant: together, one task's constants then decide for all.

    Parameters
    ----------
    equation : Equation
    theta : Tensor of shape (constants, tasks)
    observations : Observations
    """
    if equation.mode == "loop":
        return True
    real = observations.mask > 0
    together = equation.values(theta, observations)[real]
    return _same(together, _task_by_task(equation, theta, observations)[real], 1e-7)


def _task_by_task(equation: Equation, theta: Tensor, observations: Observations) -> Tensor:
    """Evaluate every task alone, on its own rows without padding; many of them are mapped, see `_each_alone`."""
    if equation.mode == "rows" and theta.shape[1] > MOST_BESIDE:
        try:
            return Equation(equation.function, equation.names, "vmap").values_apart(theta, observations)
        except Exception:  # the equation cannot be mapped
            pass
    return Equation(equation.function, equation.names, "loop").values(theta, observations)


def _same(got: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Tell whether values agree, each to a relative tolerance, or to rounding of the largest."""
    largest = torch.nan_to_num(expected, nan=0.0, posinf=0.0, neginf=0.0).abs().max()
    return torch.allclose(got, expected, rtol=tolerance, atol=ROUNDING * float(largest), equal_nan=True)


def _heeds_no(neighbours: Tensor | None, equation: Equation, theta: Tensor) -> bool:
    """Tell whether a row gives the same beside others: an equation may branch on other rows of its X.

    Of more than eight rows, as of an equation with many columns, each is paired with eight, itself among them.
    """
    if neighbours is None:
        return True
    n = len(neighbours)
    shifts = range(n) if n <= MOST_BESIDE else [k * n // MOST_BESIDE for k in range(MOST_BESIDE)]
    constants = theta[:, 0].unbind(0)
    others = [neighbours.roll(shift, dims=0) for shift in shifts]
    trios = torch.cat([torch.stack([other, neighbours, other], dim=1) for other in others])
    alone, beside = (_each_alone(equation, constants, X, n > MOST_BESIDE) for X in (neighbours[:, None], trios))
    return all(_same(values, alone[:, 0], 1e-9) for values in beside[:, 1].reshape(-1, n))


def _each_alone(equation: Equation, constants: Sequence[Tensor], blocks: Tensor, mapped: bool) -> Tensor:
    """Evaluate blocks of rows, of shape (n, rows, features), each as if in a call of its own.

    They may be mapped by torch, which evaluates each as that call would and refuses to branch on their numbers; where
    it refuses anything, there is a call of each.
    """
    if mapped:
        try:
            together: Tensor = vmap(lambda X: equation(constants, X))(blocks)
            return together
        except Exception:  # the equation cannot be mapped
            pass
    return torch.stack([equation(constants, X) for X in blocks])


def _row_by_row(equation: Equation, theta: Tensor, observations: Observations) -> Tensor:
    """Evaluate every row in a call of its own."""
    rows, tasks = observations.y.shape
    result = torch.full((rows, tasks), torch.nan, dtype=theta.dtype, device=theta.device)
    X, real = observations.by_task(), observations.mask > 0
    constants = [theta[:, t].unbind(0) for t in range(tasks)]
    alone = [equation(constants[t], X[t, r : r + 1]) for r, t in torch.nonzero(real).tolist()]
    if alone:
        result[real] = torch.cat(alone)
    return result
