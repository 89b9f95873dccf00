"""The problem of a fit: which equation is fitted to which rows, and a population at which its search ended."""

from dataclasses import replace
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equations.fit_checkpoint import FitCheckpoint
from metaest.estimators.equations.map_estimate import map_estimate, search_widely
from metaest.estimators.equations.row_model import RowModel
from metaest.functional import (
    GaussNewton,
    HierarchicalModel,
    Observations,
    PopulationParameters,
    negative_log_evidence,
)
from metaest.functional.equations.gauss_newton import MapResult
from metaest.functional.equations.hierarchical import Design, Point

__all__ = ["Held", "Optimum", "PopulationPrior", "Problem", "runs_off"]

# log-likelihood that a coefficient moved by its standard error loses at least, a tenth of a half
LEAST_LOSS = 0.05


class PopulationPrior(Protocol):
    """A prior of the parameters of a population.

    Attributes
    ----------
    free : tuple of int
        Coefficients that are fitted.
    precision : Tensor of shape (free, free)
        Of these.
    """

    @property
    def free(self) -> tuple[int, ...]:
        """Coefficients that are fitted."""

    @property
    def precision(self) -> Tensor:
        """Precision of the coefficients that are fitted."""

    def loss(self, population: PopulationParameters) -> Tensor:
        """Return the negative logarithm of the prior."""


class Held(NamedTuple):
    """One parameter of the population that stays as it is.

    Attributes
    ----------
    kind : {"coefficient", "sd", "noise"}
        A coefficient; the standard deviation between tasks of the first constant among `Problem.random`; a constant of
        the noise.
    place : int
        Number of the coefficient, or of the constant of the noise.
    """

    kind: Literal["coefficient", "sd", "noise"]
    place: int = 0


class Problem(NamedTuple):
    """An equation, the rows it is fitted to, and how the constants of their tasks are found.

    Attributes
    ----------
    model : HierarchicalModel
    design : Design
    observations : Observations
        All rows, or the support rows of the episodes.
    query : Observations or None
        The query rows of the episodes; None for the evidence.
    random : list of int
        The constants that vary between tasks.
    diagonal : bool
        Whether they vary independently.
    smallest_log_sigma : Tensor of shape (noise constants,)
    solver : GaussNewton
    checkpoint : FitCheckpoint
        Where results of the long steps are kept.
    prior : PopulationPrior or None
        Of the parameters of the population.
    held : Held or None
        The parameter that is not fitted.
    n_nodes : int
        Nodes of the evidence's quadrature in each direction; 1 is Laplace's approximation.
    """

    model: HierarchicalModel
    design: Design
    observations: Observations
    query: Observations | None
    random: list[int]
    diagonal: bool
    smallest_log_sigma: Tensor
    solver: GaussNewton
    checkpoint: FitCheckpoint = FitCheckpoint()
    prior: PopulationPrior | None = None
    held: Held | None = None
    n_nodes: int = 1

    def with_independent_rows(self) -> "Problem":
        """Return the problem without a correlation of the residuals."""
        if self.model.noise.correlation is None:
            return self
        model = replace(self.model, noise=replace(self.model.noise, correlation=None))
        return self._replace(model=model, smallest_log_sigma=self.smallest_log_sigma[:-1])

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return self.observations.y.shape[1]

    def at(self, population: PopulationParameters) -> Point:
        """Return the prior of every task under a population."""
        return Point.of(population, self.design)

    def solve(self, population: PopulationParameters, u: Tensor | None = None) -> MapResult:
        """Search the constants of every task once, from u or from zero; `map_estimate` searches doubtful ones again."""
        return self.solver.solve(self.model, *self.at(population), self.observations, u)

    def map_estimate(self, population: PopulationParameters, u: Tensor) -> MapResult:
        """Find the most probable constants of every task from u, and from other starts where that leaves doubt."""
        return map_estimate(self.solver, self.model, self.at(population), self.observations, u)

    def search_widely(
        self, solver: GaussNewton, population: PopulationParameters, u: Tensor
    ) -> tuple[MapResult, Tensor]:
        """Search every task from u and from points spread over the population; return the gain over u as well."""
        return search_widely(solver, self.model, self.at(population), self.observations, u)

    def log_evidence(self, population: PopulationParameters, u: Tensor) -> float:
        """Return the log-evidence of all tasks, whose most probable deviations are u; minus infinity if not finite."""
        if isinstance(self.model, RowModel):
            evidence = self.model.evidence(*self.at(population), self.observations, u)
            if evidence is not None:
                return -float(evidence.loss.sum())
        losses = negative_log_evidence(self.model, population, self.design, self.observations, u, self.n_nodes)
        value = -float(losses.detach().sum())
        return value if np.isfinite(value) else -np.inf


class Optimum(NamedTuple):
    """The population at which a search ended.

    Attributes
    ----------
    population : PopulationParameters
    u : Tensor of shape (random, tasks)
        The most probable deviations of the tasks.
    loss : float
        Negative log-evidence of all tasks, or the mean negative log-density of a query row times the number of tasks.
    n_iter : int
    message : str
        Empty where the search converged.
    """

    population: PopulationParameters
    u: Tensor
    loss: float
    n_iter: int
    message: str


def runs_off(problem: Problem, optimum: Optimum, errors: Tensor, names: list[str]) -> str:
    """Return a sentence on a maximum of the likelihood of outcomes that is none; empty where it is one.

    A coefficient moved by its standard error loses about a half of log-likelihood, or more. Where it loses nothing, the
    likelihood rises on and on, as where a column separates zeros and ones; where it gains, the search ended early.

    Parameters
    ----------
    problem : Problem
    optimum : Optimum
    errors : Tensor of shape (coefficients,)
    names : list of str
        Of the constants.
    """

    def loss(population: PopulationParameters) -> float:
        value = -problem.log_evidence(population, problem.solve(population, optimum.u).u)
        return value - optimum.loss

    population, lost = optimum.population, dict[str, float]()
    for j, error in enumerate(errors.tolist()):
        for step in (-error, error) if 0 < error < np.inf else ():
            beta = population.beta.clone()
            beta[j] += step
            change, name = loss(population._replace(beta=beta)), names[int(problem.design.constant[j])]
            lost[name] = min(lost.get(name, np.inf), change)
    flat = [name for name, change in lost.items() if change < LEAST_LOSS]
    largest = torch.tensor(problem.model.noise.largest, dtype=torch.float64)
    gains = [change for change in lost.values() if change < -LEAST_LOSS]
    for k in range(len(population.log_sigma)):
        for step in (-0.5, 0.5):
            log_sigma = population.log_sigma.clone()
            log_sigma[k] = (log_sigma[k] + step).clamp(min=problem.smallest_log_sigma[k], max=largest[k])
            gains += [change for change in [loss(population._replace(log_sigma=log_sigma))] if change < -LEAST_LOSS]
    if gains:
        return (
            f"the search ended early: beside the fitted constants the log-likelihood is higher by {-min(gains):.3g}. "
            "Give other initial values, or another kind of noise."
        )
    if flat:
        return (
            f"the likelihood does not fall as {', '.join(flat)} grows without end: the equation foretells every row it "
            "could err in (separation). Its value is where the search ended, and its standard error means nothing."
        )
    return ""
