"""What the outer loop differentiates as a fit goes on."""

from collections.abc import Sequence
from typing import Any

from metaest.functional import MetaGradient

__all__ = ["Differentiated", "Schedule"]

Differentiated = tuple[MetaGradient, Sequence[float] | None]
"""The kind of a meta-gradient, and the weights of the losses after each inner step."""


class Schedule:
    """What the outer loop differentiates as it goes on.

    First-order gradients come before exact ones, the losses after every inner step before that after the last alone.

    Parameters
    ----------
    model : estimator
    max_iter : int
    """

    def __init__(self, model: Any, max_iter: int) -> None:
        closed = model.inner_solver != "gradient"  # there the gradient is exact, whatever the setting
        self.kind: MetaGradient = "exact" if closed else model.meta_gradient
        self.first_order_until = float(model.first_order_share) * max_iter
        self.multi_step_until = float(model.multi_step_share) * max_iter
        self.steps = int(model.inner_steps)
        if (self.first_order_until or self.multi_step_until) and self.kind not in ("exact", "first-order"):
            raise ValueError(
                "first_order_share and multi_step_share need meta_gradient='exact' or 'first-order', "
                f"got {self.kind!r}."
            )

    def at(self, step: int) -> Differentiated:
        """Return the kind of meta-gradient and the weights of the steps' losses in a meta-step, counted from 0."""
        kind: MetaGradient = "first-order" if step < self.first_order_until else self.kind
        if step >= self.multi_step_until or self.steps < 2:
            return kind, None
        each = (1 - step / self.multi_step_until) / self.steps
        return kind, [each] * (self.steps - 1) + [1 - each * (self.steps - 1)]

    @property
    def end(self) -> Differentiated:
        """What is differentiated at the end."""
        return self.kind, None

    @property
    def judged(self) -> Differentiated:
        """What gives the loss of rows that an adaptation has not seen; Reptile adapts on all of them."""
        return ("first-order" if self.kind == "reptile" else self.kind), None
