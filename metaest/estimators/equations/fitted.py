r"""What is known of the constants of a task, before and after its rows.

In the unconstrained space the posterior is normal around the most probable constants. Its covariance has two parts:
that of the task's own deviation, :math:`A H^{-1} A^\top`, and what the uncertainty of the population leaves,
:math:`K M\, \mathrm{Cov}(\hat\beta)\, M^\top K^\top` with :math:`K = I - A H^{-1} A^\top P`. For a linear equation
their sum is the prediction error of the best linear unbiased predictor (Henderson, 1975, :doi:`10.2307/2529430`).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.estimators.equations.covariates import Covariates
from metaest.estimators.equations.map_estimate import misfit, most_probable
from metaest.estimators.equations.parameter import Parameter
from metaest.estimators.equations.row_accuracy import Weighing
from metaest.functional import (
    GaussNewton,
    GradientDescent,
    HierarchicalModel,
    Observations,
    Population,
    SolveCode,
)
from metaest.functional.equations import small_matrices
from metaest.functional.equations.gradient_descent import descend
from metaest.functional.equations.hierarchical import Design

__all__ = ["Calibrated", "Posterior"]

# few tasks tell their own spread poorly, and noise is seldom quite normal: twice as far as one task in 100,000
UNLIKELY = 4.0


class Posterior(NamedTuple):
    """What is known of the constants of many tasks, in the unconstrained space.

    Attributes
    ----------
    phi : Tensor of shape (constants, tasks)
        The most probable ones.
    covariance : Tensor of shape (constants, constants, tasks)
    own : Tensor of shape (random, random, tasks)
        Covariance of the task's own deviation u.
    information : Tensor of shape (constants, constants, tasks)
        What the rows say.
    loss : Tensor of shape (tasks,)
    code : integer Tensor of shape (tasks,)
        A :class:`~metaest.functional.SolveCode`.
    unlikely : boolean Tensor of shape (tasks,)
        Whether the rows are improbable under the population.
    """

    phi: Tensor
    covariance: Tensor
    own: Tensor
    information: Tensor
    loss: Tensor
    code: Tensor
    unlikely: Tensor

    def take(self, tasks: Any) -> "Posterior":
        """Return that of the chosen tasks."""
        return Posterior(*(part[..., tasks] for part in self))

    @classmethod
    def join(cls, parts: list["Posterior"]) -> "Posterior":
        """Put tasks side by side."""
        return cls(*(torch.cat(group, dim=-1) for group in zip(*parts, strict=True)))


@dataclass(frozen=True, eq=False)
class Calibrated:
    """An equation with its population: what a fitted model and everything adapted from it share, and never change.

    Attributes
    ----------
    table : dict of str to Parameter
    model : HierarchicalModel
    population : Population
    covariates : Covariates
    beta_covariance : Tensor of shape (coefficients, coefficients)
    undetermined : tuple of int
        Coefficients that nothing determines; their variance is infinite and stands as zero in `beta_covariance`.
    random : tuple of int
        Constants that vary between tasks.
    flat : tuple of int
        Of these, the ones that show no variation.
    solver : GaussNewton or GradientDescent
        How tasks adapt.
    unit : float
        Standard deviation of the training targets; the scale of gradient steps.
    weighing : Weighing
    """

    table: dict[str, Parameter]
    model: HierarchicalModel
    population: Population
    covariates: Covariates
    beta_covariance: Tensor
    undetermined: tuple[int, ...]
    random: tuple[int, ...]
    flat: tuple[int, ...]
    solver: GaussNewton | GradientDescent
    unit: float
    weighing: Weighing = field(default_factory=Weighing)

    @property
    def names(self) -> list[str]:
        """Names of the constants."""
        return list(self.table)

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

    def prior(self, design: Design) -> Posterior:
        """Return what is known of tasks without a row."""
        center = design.center(self.population.beta, len(self.table))
        nothing = center.new_zeros(len(center), *center.shape)
        tasks = center.shape[1]
        return self.posterior_at(
            center, design, nothing, center.new_zeros(tasks), torch.full((tasks,), int(SolveCode.CONVERGED))
        )

    def posterior(self, design: Design, observations: Observations) -> Posterior:
        """Adapt to the rows of many tasks."""
        center = design.center(self.population.beta, len(self.table))
        factor, log_sigma = self.population.factor, self.population.log_sigma
        if isinstance(self.solver, GradientDescent):
            phi, code = descend(self.model, self.solver, self.unit, center, observations)
            loss = self.model.loss(phi, log_sigma, observations)
        else:
            found = most_probable(self.solver, self.model, center, factor, log_sigma, observations)
            phi, loss, code = center + factor @ found.u, found.loss, found.code
        with torch.no_grad():
            known = self.model.information(phi, log_sigma, observations)
        # gradient steps end short of the best curve: theirs says nothing
        far = misfit(self.model, phi, loss, log_sigma, observations) > UNLIKELY
        unlikely = far & torch.tensor(isinstance(self.solver, GaussNewton))
        return self.posterior_at(phi, design, known.matrix, loss, code)._replace(unlikely=unlikely)

    def posterior_at(self, phi: Tensor, design: Design, matrix: Tensor, loss: Tensor, code: Tensor) -> Posterior:
        """Return what is known of tasks at given constants, from the information of their rows, (p, p, tasks)."""
        factor = self.population.factor
        p, tasks = phi.shape
        m = factor.shape[1]
        along = (factor.T @ matrix.reshape(p, -1)).reshape(m, p, tasks)  # A' P
        inner = small_matrices.sandwich(factor.T, matrix) + torch.eye(m, dtype=phi.dtype)[..., None]
        own = small_matrices.inverse(small_matrices.cholesky(inner), inner)
        covariance = small_matrices.sandwich(factor, own)
        # M as a matrix for each task, then K M
        index, z = design
        entering = torch.zeros(p, len(index), tasks, dtype=phi.dtype)
        entering[index, torch.arange(len(index))] = z
        if m:
            pulled = torch.einsum("mpt,pbt->mbt", along, entering)
            entering = entering - torch.einsum("km,mbt->kbt", factor, torch.einsum("mnt,nbt->mbt", own, pulled))
        scattered = torch.einsum("kbt,bc->kct", entering, self.beta_covariance)
        covariance = covariance + torch.einsum("kct,jct->kjt", scattered, entering)
        return Posterior(phi, covariance, own, matrix, loss, code, torch.zeros_like(code, dtype=torch.bool))

    def mixed(self, posterior: Posterior, prior: Posterior, share: Any) -> Posterior:
        """Return the moments of a mixture of what is known with and without the rows.

        `share` is that of the rows: a number, or a Tensor of shape (tasks,).
        """
        away = posterior.phi - prior.phi
        apart = share * (1 - share) * away[:, None] * away[None]
        blend = {
            name: share * getattr(posterior, name) + (1 - share) * getattr(prior, name)
            for name in ("phi", "covariance", "own", "information")
        }
        return posterior._replace(**{**blend, "covariance": blend["covariance"] + apart})

    def shrinkage(self, posterior: Posterior) -> Tensor:
        """Share of a constant's variance between tasks that its rows leave; 1 where there is none."""
        left = small_matrices.sandwich(self.population.factor, posterior.own)
        prior = self.prior_variance
        left = torch.stack([left[k, k] for k in range(len(prior))])
        return torch.where(prior[:, None] > 0, left / prior.clamp(min=1e-300)[:, None], 1.0).clamp(max=1.0)
