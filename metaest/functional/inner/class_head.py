r"""A linear head for classes, solved in closed form: least squares on indicators of the classes.

Scores are the regression's, on 1 for the class of a row and 0 for the others; what is learned beside the ridge is the
temperature, :math:`p = \mathrm{softmax}(e^\tau s)` (R2D2: Bertinetto and others, 2019, arXiv:1805.08136). With a
learned prior scores are divided by the predictive standard deviation in units of the noise, so that probabilities of
rows unlike the support are closer to even.
"""

from typing import Any

from torch import Tensor

from metaest.functional.inner.closed_form import LinearHead
from metaest.functional.losses import cross_entropy
from metaest.functional.modules.head import PREFIX
from metaest.functional.types import BatchForward, Episodes, Params, Rows

__all__ = ["ClassHead"]

TEMPERATURE = PREFIX + "temperature"
# logarithm of the temperature at the start: a score of 1 against 0 has odds of e^5 to 1
FIRST_TEMPERATURE = 1.6


class ClassHead(LinearHead):
    """The prior of a linear head whose targets are indicators of classes.

    Parameters
    ----------
    bayesian : bool
        Whether mean and precision are learned; otherwise the ridge's strength alone is. Both by the cross-entropy of
        query rows.
    n_hidden : int
    n_targets : int
        Number of classes; 1 where classes differ from task to task, and so share one prior.
    """

    def meta_parameters(self, like: Tensor) -> Params:
        """Return the parameters learned beside the network, at their start."""
        params = super().meta_parameters(like)
        params.pop(PREFIX + "noise", None)
        return {**params, TEMPERATURE: like.new_tensor(FIRST_TEMPERATURE)}

    def start(self, meta: Params) -> Params:
        """Return the head of a task without rows."""
        noiseless = {**meta, PREFIX + "noise": meta[TEMPERATURE].new_zeros(self.n_targets)}
        return {**super().start(noiseless), TEMPERATURE: meta[TEMPERATURE]}

    def spread(self, params: Params, n_classes: int) -> Params:
        """Repeat the shared prior for every class of a task.

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
        """Return parameters whose head is the posterior given the support rows of every task."""
        return super().condition(forward, params, support._replace(y=support.y.clamp(min=0)))

    def logits(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return logits of rows, of shape (tasks, rows, classes)."""
        variance = self.variance(forward, params, rows) if self.bayesian else None
        return self._scaled(params, forward(params, rows), variance)

    def losses(self, forward: BatchForward, params: Params, episodes: Episodes) -> Tensor:
        """Return the cross-entropy of each task's query rows."""
        support, query = episodes
        indicators = support._replace(y=support.y.clamp(min=0))
        prediction, variance = self.answers(forward, params, Episodes(indicators, query))
        return cross_entropy(self._scaled(params, prediction, variance), query.y, query.mask)

    def _scaled(self, params: Params, scores: Tensor, variance: Tensor | None) -> Tensor:
        """Return the logits of scores."""
        logits = scores * params[TEMPERATURE].exp()[:, None, None]
        return logits if variance is None else logits * variance.rsqrt()

    def finalise(self, forward: BatchForward, params: Params, drawn: Any) -> Params:
        """Return no parameters: there is no noise to estimate."""
        return {}
