"""The method ``log_likelihood`` of a fitted equation: Laplace's approximation, importance sampling, quadrature."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from metaest.estimators.arguments import require_choice, require_count
from metaest.estimators.columns import Columns, Fitted
from metaest.estimators.equations.batches import chunks, whole
from metaest.estimators.equations.checks import check_tasks, require_usable, warn_of_codes
from metaest.estimators.equations.correlation import check_times_of_tasks
from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.map_estimate import map_estimate
from metaest.estimators.equations.task_rows import support_tasks
from metaest.estimators.modes import in_plain_modes
from metaest.exceptions import TaskError, warn
from metaest.functional import Observations, PopulationParameters, SolveCode, negative_log_evidence
from metaest.functional.equations.hierarchical import Design, Point
from metaest.functional.equations.marginal import Integral, importance, quadrature
from metaest.tasks import TaskSet
from metaest.tasks.random_state import generator_of

__all__ = ["LogLikelihood", "integral_of", "log_likelihood"]

METHODS = ("laplace", "importance", "quadrature")
# constants up to which quadrature is offered: the number of nodes is a power of theirs
MOST_RANDOM = 3
MOST_NODES = 101
FEWEST_SAMPLES = 20
MOST_SAMPLES = 1_000_000
# number of equal draws that those of a task must be worth, so that their error can be told
FEW = 50
# nodes less in each dimension, with which quadrature is compared
FEWER_NODES = 2
# difference to that from which a warning says that the nodes are too few
ROUGH = 0.05


class LogLikelihood(NamedTuple):
    """The marginal log-likelihood of tasks under a fitted population.

    Attributes
    ----------
    value : float
        Sum over the tasks.
    standard_error : float
        Monte Carlo error of importance sampling; 0 of the other methods, which draw nothing.
    method : str
    tasks : DataFrame
        One row a task: ``log_likelihood``, ``standard_error``, and ``worth``, the number of equally weighted draws
        that its draws are worth (the number of nodes of quadrature, 1 of Laplace's approximation).
    """

    value: float
    standard_error: float
    method: str
    tasks: pd.DataFrame


class _Model(Fitted, Protocol):
    """A fitted equation regressor."""

    _fitted: FittedEquation


@in_plain_modes
def log_likelihood(
    self: _Model,
    tasks: Any,
    method: str = "laplace",
    *,
    n_samples: int = 2000,
    n_nodes: int = 11,
    sample_weight: Any = None,
    random_state: Any = None,
) -> LogLikelihood:
    r"""Return the marginal log-likelihood of tasks, their constants integrated out, under the fitted population.

    A model keeps no rows: give those of the fit, or others, such as tasks that were left out. Laplace's
    approximation is that of ``log_likelihood_``, with the expected second derivative, and its error is not known;
    the other methods have one that vanishes with the number of points. All that the likelihood of the fit has is in
    it: the noise, weights, errors of measurement, a limit, correlated residuals, covariates. A model that averages
    structures answers by the best of them.

    Parameters
    ----------
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
    method : {"laplace", "importance", "quadrature"}, default="laplace"
        "importance" draws the constants of each task from a Student distribution of 5 degrees of freedom around the
        most probable ones, and a tenth of them from the population. "quadrature" is adaptive Gauss-Hermite
        quadrature, for up to three constants that vary; with one node it is Laplace's approximation with the true
        second derivative.
    n_samples : int, default=2000
        Draws a task of "importance".
    n_nodes : int, default=11
        Nodes of "quadrature" in each dimension.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows of all tasks, as `adapt_many` takes them.
    random_state : int, RandomState instance or None, default=None
        Draws of "importance".

    Returns
    -------
    LogLikelihood

    Raises
    ------
    TaskError, ValueError
        When tasks or settings cannot be used; the message names task and column.

    Warns
    -----
    ConvergenceWarning
        When a search did not converge, when the draws of a task are worth fewer than 50, or when two nodes less
        change the sum of quadrature by more than 0.05.

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest_datasets import make_sinusoids
    >>> def wave(X, amplitude, phase):
    ...     return amplitude * torch.sin(X[:, 0] + phase)
    >>> tasks = make_sinusoids(30, 10, noise=0.1, random_state=0)
    >>> model = EquationRegressor(wave, {"amplitude": Parameter(2.0, lower=0), "phase": 1.5}).fit(tasks)
    >>> exact = model.log_likelihood(tasks, "importance", random_state=0)
    >>> abs(exact.value - model.log_likelihood(tasks, "quadrature").value) < 4 * exact.standard_error
    True
    """
    check_is_fitted(self)
    require_choice(method, "method", METHODS)
    require_count(n_samples, "n_samples", FEWEST_SAMPLES, most=MOST_SAMPLES)
    require_count(n_nodes, "n_nodes", 1, most=MOST_NODES)
    varying = self._fitted.varying
    if method == "quadrature" and len(varying) > MOST_RANDOM:
        names = ", ".join(self._fitted.names[k] for k in varying)
        raise ValueError(
            f"log_likelihood: method='quadrature' is for up to {MOST_RANDOM} constants that vary between tasks, and "
            f"{len(varying)} do ({names}); take method='importance'."
        )
    generator = torch.Generator().manual_seed(int(generator_of(random_state).randint(2**31 - 1)))
    where = "log_likelihood"
    if self._fitted.levels is not None:
        return _of_levels(self, tasks, method, sample_weight)
    taken = support_tasks(Columns(self), self._fitted, tasks, sample_weight, where)
    integral = integral_of(self._fitted, taken, method, int(n_samples), int(n_nodes), generator)
    return _result(method, integral, taken.names)


def integral_of(
    fitted: FittedEquation,
    tasks: TaskSet,
    method: str = "laplace",
    n_samples: int = 0,
    n_nodes: int = 0,
    generator: torch.Generator | None = None,
    where: str = "log_likelihood",
) -> Integral:
    """Return the log-likelihood of each task, a bounded number of tasks at a time."""
    check_tasks(fitted.function, tasks)
    fitted.row_accuracy.check_tasks(tasks)
    check_times_of_tasks(fitted.model.noise.correlation, tasks)
    factor = fitted.population.factor
    # variations that are zero need no dimension
    population = fitted.population._replace(factor=factor[:, factor.abs().sum(dim=0) > 0])
    design = fitted.design_of_tasks(tasks)
    parts, codes, order, rougher = [], [], [], 0.0
    for chosen in chunks(tasks.sizes):
        some, observations = design.take(torch.from_numpy(chosen)), whole(tasks, chosen)
        u, code = _most_probable(fitted, population, some, observations, tasks, chosen)
        if method == "laplace" or len(u) == 0:
            value = -negative_log_evidence(fitted.model, population, some, observations, u).detach()
            part = Integral(value, torch.zeros_like(value), torch.ones_like(value))
        else:
            point = Point.of(population, some)
            curvature = fitted.model.posterior_at(*point, observations, u).matrix
            around = fitted.model, point, observations, u, curvature
            if method == "importance":
                assert generator is not None
                part = importance(*around, n_samples, generator)
            else:
                part = quadrature(*around, *_rule(n_nodes))
                if n_nodes > FEWER_NODES:
                    rougher += float((part.value - quadrature(*around, *_rule(n_nodes - FEWER_NODES)).value).sum())
        parts.append(part)
        codes.append(code)
        order.append(chosen)
    if abs(rougher) > ROUGH:
        warn(
            f"log_likelihood: with {n_nodes - FEWER_NODES} nodes in place of {n_nodes} it is lower by {rougher:.2g}: "
            "raise n_nodes, or take method='importance', which tells its error.",
            ConvergenceWarning,
        )
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    warn_of_codes(torch.cat(codes)[back], tasks.names, where)
    return Integral(*(torch.cat(group)[back] for group in zip(*parts, strict=True)))


def _of_levels(self: _Model, tasks: Any, method: str, sample_weight: Any) -> LogLikelihood:
    """Return the log-likelihood of tasks with units within them."""
    if method != "laplace":
        raise ValueError(f"log_likelihood: with levels= there is method='laplace' only, not {method!r} yet.")
    value, names = self._fitted.levels.log_evidence(Columns(self), self._fitted, tasks, sample_weight)
    return _result(method, Integral(value, torch.zeros_like(value), torch.ones_like(value)), names)


def _rule(n_nodes: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss-Hermite quadrature for the weight function exp(-z^2 / 2)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def _most_probable(
    fitted: FittedEquation,
    population: PopulationParameters,
    design: Design,
    observations: Observations,
    tasks: TaskSet,
    chosen: NDArray[np.intp],
) -> tuple[Tensor, Tensor]:
    """Return the most probable deviations of tasks, and how their searches ended."""
    point = Point.of(population, design)
    result = map_estimate(fitted.map_solver, fitted.model, point, observations)
    bad = torch.nonzero(result.code == SolveCode.NOT_FINITE)[:, 0].tolist()
    if bad:
        name = f"task {tasks.name_of(int(chosen[bad[0]]))!r}"
        require_usable(fitted.model, point.center[:, bad[0] : bad[0] + 1], tasks[int(chosen[bad[0]])].X, name)
        raise TaskError(f"log_likelihood, {name}: the equation is not finite near the population's constants.")
    return result.u, result.code


def _result(method: str, integral: Integral, names: NDArray[Any]) -> LogLikelihood:
    """Return the result from the log-likelihoods of the tasks, with a warning where draws are worth few."""
    value, error, worth = (part.numpy() for part in integral)
    if method == "importance":
        poor = np.flatnonzero((worth < FEW) & (error > 0))
        if len(poor):
            least = int(poor[worth[poor].argmin()])
            warn(
                f"log_likelihood: the draws of task {names[least : least + 1].tolist()[0]!r} are worth "
                f"{worth[least]:.0f} equal ones ({len(poor)} such tasks), so that the Monte Carlo error itself is "
                "rough; raise n_samples.",
                ConvergenceWarning,
            )
    table = pd.DataFrame(
        {"log_likelihood": value, "standard_error": error, "worth": worth},
        index=pd.Index(names, name="task", tupleize_cols=False),
    )
    return LogLikelihood(float(value.sum()), float(np.sqrt(np.square(error).sum())), method, table)
