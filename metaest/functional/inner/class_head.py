r"""A linear head for classes, solved in closed form: least squares on indicators of the classes.

Scores are the regression's, on 1 for the class of a row and 0 for the others; what is learned beside the ridge is how
sure they make, :math:`p = \mathrm{softmax}(e^\tau s)` (R2D2: Bertinetto and others, 2019, arXiv:1805.08136). With a
learned prior scores are divided by the predictive standard deviation in units of the noise, so that rows unlike the
support are called less surely.
"""

from typing import Any

from torch import Tensor

from metaest.functional.inner.closed_form import LinearHead
from metaest.functional.losses import cross_entropy
from metaest.functional.modules.head import PREFIX
from metaest.functional.types import BatchForward, Episodes, Params, Rows

__all__ = ["ClassHead"]

TEMPERATURE = PREFIX + "temperature"
# at first a score of 1 against 0 says e^5 to 1
SURE = 1.6


class ClassHead(LinearHead):
    """The prior of a linear head whose targets are indicators of classes.

    Parameters
    ----------
    bayesian : bool
        Whether mean and precision are learned; otherwise the ridge's strength alone is. Both by the cross-entropy of
        query rows.
    n_hidden : int
    n_targets : int
        Classes; 1 where classes have no meaning of their own, and so have one prior for all.
    """

    def meta_parameters(self, like: Tensor) -> Params:
        """Return what is learned beside the network, at its start."""
        own = super().meta_parameters(like)
        own.pop(PREFIX + "noise", None)
        return {**own, TEMPERATURE: like.new_tensor(SURE)}

    def start(self, meta: Params) -> Params:
        """Return the head of a task without rows."""
        noiseless = {**meta, PREFIX + "noise": meta[TEMPERATURE].new_zeros(self.n_targets)}
        return {**super().start(noiseless), TEMPERATURE: meta[TEMPERATURE]}

    def spread(self, params: Params, n_classes: int) -> Params:
        """Give every class of a task the one prior there is.

        Parameters
        ----------
        params : dict of Tensor
            As :meth:`start` returns them.
        n_classes : int
        """
        wide = {
            name: value.expand(*value.shape[:-1], n_classes)
            for name, value in params.items()
            if name in (PREFIX + "weights", PREFIX + "noise")
        }
        return {**params, **wide}

    def condition(self, forward: BatchForward, params: Params, support: Rows) -> Params:
        """Return parameters whose head has seen the support rows of every task."""
        return super().condition(forward, params, support._replace(y=support.y.clamp(min=0)))

    def logits(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return logits of rows, of shape (tasks, rows, classes)."""
        logits = forward(params, rows) * params[TEMPERATURE].exp()[:, None, None]
        return logits * self.variance(forward, params, rows).rsqrt() if self.bayesian else logits

    def losses(self, forward: BatchForward, params: Params, episodes: Episodes) -> Tensor:
        """Return the cross-entropy of each task's query rows."""
        adapted, query = self.condition(forward, params, episodes.support), episodes.query
        return cross_entropy(self.logits(forward, adapted, query), query.y, query.mask)

    def settled(self, forward: BatchForward, params: Params, drawn: Any) -> Params:
        """Return nothing: there is no noise."""
        return {}
