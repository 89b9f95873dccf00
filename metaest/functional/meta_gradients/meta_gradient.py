"""The base of meta-gradients: how the loss of an adapted task flows back to the parameters all tasks share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from metaest.functional.inner.solver import InnerSolver
from metaest.functional.types import BatchForward, Episodes, Loss, Params

__all__ = ["MetaGradient"]


class MetaGradient(ABC):
    """A rule that gives the meta-loss of each task, with the meta-gradient as its gradient.

    A subclass defines :meth:`losses`, and overrides the facts below where their defaults do not hold; plain class
    attributes do. Concrete rules are final, and frozen dataclasses by habit.

    Examples
    --------
    The query loss, and a penalty on how far a task moves:

    >>> from dataclasses import dataclass
    >>> from metaest.functional import MetaGradient, with_statistics
    >>> @dataclass(frozen=True)
    ... class Cautious(MetaGradient):
    ...     strength: float = 0.1
    ...     through_steps = True
    ...     second_derivatives = True
    ...
    ...     def losses(self, forward, loss, solver, start, episodes, step_weights=None):
    ...         support, query = episodes
    ...         adapted = solver.solve(forward, loss, start, support, differentiable=True)
    ...         adapted = with_statistics(forward, adapted, support)
    ...         away = sum((adapted[name] - start[name]).square().flatten(1).sum(dim=1) for name in start)
    ...         return loss(forward(adapted, query), query.y, query.mask) + self.strength * away
    >>> Cautious().name, Cautious().needs_proximal
    ('Cautious', False)
    """

    @abstractmethod
    def losses(
        self,
        forward: BatchForward,
        loss: Loss,
        solver: InnerSolver,
        start: Params,
        episodes: Episodes,
        step_weights: Sequence[float | Tensor] | None = None,
    ) -> Tensor:
        """Return the meta-loss of each task.

        Parameters
        ----------
        forward : callable
            Predictions of a batch of tasks.
        loss : callable
            One loss for each task.
        solver : InnerSolver
        start : dict of Tensor, each of shape (tasks, ...)
            Where each task starts; what is differentiated.
        episodes : Episodes
        step_weights : sequence of float or Tensor of length steps, optional
            Weights of the query losses after each step; only for rules that take them.

        Returns
        -------
        Tensor of shape (tasks,)
        """

    @property
    def name(self) -> str:
        """The name by which messages call it."""
        return type(self).__name__

    @property
    def through_steps(self) -> bool:
        """Whether it differentiates through the inner steps, so that their rates can be learned."""
        return False

    @property
    def takes_step_weights(self) -> bool:
        """Whether the losses after each inner step can be weighted (the multi-step loss of MAML++)."""
        return False

    @property
    def first_order(self) -> "MetaGradient | None":
        """The cheaper rule that may stand in for it in the first meta-steps; None where there is none."""
        return None

    @property
    def trains_only_what_moves(self) -> bool:
        """Whether parameters that the solver does not move, and tasks that take no step, teach it nothing."""
        return False

    @property
    def needs_proximal(self) -> bool:
        """Whether the solver must hold adapted parameters to their start."""
        return False

    @property
    def second_derivatives(self) -> bool:
        """Whether the module must be differentiable twice."""
        return False

    @property
    def validation(self) -> "MetaGradient":
        """The rule whose values are losses of rows that the adaptation has not seen."""
        return self
