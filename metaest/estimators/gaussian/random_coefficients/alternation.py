r"""Random coefficients and any regressor, fitted in turn: the regressor to what the random part leaves, and so on.

The regressor m is fitted to :math:`y - z^T(\beta + b_t)`, the variance components to :math:`y - m(x)` (Hajjem,
Bellavance, Larocque, 2014, :doi:`10.1080/00949655.2012.741599`). Flexible regressors fit the rows they have seen too
well, and a variance that is estimated from what they leave is too small: here every task is predicted by a regressor
that was fitted on others. The random part comes first, since a regressor fitted to levels that differ learns the noise
between tasks.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.gaussian.random_coefficients.maximum_likelihood import Components, maximum_likelihood
from metaest.estimators.gaussian.random_coefficients.statistics import TaskStatistics
from metaest.functional.progress import progress

__all__ = ["Alternated", "Base", "FixedAndRandom", "alternate"]

# gain in log-likelihood per row below which another turn is not worth its fits
GAIN = 0.01
_logger = logging.getLogger("metaest.fit")


@runtime_checkable
class Base(Protocol):
    """A fitted regressor."""

    def predict(self, X: Any) -> Any:
        """Return predictions of shape (n_rows,)."""


@dataclass(frozen=True)
class FixedAndRandom:
    """The rows of a fit.

    Attributes
    ----------
    Z, C : ndarray of shape (n_rows, q) and (n_rows, p)
        Columns with random coefficients, and with fixed ones.
    y : ndarray of shape (n_rows,)
    offsets : ndarray of shape (n_tasks + 1,)
    shrunk : ndarray of bool, shape (p,)
    diagonal : bool
        Whether random coefficients are independent of each other.
    restricted : bool
        Whether the restricted likelihood is maximised.
    """

    Z: NDArray[np.float64]
    C: NDArray[np.float64]
    y: NDArray[np.float64]
    offsets: NDArray[np.intp]
    shrunk: NDArray[np.bool_]
    diagonal: bool
    restricted: bool

    @property
    def task(self) -> NDArray[np.intp]:
        """The number of the task of each row."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def statistics(self, base: NDArray[np.float64] | float) -> TaskStatistics:
        """Return the sufficient statistics of what predictions of a regressor leave."""
        return TaskStatistics.of(self.Z, self.C, self.y - base, self.offsets)

    def components(self, base: NDArray[np.float64] | float) -> Components:
        """Return the variance components of what predictions of a regressor leave."""
        return maximum_likelihood(
            self.statistics(base), self.shrunk, diagonal=self.diagonal, restricted=self.restricted
        )

    def without_coefficients(self, components: Components) -> NDArray[np.float64]:
        """Return the targets less fixed and random coefficients: what a regressor is fitted to."""
        effects = (self.Z * components.effects[self.task]).sum(axis=1)
        return np.asarray(self.y - self.C @ components.beta - effects)


@dataclass(frozen=True)
class Alternated:
    """What an alternation learns.

    Attributes
    ----------
    components : Components
    base : Base or None
        The regressor, fitted on all rows; None where it does not help.
    likelihoods : list of float
        Log-likelihood before the first turn, and after each.
    noises : list of float
        Noise variance, likewise.
    converged : bool
    """

    components: Components
    base: Base | None
    likelihoods: list[float]
    noises: list[float]
    converged: bool


def alternate(
    rows: FixedAndRandom,
    fit: Callable[[NDArray[np.bool_], NDArray[np.float64]], Base],
    predict: Callable[[Base, NDArray[np.bool_]], NDArray[np.float64]],
    *,
    folds: NDArray[np.intp] | None,
    max_iter: int,
    verbose: bool,
) -> Alternated:
    """Fit a regressor and random coefficients in turn.

    Parameters
    ----------
    rows : FixedAndRandom
    fit : callable
        ``fit(mask, target)`` returns a new regressor, fitted on some of the rows.
    predict : callable
        ``predict(regressor, mask)`` returns its predictions of some of the rows.
    folds : ndarray of int, shape (n_tasks,), or None
        The part that each task belongs to: it is predicted by a regressor fitted on the others. None predicts the rows
        that it was fitted on.
    max_iter : int
        Turns.
    verbose : bool
        Whether to show a progress bar.
    """
    best = rows.components(0.0)
    likelihoods, noises = [best.log_likelihood], [best.noise]
    base, converged, all_rows = None, best.converged, np.ones(len(rows.y), dtype=bool)
    components, chosen = best, None
    ended = False
    for turn in progress(range(max_iter), verbose, "turns", "turn"):
        target = rows.without_coefficients(components)
        if folds is None:
            base = fit(all_rows, target)
            prediction = predict(base, all_rows)
        else:
            prediction = _out_of_fold(fit, predict, target, folds[rows.task])
        components = rows.components(prediction)
        likelihoods.append(components.log_likelihood)
        noises.append(components.noise)
        _logger.info("turn %d: log-likelihood %.1f", turn + 1, components.log_likelihood)
        gain = (components.log_likelihood - best.log_likelihood) / len(rows.y)
        if gain > 0:
            best, chosen = components, (target, base)
        if gain < GAIN:
            ended = True
            break
    converged = best.converged and ended
    if chosen is None:
        return Alternated(best, None, likelihoods, noises, converged)
    target, base = chosen
    return Alternated(best, base or fit(all_rows, target), likelihoods, noises, converged)


def _out_of_fold(
    fit: Callable[[NDArray[np.bool_], NDArray[np.float64]], Base],
    predict: Callable[[Base, NDArray[np.bool_]], NDArray[np.float64]],
    target: NDArray[np.float64],
    fold: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return predictions of every row by regressors that were fitted without its task."""
    prediction = np.empty_like(target)
    for number in range(int(fold.max()) + 1):
        left_out = fold == number
        prediction[left_out] = predict(fit(~left_out, target), left_out)
    return prediction
