"""The base of heads: linear weights on learned features, with a prior that tasks share and a posterior of each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from metaest.functional.types import BatchForward, Episodes, Params, Rows

__all__ = ["Head"]


class Head(ABC):
    """A prior of linear weights on features of a network, which rows of a task turn into a posterior.

    Attributes
    ----------
    bayesian : bool
        Whether predictions have a variance.
    whole_tasks : bool, default=False
        Whether it learns by all rows of each task at once, and not by query rows given support rows.
    """

    bayesian: bool
    whole_tasks: bool = False

    @property
    def n_directions(self) -> int:
        """Directions in which tasks are supposed to differ, more than which tasks have to be; 0 for no such number."""
        return 0

    @abstractmethod
    def meta_parameters(self, like: Tensor) -> Params:
        """Return the parameters learned beside the network, at their start, in the dtype of `like`."""

    @abstractmethod
    def start(self, meta: Params) -> Params:
        """Return the head of a task without rows, from meta-parameters."""

    @abstractmethod
    def condition(self, forward: BatchForward, params: Params, support: Rows) -> Params:
        """Return parameters whose head is the posterior given the support rows of every task.

        Parameters
        ----------
        forward : callable
            Predictions of a batch of tasks by a :class:`~metaest.functional.HeadForward`.
        params : dict of Tensor, each of shape (tasks, ...)
            Parameters of network and head.
        support : Rows

        Returns
        -------
        dict of Tensor, each of shape (tasks, ...)
        """

    @abstractmethod
    def variance(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return the predictive variance of rows, of shape (tasks, rows, targets)."""

    @abstractmethod
    def losses(self, forward: BatchForward, params: Params, episodes: Episodes) -> Tensor:
        """Return what is minimised of each task; arguments as :meth:`condition` takes them."""

    @abstractmethod
    def finalise(self, forward: BatchForward, params: Params, drawn: Sequence[Episodes]) -> Params:
        """Return the meta-parameters that follow from the others once a fit has ended; {} where none do."""
