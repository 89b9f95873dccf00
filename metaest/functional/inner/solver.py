"""The base of inner solvers: what turns a start and support rows into the parameters of a task."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor

from metaest.functional.modules.normalization import is_statistic
from metaest.functional.types import BatchForward, Loss, Params, Rows

__all__ = ["InnerSolver", "Rate"]

Rate = float | Tensor | dict[str, Tensor] | Sequence[dict[str, Tensor]]
"""Rates of inner steps: one for all parameters, one for each name, or such a dict for each step."""


class InnerSolver(ABC):
    """Adaptation of a batch of tasks to their support rows.

    A subclass defines :meth:`solve`; everything else has a default that is right for a solver without rates, steps or
    a penalty. Make concrete solvers frozen dataclasses, and do not subclass them: a model is cloned and saved with its
    solver.

    Attributes
    ----------
    steps : int, default=1
        How many times the parameters change on the way; 0 where nothing is adapted. A solver that sets more than 1
        overrides :meth:`path` too, or `multi_step_share` of the estimators is refused.
    proximal : float, default=0.0
        The strength lambda of a penalty that holds adapted parameters to their start. The implicit meta-gradient needs
        one above 0.

    Examples
    --------
    Steps of the same length in every parameter, along the signs of the gradient:

    >>> from dataclasses import dataclass
    >>> import torch
    >>> from metaest.functional import MLP, InnerSolver, ModuleForward, Rows, mapped, repeat_for_tasks, squared_error
    >>> @dataclass(frozen=True)
    ... class SignDescent(InnerSolver):
    ...     rate: float = 0.01
    ...     rounds: int = 5
    ...
    ...     def solve(self, forward, loss, params, support, *, differentiable=False):
    ...         if not any(value.requires_grad for value in params.values()):
    ...             params = {name: value.detach().requires_grad_() for name, value in params.items()}
    ...         for _ in range(self.rounds):
    ...             total = loss(forward(params, support), support.y, support.mask).sum()
    ...             slopes = torch.autograd.grad(total, list(params.values()), create_graph=differentiable)
    ...             params = {
    ...                 name: value - self.rate * slope.sign()
    ...                 for (name, value), slope in zip(params.items(), slopes, strict=True)
    ...             }
    ...         return params
    >>> forward = ModuleForward(MLP(1, 1, [8], "tanh"), n_outputs=1)
    >>> X = torch.linspace(-1, 1, 4).reshape(1, 4, 1)
    >>> support = Rows(X, X.square(), torch.ones(1, 4))
    >>> start = repeat_for_tasks(forward.parameters(), 1)
    >>> adapted = SignDescent().solve(mapped(forward), squared_error, start, support)
    >>> bool(squared_error(mapped(forward)(adapted, support), support.y, support.mask)
    ...      < squared_error(mapped(forward)(start, support), support.y, support.mask))
    True
    """

    steps: int = 1
    proximal: float = 0.0

    @abstractmethod
    def solve(
        self, forward: BatchForward, loss: Loss, params: Params, support: Rows, *, differentiable: bool = False
    ) -> Params:
        """Adapt a batch of tasks.

        Parameters
        ----------
        forward : callable
            Predictions of a batch of tasks.
        loss : callable
            One loss for each task.
        params : dict of Tensor, each of shape (tasks, ...)
            Where each task starts.
        support : Rows
        differentiable : bool, default=False
            Whether the result is to be differentiated exactly with respect to `params`. Otherwise its Jacobian may be
            taken for the identity: a step's gradient counts as a constant.

        Returns
        -------
        dict of Tensor, each of shape (tasks, ...)
        """

    def path(
        self, forward: BatchForward, loss: Loss, params: Params, support: Rows, *, differentiable: bool = False
    ) -> Iterator[Params]:
        """Yield the parameters at the start and at the end; arguments are those of :meth:`solve`.

        A solver with several `steps` overrides this to yield the start and the parameters after each step.
        """
        yield params
        yield self.solve(forward, loss, params, support, differentiable=differentiable)

    @property
    def yields_each_step(self) -> bool:
        """Whether :meth:`path` yields the parameters after each of the `steps`: one step, or a `path` of its own."""
        return self.steps < 2 or type(self).path is not InnerSolver.path

    def moves(self, name: str) -> bool:
        """Tell whether a parameter is adapted; by default all are, and the statistics of layers are not."""
        return not is_statistic(name)

    def require(self, names: Sequence[str]) -> None:
        """Raise a ValueError where it cannot adapt a network with parameters of these names, or moves none of them."""
        if self.steps and not any(map(self.moves, names)):
            raise ValueError(f"inner_solver={type(self).__name__} moves none of the parameters {', '.join(names)}.")

    def describe(self) -> str:
        """Return the end of a sentence such as "the weights are non-finite after 5 inner steps of rate 0.1"."""
        return f"by {type(self).__name__}"

    def backed_off(self, factor: float) -> "InnerSolver | None":
        """Return the same solver at rates divided by `factor`; None where there is no rate to lower."""
        return None

    def describe_rate(self, factor: float = 1.0) -> str:
        """Return the rates divided by `factor` in words, for solvers that can be backed off."""
        return "its rates" if factor == 1 else f"its rates divided by {factor:g}"

    def rates(self) -> Rate | None:
        """Return the rates of its steps; None where it has none."""
        return None

    @property
    def compilable(self) -> bool:
        """Whether :meth:`solve` may be traced and compiled: its operations do not depend on values."""
        return False
