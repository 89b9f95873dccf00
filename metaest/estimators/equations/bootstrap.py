"""The parametric bootstrap of a population: the method ``bootstrap`` of a fitted equation."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import require_count
from metaest.estimators.columns import Columns, Fitted
from metaest.estimators.equations.answers import simulated
from metaest.estimators.equations.draws import Draws
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.noises import tasks_in_words
from metaest.estimators.equations.outcomes import require_simulated
from metaest.estimators.equations.task_rows import support_tasks
from metaest.estimators.modes import in_plain_modes
from metaest.exceptions import DivergenceError, quiet, warn
from metaest.tasks import TaskSet
from metaest.tasks.random_state import generator_of

__all__ = ["bootstrap"]

MOST_REPLICATES = 100_000


class _Model(Fitted, Protocol):
    """An equation regressor."""

    prior: Any
    structures_: Any
    _fitted: FittedEquation


@in_plain_modes
def bootstrap(
    self: _Model, tasks: Any, n: int = 200, *, sample_weight: Any = None, random_state: Any = None
) -> pd.DataFrame:
    """Fit again to tasks that are simulated from the fitted population, and return what each fit learns.

    The rows of the tasks keep their X and weights; the constants of each task are drawn anew from the population, then
    the noise. A model keeps no rows: give the tasks of the fit. The spread of a column is the standard error of its
    quantity, and its quantiles are the ends of an interval, without an assumption that estimates are normal. The
    difference of its mean to the fit's value is the bias of the estimate (Efron and Tibshirani, 1993,
    :doi:`10.1201/9780429246593`).

    Parameters
    ----------
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        Their y is not looked at.
    n : int, default=200
        Number of fits, each about as long as the first.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows of all tasks, as `fit` takes them.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    DataFrame
        One row a fit: the ``value`` of each constant under its name, ``<name>_omega``, and ``noise_<name>`` of the
        noise. A fit that diverged has no row, and a warning counts these.

    Raises
    ------
    TaskError, ValueError
        When tasks or settings cannot be used, the model averages structures, or keeps a population without a fit.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import make_sinusoids
    >>> def wave(X, amplitude, phase):
    ...     return amplitude * torch.sin(X[:, 0] + phase)
    >>> tasks = make_sinusoids(12, 10, noise=0.1, random_state=0)
    >>> model = EquationRegressor(wave, {"amplitude": Parameter(2.0, lower=0), "phase": 1.5}).fit(tasks)
    >>> fits = model.bootstrap(tasks, 3, random_state=0)
    >>> fits.columns.tolist()
    ['amplitude', 'phase', 'amplitude_omega', 'phase_omega', 'noise_sd']
    """
    check_is_fitted(self)
    require_count(n, "n", 1, most=MOST_REPLICATES)
    if self.structures_ is not None or self.prior is not None:
        what = "compares structures" if self.prior is None else "keeps a population that was not fitted"
        raise ValueError(
            f"bootstrap: this model {what}; a fit with settings other than 'auto', and no prior, is wanted."
        )
    fitted = self._fitted
    require_simulated(fitted.model.noise, "bootstrap")
    taken = support_tasks(Columns(self), fitted, tasks, sample_weight, "bootstrap")
    rng = np.random.default_rng(generator_of(random_state).randint(2**31 - 1))
    rows, failures = [], 0
    for seed in rng.integers(2**31 - 1, size=int(n)).tolist():
        model = clone(self).set_params(random_state=seed, checkpoint=None, verbose=False)
        drawn = _simulated(fitted, taken, np.random.default_rng(seed))
        try:
            with quiet(Warning):
                rows.append(_learned(model.fit(drawn)))
        except DivergenceError:
            failures += 1
    if failures:
        warn(f"bootstrap: {failures} of {n} fits to simulated tasks diverged, and have no row.")
    return pd.DataFrame(rows, columns=list(_learned(self)))


def _simulated(fitted: FittedEquation, tasks: TaskSet, rng: np.random.Generator) -> TaskSet:
    """Return tasks of the same rows with constants and noise drawn from the population."""
    # the population is taken as it is: what else it may be is what the fits tell
    fitted = replace(fitted, uncertain=None)
    point = fitted.point(fitted.design_of_tasks(tasks))
    m = point.factor.shape[1]
    phi = point.constants(torch.from_numpy(rng.standard_normal((m, len(tasks)))))
    y: NDArray[np.float64] = np.empty(len(tasks.y))
    for i, (first, last) in enumerate(zip(tasks.offsets[:-1], tasks.offsets[1:], strict=True)):
        weight = None if tasks.sample_weight is None else tasks.sample_weight[first:last]
        draws = Draws(phi[:, i : i + 1], torch.ones(1, dtype=torch.float64), 1.0)
        y[first:last] = simulated(fitted, draws, tasks.X[first:last], 1, rng, weight)[0]
    names = np.repeat(tasks.names, tasks.sizes)
    drawn = TaskSet.from_arrays(tasks.X, y, names, feature_names=tasks.feature_names, sample_weight=tasks.sample_weight)
    return tasks_in_words(fitted.model.noise, drawn)


def _learned(model: Any) -> dict[str, float]:
    """Return what a fit has learned as one row."""
    population = model.population_
    return {
        **population["value"].to_dict(),
        **{f"{name}_omega": value for name, value in population["omega"].items() if name in model.covariance_.index},
        **{f"noise_{name}": value for name, value in _noise_numbers(model.noise_)},
    }


def _noise_numbers(table: Any) -> Iterable[tuple[str, float]]:
    """Return the constants of the noise by name, of several outputs by output and name."""
    if isinstance(table, pd.Series):
        return [(str(name), value) for name, value in table.items()]
    return [(f"{output}_{name}", value) for output, row in table.iterrows() for name, value in row.dropna().items()]
