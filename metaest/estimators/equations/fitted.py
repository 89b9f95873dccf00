r"""A fitted equation: its population, and the posterior of the constants of tasks before and after their rows.

In the unconstrained space the posterior is normal around the most probable constants. Its covariance has two parts:
that of the deviation of the task, :math:`A H^{-1} A^\top`, and what the uncertainty of the population leaves,
:math:`K M\, \mathrm{Cov}(\hat\beta)\, M^\top K^\top` with :math:`K = I - A H^{-1} A^\top P`. For a linear equation
their sum is the prediction error of the best linear unbiased predictor (Henderson, 1975, :doi:`10.2307/2529430`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.censoring import shown
from metaest.estimators.equations.covariates import Covariates, TimeVaryingEquation
from metaest.estimators.equations.map_estimate import map_estimate_and_misfit
from metaest.estimators.equations.row_accuracy import RowAccuracy
from metaest.estimators.equations.uncertain import UncertainPopulation
from metaest.exceptions import TaskError
from metaest.functional import (
    GaussNewton,
    GradientDescent,
    HierarchicalModel,
    Observations,
    PopulationParameters,
    SolveCode,
)
from metaest.functional.equations import small_matrices
from metaest.functional.equations.censoring import Bounds
from metaest.functional.equations.gradient_descent import descend
from metaest.functional.equations.hierarchical import Design, Point
from metaest.functional.equations.outputs import OutputNoise
from metaest.population.parameter import Parameter
from metaest.tasks import TaskSet

__all__ = ["IDENTIFIED", "FittedEquation", "Posterior"]

# misfit from which a task is reported as unlike those of the fit: few tasks estimate their spread poorly, and noise is
# seldom quite normal, so that it is four times the sum of squares that one task in 100,000 exceeds
UNLIKELY = 4.0
# shrinkage up to which a constant is identified: the rows say as much about it as the population does
IDENTIFIED = 0.5


class Posterior(NamedTuple):
    """The posterior of the constants of many tasks, in the unconstrained space.

    Attributes
    ----------
    phi : Tensor of shape (constants, tasks)
        The most probable constants.
    covariance : Tensor of shape (constants, constants, tasks)
    deviation : Tensor of shape (random, random, tasks)
        Covariance of u, the deviation of the task from the population.
    information : Tensor of shape (constants, constants, tasks)
        Information of the rows about the constants.
    loss : Tensor of shape (tasks,)
        Negative log-posterior.
    code : integer Tensor of shape (tasks,)
        A :class:`~metaest.functional.SolveCode`.
    unlikely : boolean Tensor of shape (tasks,)
        Whether the rows are improbable under the population.
    """

    phi: Tensor
    covariance: Tensor
    deviation: Tensor
    information: Tensor
    loss: Tensor
    code: Tensor
    unlikely: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Logarithm of the evidence of each task's rows by Laplace's approximation, of shape (tasks,); 0 without rows.

        It is that of a posterior at its mode, which gradient steps are not.
        """
        return 0.5 * torch.logdet(self.deviation.permute(2, 0, 1)) - self.loss

    def take(self, tasks: Any) -> "Posterior":
        """Return the posterior of the chosen tasks."""
        return Posterior(*(part[..., tasks] for part in self))

    @classmethod
    def join(cls, parts: list["Posterior"]) -> "Posterior":
        """Put tasks side by side."""
        return cls(*(torch.cat(group, dim=-1) for group in zip(*parts, strict=True)))


@dataclass(frozen=True, eq=False)
class FittedEquation:
    """An equation with its population: the part that a fitted model and everything adapted from it share unchanged.

    Attributes
    ----------
    table : dict of str to Parameter
    model : HierarchicalModel
    population : PopulationParameters
    covariates : Covariates
    beta_covariance : Tensor of shape (coefficients, coefficients)
    undetermined : tuple of int
        Coefficients that nothing determines; their variance is infinite and stands as zero in `beta_covariance`.
    random : tuple of int
        Constants that vary between tasks.
    flat : tuple of int
        Constants among `random` that show no variation.
    solver : GaussNewton or GradientDescent
        How tasks adapt.
    unit : float
        Standard deviation of the training targets; the scale of gradient steps.
    row_accuracy : RowAccuracy
    uncertain : UncertainPopulation or None
        What the population may be, where few tasks leave it open and that is counted.
    levels : FittedLevels or None
        Units within tasks; the factor of the population is then that of all levels together.
    """

    table: dict[str, Parameter]
    model: HierarchicalModel
    population: PopulationParameters
    covariates: Covariates
    beta_covariance: Tensor
    undetermined: tuple[int, ...]
    random: tuple[int, ...]
    flat: tuple[int, ...]
    solver: GaussNewton | GradientDescent
    unit: float
    row_accuracy: RowAccuracy = field(default_factory=RowAccuracy)
    uncertain: UncertainPopulation | None = None
    levels: Any = None

    @property
    def names(self) -> list[str]:
        """Names of the constants."""
        return list(self.table)

    @property
    def given_names(self) -> list[str]:
        """Names of the constants that the equation was given with: without coefficients of columns that vary."""
        return self.names if self.by_row is None else list(self.by_row.names)

    @property
    def given_table(self) -> dict[str, Parameter]:
        """Of these, the parameters."""
        return {name: self.table[name] for name in self.given_names}

    @property
    def varying(self) -> list[int]:
        """Constants that do vary between tasks."""
        return [k for k in self.random if k not in self.flat]

    @property
    def function(self) -> Any:
        """The equation as it is evaluated."""
        return self.model.equation.function

    @property
    def given_function(self) -> Any:
        """The equation as it was given."""
        return self.function if self.by_row is None else self.by_row.function

    @property
    def by_row(self) -> TimeVaryingEquation | None:
        """The equation with constants that follow columns from row to row; None where none does."""
        return self.function if isinstance(self.function, TimeVaryingEquation) else None

    @property
    def covariate_columns(self) -> tuple[int, ...]:
        """Numbers of the columns of X that are covariates, those that vary within a task last."""
        return (*self.covariates.columns, *(() if self.by_row is None else self.by_row.covariates.columns))

    def stated(self, given: Mapping[Any, float] | None, names: Any, n_columns: int) -> dict[int, float]:
        """Return the covariates stated for a task without rows; see :meth:`Covariates.stated`.

        Raises
        ------
        TaskError
            When one is stated that differs between rows.
        """
        values = self.covariates.stated(given, names, n_columns)
        for column in () if self.by_row is None else self.by_row.covariates.columns:
            if column in values and column not in self.covariates.columns:
                label = column if names is None else names[column]
                raise TaskError(
                    f"adapt: the covariate {str(label)!r} differs between the rows of a task (time_varying); the rows "
                    "that are predicted bring it."
                )
        return values

    @property
    def limit(self) -> float | str | None:
        """Limit of quantification."""
        return shown(self.model.noise.limit)

    @property
    def outputs(self) -> tuple[Any, ...]:
        """What the user calls the outputs; none where there is one."""
        noise = self.model.noise
        return noise.labels if isinstance(noise, OutputNoise) else ()

    @property
    def output_column(self) -> int | None:
        """The column of X with the output of each row; None where there is one output."""
        noise = self.model.noise
        return noise.by.number if isinstance(noise, OutputNoise) else None

    @property
    def bounds(self) -> Bounds:
        """What is known by an interval."""
        return self.model.noise.bounds

    @property
    def gradient_steps(self) -> GradientDescent | None:
        """The gradient steps by which tasks adapt; None where they adapt by a MAP estimate."""
        return self.solver if isinstance(self.solver, GradientDescent) else None

    @property
    def map_solver(self) -> GaussNewton:
        """The solver of MAP estimates, also where tasks adapt by gradient steps."""
        return self.solver if isinstance(self.solver, GaussNewton) else GaussNewton()

    @property
    def by_gradient_steps(self) -> bool:
        """Whether tasks adapt by gradient steps, which end short of the posterior's mode, and not by a MAP estimate."""
        return self.gradient_steps is not None

    @property
    def beta_error(self) -> Tensor:
        """Standard errors of the coefficients, infinite where nothing determines one."""
        error = self.beta_covariance.diagonal().clamp(min=0).sqrt()
        error[list(self.undetermined)] = torch.inf
        return error

    @property
    def prior_variance(self) -> Tensor:
        """Variance of each constant between tasks, of shape (constants,)."""
        return self.population.factor.square().sum(dim=1)

    def design(self, covariates: NDArray[Any]) -> Design:
        """Return how coefficients enter the constants of tasks with covariates of shape (tasks, coefficients)."""
        return self.covariates.design(covariates, len(self.table))

    def design_of_tasks(self, tasks: TaskSet) -> Design:
        """Return the design of tasks, whose rows bring their covariates."""
        return self.design(self.covariates.of_tasks(tasks, self.function))

    def point(self, design: Design) -> Point:
        """Return the population as the tasks of a design see it."""
        return Point.of(self.population, design)

    def prior_of(self, covariates: NDArray[Any]) -> Posterior:
        """Return the prior of one task with these covariates, of shape (coefficients,)."""
        return self.prior(self.design(covariates[None]))

    def prior(self, design: Design) -> Posterior:
        """Return the prior of tasks: their posterior without a row."""
        center = self.point(design).center
        no_information = center.new_zeros(len(center), *center.shape)
        tasks = center.shape[1]
        converged = torch.full((tasks,), int(SolveCode.CONVERGED))
        return self.posterior_at(center, design, no_information, center.new_zeros(tasks), converged)

    def posterior(self, design: Design, observations: Observations) -> Posterior:
        """Adapt to the rows of many tasks."""
        point = self.point(design)
        log_sigma = point.log_sigma
        if self.gradient_steps is not None:
            phi, code = descend(self.model, self.gradient_steps, self.unit, point.center, observations)
            loss = self.model.loss(phi, log_sigma, observations)
            # gradient steps end short of the best curve, so that a misfit there says nothing about the rows
            unlikely = torch.zeros_like(code, dtype=torch.bool)
        else:
            result, far = map_estimate_and_misfit(self.map_solver, self.model, point, observations)
            phi, loss, code = point.constants(result.u), result.loss, result.code
            unlikely = far > UNLIKELY
        with torch.no_grad():
            info = self.model.information(phi, log_sigma, observations)
        return self.posterior_at(phi, design, info.matrix, loss, code)._replace(unlikely=unlikely)

    def posterior_at(self, phi: Tensor, design: Design, matrix: Tensor, loss: Tensor, code: Tensor) -> Posterior:
        """Return the posterior of tasks at given constants, from the information of their rows, (p, p, tasks)."""
        factor = self.population.factor
        p, tasks = phi.shape
        m = factor.shape[1]
        along = (factor.T @ matrix.reshape(p, -1)).reshape(m, p, tasks)  # A' P
        inner = small_matrices.sandwich(factor.T, matrix) + torch.eye(m, dtype=phi.dtype)[..., None]
        deviation = small_matrices.inverse(small_matrices.cholesky(inner), inner)
        covariance = small_matrices.sandwich(factor, deviation)
        # M as a matrix for each task, then K M
        index, z = design
        entering = torch.zeros(p, len(index), tasks, dtype=phi.dtype)
        entering[index, torch.arange(len(index))] = z
        if m:
            pulled = torch.einsum("mpt,pbt->mbt", along, entering)
            entering = entering - torch.einsum("km,mbt->kbt", factor, torch.einsum("mnt,nbt->mbt", deviation, pulled))
        scattered = torch.einsum("kbt,bc->kct", entering, self.beta_covariance)
        covariance = covariance + torch.einsum("kct,jct->kjt", scattered, entering)
        return Posterior(phi, covariance, deviation, matrix, loss, code, torch.zeros_like(code, dtype=torch.bool))

    def mixed(self, posterior: Posterior, prior: Posterior, share: Any) -> Posterior:
        """Return the moments of a mixture of posterior and prior.

        `share` is that of the posterior: a number, or a Tensor of shape (tasks,).
        """
        away = posterior.phi - prior.phi
        apart = share * (1 - share) * away[:, None] * away[None]
        blend = {
            name: share * getattr(posterior, name) + (1 - share) * getattr(prior, name)
            for name in ("phi", "covariance", "deviation", "information")
        }
        return posterior._replace(**{**blend, "covariance": blend["covariance"] + apart})

    def shrinkage(self, posterior: Posterior) -> Tensor:
        """Return the share of each constant's variance between tasks that the rows leave; 1 where there is none."""
        left = small_matrices.sandwich(self.population.factor, posterior.deviation)
        prior = self.prior_variance
        left = torch.stack([left[k, k] for k in range(len(prior))])
        return torch.where(prior[:, None] > 0, left / prior.clamp(min=1e-300)[:, None], 1.0).clamp(max=1.0)
