r"""Gradient descent as an inner solver.

It takes `steps` steps on each task's mean support loss,

.. math:: \theta_{s+1} = \theta_s - \alpha_s \odot \nabla_\theta \Bigl(L_\mathrm{support}(\theta_s)
          + \tfrac{\lambda}{2} \lVert \theta_s - \theta_0 \rVert^2\Bigr).

All tasks of a batch move at once; none sees another's rows, since the parameters carry a task axis. Parameters that do
not move are handed on as they are.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real

import torch
from torch import Tensor

from metaest.functional.inner.solver import InnerSolver, Rate
from metaest.functional.modules.normalization import at_step
from metaest.functional.types import BatchForward, Loss, Params, Rows

__all__ = ["GradientDescent"]


@dataclass(frozen=True)
class GradientDescent(InnerSolver):
    """A fixed number of gradient steps.

    Parameters
    ----------
    steps : int, at least 0
    rate : float at least 0, Tensor, dict of Tensor, or sequence of dict of Tensor
        One for all parameters; one for each name, a number or of the parameter's shape (Meta-SGD, arXiv:1707.09835); or
        such a dict for each step (MAML++, arXiv:1810.09502), of which the last serves for further steps. Tensors may
        be learned.
    moving : frozenset of str, optional
        Names of the parameters that move; all by default.
    proximal : float, default=0.0
        The strength lambda that holds them to their start (iMAML, arXiv:1909.04630).
    """

    steps: int = field()  # without the default of the base
    rate: Rate = field()
    moving: frozenset[str] | None = None
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.rate, Real):
            object.__setattr__(self, "rate", float(self.rate))
        given: tuple[object, object] = self.steps, self.rate  # whatever the annotations say
        if given[1] is None or isinstance(given[1], str):
            raise TypeError(f"inner_lr must be a number, a tensor, a dict or a sequence of dicts, got {self.rate!r}.")
        if isinstance(given[0], bool) or not isinstance(given[0], Integral):
            raise TypeError(f"inner_steps must be a whole number, got {self.steps!r}.")
        if self.steps < 0 or (isinstance(self.rate, (int, float)) and not 0 <= self.rate < math.inf):
            raise ValueError(
                f"inner_steps and inner_lr must be finite and at least 0, got {self.steps} and {self.rate}."
            )
        if not isinstance(self.rate, (int, float, Tensor, dict)) and not len(self.rate):
            raise ValueError("inner_lr must hold the rates of at least one step, got none.")
        if not 0 <= self.proximal < math.inf:
            raise ValueError(f"proximal must be finite and at least 0, got {self.proximal}.")

    def backed_off(self, factor: float) -> "GradientDescent | None":
        """Return the same steps at rates divided by `factor`; None where no step is taken, or none has a length."""
        if self.steps == 0 or (isinstance(self.rate, (int, float)) and self.rate == 0):
            return None
        rate: Rate
        if isinstance(self.rate, dict):
            rate = _divided(self.rate, factor)
        elif isinstance(self.rate, (int, float, Tensor)):
            rate = self.rate / factor
        else:
            rate = [_divided(rates, factor) for rates in self.rate]
        return replace(self, rate=rate)

    def describe(self) -> str:
        """Return the number of steps and their rate in words."""
        return f"after {self.steps} inner steps of rate {self.describe_rate()}"

    def describe_rate(self, factor: float = 1.0) -> str:
        """Return the rates divided by `factor` in words."""
        if isinstance(self.rate, (int, float, Tensor)):
            return f"{float(self.rate) / factor:.2g}"
        return "as learned" if factor == 1 else f"as learned, divided by {factor:g}"

    def moves(self, name: str) -> bool:
        """Tell whether a parameter moves."""
        return name in self.moving if self.moving is not None else super().moves(name)

    def require(self, names: Sequence[str]) -> None:
        """Raise a ValueError where it names a parameter that there is not, or has no rate for one that moves."""
        of_names = [rate for rate in self._of_steps() if isinstance(rate, dict)]
        for name in sorted(set(self.moving or ()).union(*of_names) - set(names)):
            raise ValueError(f"inner_solver: no parameter {name!r}; there are {', '.join(names)}.")
        for name in filter(self.moves, names):
            if any(name not in rate for rate in of_names):
                raise ValueError(f"inner_solver: there is no rate for the parameter {name!r}, which moves.")
        super().require(names)

    def rates(self) -> Rate:
        """Return the rates of the steps."""
        return self.rate

    @property
    def compilable(self) -> bool:
        """Whether there are steps to compile."""
        return self.steps > 0

    def path(
        self, forward: BatchForward, loss: Loss, params: Params, support: Rows, *, differentiable: bool = False
    ) -> Iterator[Params]:
        """Adapt a batch of tasks; yield the parameters before the first step and after each.

        The arguments are those of :meth:`InnerSolver.solve`; with `differentiable` the graph of every step is kept, so
        that the result can be differentiated through the Hessians of the support loss.
        """
        moving = [name for name in params if self.moves(name)]
        # where nobody differentiates with respect to the start, no step's graph is kept
        forgets = not any(value.requires_grad for value in [*params.values(), *self._learned()])
        if self.steps and not any(params[name].requires_grad for name in moving):
            params = {
                name: value.detach().requires_grad_() if self.moves(name) else value for name, value in params.items()
            }
        start = params
        yield at_step(params, 0)
        for step in range(self.steps):
            # the tasks are independent: the gradient of the sum holds each task's own gradient
            total = loss(forward(at_step(params, step), support), support.y, support.mask).sum()
            if self.proximal:
                away = sum((params[name] - start[name]).square().sum() for name in moving)
                total = total + 0.5 * self.proximal * away
            gradients = torch.autograd.grad(
                total, [params[name] for name in moving], create_graph=differentiable, materialize_grads=True
            )
            moved = {
                name: params[name] - self._rate(name, step) * gradient
                for name, gradient in zip(moving, gradients, strict=True)
            }
            if forgets:
                moved = {name: value.detach().requires_grad_() for name, value in moved.items()}
            params = {**params, **moved}
            yield at_step(params, step + 1)

    def solve(
        self, forward: BatchForward, loss: Loss, params: Params, support: Rows, *, differentiable: bool = False
    ) -> Params:
        """Return the end of :meth:`path`."""
        # a queue of one: what came before is not kept
        return deque(self.path(forward, loss, params, support, differentiable=differentiable), maxlen=1).pop()

    def _of_steps(self) -> Sequence[float | Tensor | dict[str, Tensor]]:
        """Return the rates of each step; one entry where they are the same in all."""
        return [self.rate] if isinstance(self.rate, (int, float, Tensor, dict)) else self.rate

    def _learned(self) -> list[Tensor]:
        """Return the rates that are tensors, and so may be learned."""
        flat = [rate for each in self._of_steps() for rate in (each.values() if isinstance(each, dict) else [each])]
        return [rate for rate in flat if isinstance(rate, Tensor)]

    def _rate(self, name: str, step: int) -> float | Tensor:
        """Return the rate of a parameter in a step; further steps have that of the last one."""
        if isinstance(self.rate, dict):
            return self.rate[name]
        if isinstance(self.rate, (int, float, Tensor)):
            return self.rate
        return self.rate[min(step, len(self.rate) - 1)][name]


def _divided(rates: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    return {name: rate / factor for name, rate in rates.items()}
