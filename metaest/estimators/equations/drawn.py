"""A quantity at draws of the posterior of one task; a method of ``AdaptedEquation``."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from metaest.estimators.arguments import require_level
from metaest.estimators.equations.answers import Derived, computed, ends_of_interval
from metaest.estimators.equations.draws import Draws
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.modes import in_plain_modes

__all__ = ["Drawn", "derive_draws"]


class Drawn(NamedTuple):
    """A quantity at weighted draws of the posterior.

    Attributes
    ----------
    value : float or ndarray
        At the most probable constants.
    draws : ndarray of shape (..., n_draws)
    weight : ndarray of shape (n_draws,)
        Weights of the draws; they sum to one.
    """

    value: Any
    draws: NDArray[np.float64]
    weight: NDArray[np.float64]

    def interval(self, level: float = 0.9) -> Derived:
        """Return the value and the ends of its interval, as ``derive`` has them.

        Parameters
        ----------
        level : float, default=0.9
            Probability inside the interval, with equal probability on both sides.
        """
        require_level(level)
        ends = ends_of_interval(torch.from_numpy(self.draws), torch.from_numpy(self.weight), float(level))
        return Derived(self.value, *(float(end) if end.ndim == 0 else end.numpy() for end in ends))

    def probability(self, condition: Callable[[NDArray[np.float64]], Any]) -> Any:
        """Return the probability that a condition on the quantity holds.

        Parameters
        ----------
        condition : callable
            ``condition(draws)`` returns true or false for every draw, such as ``lambda area: area > 400``. A quantity
            that is not a number is taken not to meet it.

        Returns
        -------
        float or ndarray

        Raises
        ------
        TypeError
            When it returns something else.
        """
        if not callable(condition):
            raise TypeError(f"probability: condition must be a function of the draws, got {condition!r}.")
        with np.errstate(all="ignore"):
            holds = np.asarray(condition(self.draws))
        if holds.dtype != bool or holds.shape[-1:] != self.weight.shape:
            raise TypeError(
                "probability: the condition must return true or false for each draw, an array of shape "
                f"(..., {len(self.weight)}); got {holds.dtype} of shape {holds.shape}."
            )
        share = np.where(holds, self.weight, 0.0).sum(axis=-1).clip(0.0, 1.0)
        return float(share) if share.ndim == 0 else share


class _Adapted(Protocol):
    """An adapted equation."""

    @property
    def _fitted(self) -> FittedEquation: ...
    @property
    def _posterior(self) -> Posterior: ...
    @property
    def _draws(self) -> Draws: ...


@in_plain_modes
def derive_draws(self: _Adapted, function: Callable[..., Any]) -> Drawn:
    """Return a quantity computed from the constants at draws of their posterior.

    The draws are those from which intervals come: of Laplace's normal approximation, and of wider distributions around
    it, weighted so that they follow the posterior itself. For a task without rows they are of the population.

    Parameters
    ----------
    function : callable
        As ``derive`` takes it.

    Returns
    -------
    Drawn
        ``value``, ``draws`` and ``weight``; ``probability(condition)`` and ``interval(level)`` summarise them.

    Raises
    ------
    TypeError, ValueError
        When the function is none, or does not return a number for each draw.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import make_avrami_tasks
    >>> tasks, _ = make_avrami_tasks(20, random_state=0)
    >>> def avrami(X, k, n):
    ...     return 1 - torch.exp(-((k * X[:, 0]) ** n))
    >>> model = EquationRegressor(avrami, {"k": Parameter(1, lower=0), "n": Parameter(2, lower=0)}).fit(tasks)
    >>> half = model.adapt([[0.5], [1.0]], [0.2, 0.6]).derive_draws(lambda k, n: np.log(2) ** (1 / n) / k)
    >>> 0.5 < half.probability(lambda time: time > 0.8) < 1
    True
    """
    if not callable(function):
        raise TypeError(f"derive_draws: function must be a function of the constants, got {function!r}.")
    value = computed(self._fitted, function, self._posterior.phi)[..., 0]
    draws = computed(self._fitted, function, self._draws.phi)
    most_probable = float(value) if value.ndim == 0 else value.numpy()
    return Drawn(most_probable, draws.numpy(), self._draws.weight.numpy().copy())
