"""Context parameters (CAVIA: Zintgraf and others, 2019, arXiv:1810.03642): inputs that are adapted to a task."""

import torch
from torch import Tensor, nn

from metaest.functional.modules.forward import ModuleForward
from metaest.functional.types import Params

__all__ = ["CONTEXT", "ContextForward"]

CONTEXT = "context:"  # no module can hold a parameter of this name


class ContextForward(ModuleForward):
    """A module whose first columns are the rows' features and whose last ones are the task's context vector.

    Parameters
    ----------
    module : torch.nn.Module
        Takes rows of n_features + n_context columns.
    n_outputs : int
    n_context : int
    """

    def __init__(self, module: nn.Module, n_outputs: int, n_context: int) -> None:
        super().__init__(module, n_outputs)
        self.n_context = n_context

    def run(
        self, params: Params, X: Tensor, mask: Tensor | None = None, collects: bool = False
    ) -> tuple[Tensor, Params]:
        """Predict one task; without a context vector among the parameters it is zero."""
        weights = dict(params)
        context = weights.pop(CONTEXT) if CONTEXT in weights else X.new_zeros(self.n_context)
        if X.ndim > 2:  # images: further channels, each of one value
            context = context.view(-1, *[1] * (X.ndim - 2)).expand(-1, *X.shape[2:])
        return super().run(weights, torch.cat([X, context.expand(len(X), *context.shape)], dim=1), mask, collects)

    def __getstate__(self) -> dict[str, object]:
        return {"module": self.module, "n_outputs": self.n_outputs, "n_context": self.n_context}
