r"""The hierarchical model of an equation: constants that are normal between tasks, in an unconstrained space.

.. math:: y_{ti} = f(x_{ti}, \theta_t) + \varepsilon_{ti}, \qquad \theta_t = g(\varphi_t), \qquad
          \varphi_t = M_t \beta + A u_t, \qquad u_t \sim N(0, I).

:math:`\beta` holds the population's constants and the coefficients of task covariates, :math:`A A^\top` is the
covariance between tasks, with rows of zeros for shared constants. Working with :math:`u` instead of :math:`\varphi`
lets a standard deviation shrink to exactly zero.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations import small_matrices
from metaest.functional.equations.correlated import correlated_information, correlated_loss
from metaest.functional.equations.equation import Equation, Observations
from metaest.functional.equations.noise import Noise
from metaest.functional.equations.transforms import Transforms

# step of differences of gradients, in standard deviations between tasks: an equation bends little over it
DIFFERENCE = 1e-5
# number of products of slopes up to which one operation forms them all: fewer calls repay the half that is not used
FEW = 2**14

__all__ = [
    "DIFFERENCE",
    "Design",
    "HierarchicalModel",
    "Information",
    "Point",
    "PopulationParameters",
    "true_curvature",
]


class Design(NamedTuple):
    r"""The design matrices :math:`M_t`: how population coefficients enter the constants of each task.

    Attributes
    ----------
    constant : integer Tensor of shape (coefficients,)
        The constant each coefficient belongs to; the first ones are 0, 1, ... with multiplier 1.
    multiplier : Tensor of shape (coefficients, tasks)
        1, or the value of a covariate.
    """

    constant: Tensor
    multiplier: Tensor

    def center(self, beta: Tensor, n_constants: int) -> Tensor:
        """Return the prior centre of the constants of each task, of shape (constants, tasks)."""
        if beta.shape[0] == n_constants:  # no covariates
            return beta[:, None] * self.multiplier
        zeros = beta.new_zeros(n_constants, self.multiplier.shape[1])
        return zeros.index_add(0, self.constant, beta[:, None] * self.multiplier)

    def take(self, tasks: Tensor) -> "Design":
        """Return the design of the chosen tasks."""
        return Design(self.constant, self.multiplier[:, tasks])


class PopulationParameters(NamedTuple):
    """The parameters learned from all tasks.

    Attributes
    ----------
    beta : Tensor of shape (coefficients,)
    factor : Tensor of shape (constants, random)
        A of the module's formula.
    log_sigma : Tensor of shape (noise constants,)
    """

    beta: Tensor
    factor: Tensor
    log_sigma: Tensor

    def detach(self) -> "PopulationParameters":
        """Return the same numbers without a graph."""
        return PopulationParameters(*(part.detach() for part in self))


class Point(NamedTuple):
    """A population as the search for constants takes it: constants are ``center + factor @ u`` with u standard normal.

    Attributes
    ----------
    center : Tensor of shape (constants, tasks)
        Prior means in the unconstrained space, shifted by the covariates of each task.
    factor : Tensor of shape (constants, random)
        A root of the covariance between tasks.
    log_sigma : Tensor of shape (noise constants,)
    """

    center: Tensor
    factor: Tensor
    log_sigma: Tensor

    @classmethod
    def of(cls, population: PopulationParameters, design: Design) -> "Point":
        """Return the point of a population for the tasks of a design."""
        center = design.center(population.beta, population.factor.shape[0])
        return cls(center, population.factor, population.log_sigma)

    def take(self, tasks: Tensor) -> "Point":
        """Return the point for some of the tasks, by number."""
        return self._replace(center=self.center[:, tasks])

    def constants(self, u: Tensor) -> Tensor:
        """Return the unconstrained constants of tasks that deviate by u, of shape (random, tasks)."""
        return self.center + self.factor @ u


class Information(NamedTuple):
    """The likelihood of each task at given constants, with its gradient and expected second derivative.

    Attributes
    ----------
    loss : Tensor of shape (tasks,)
        Negative log-likelihood.
    gradient : Tensor of shape (constants, tasks)
        Gradient of the loss in the unconstrained constants.
    matrix : Tensor of shape (constants, constants, tasks)
        Expected second derivative (Fisher information; Gauss and Newton's for additive noise), never negative.
    """

    loss: Tensor
    gradient: Tensor
    matrix: Tensor

    def in_random_directions(self, factor: Tensor, u: Tensor) -> "Information":
        """Return loss, gradient and second derivative in u, with the prior of u (without its constant)."""
        m = factor.shape[1]
        eye = torch.eye(m, dtype=u.dtype, device=u.device)[..., None]
        return Information(
            self.loss + 0.5 * u.square().sum(dim=0),
            factor.T @ self.gradient + u,
            small_matrices.sandwich(factor.T, self.matrix) + eye,
        )


@dataclass(frozen=True)
class HierarchicalModel:
    """An equation with the transforms of its constants and its noise.

    Parameters
    ----------
    equation : Equation
    transforms : Transforms
    noise : Noise
    """

    equation: Equation
    transforms: Transforms
    noise: Noise

    def curve(self, phi: Tensor, observations: Observations) -> Tensor:
        """Return the values, of shape (rows, tasks), at unconstrained constants of shape (constants, tasks)."""
        return self.equation.values(self.transforms.constrain(phi), observations)

    def curve_and_slopes(
        self, phi: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the values, (rows, tasks), and slopes in the unconstrained constants, (constants, rows, tasks)."""
        theta = self.transforms.constrain(phi)
        values, slopes = self.equation.values_and_slopes(theta, observations, differentiable=differentiable)
        return values, torch.stack(slopes) * self.transforms.slope(phi)[:, None]

    def predicted(self, phi: Tensor, log_sigma: Tensor, observations: Observations) -> Tensor:
        """Return what is predicted of observations, (rows, tasks): the curve, or the mean where they are not normal."""
        values = self.curve(phi, self.noise.evaluated_at(observations))
        return self.noise.predicted(values, observations, log_sigma)

    def loss(self, phi: Tensor, log_sigma: Tensor, observations: Observations) -> Tensor:
        """Return the negative log-likelihood of each task, of shape (tasks,)."""
        observations = self.noise.evaluated_at(observations)
        return self.loss_of_curve(self.curve(phi, observations), log_sigma, observations)

    def loss_of_curve(self, values: Tensor, log_sigma: Tensor, observations: Observations) -> Tensor:
        """Return the negative log-likelihood of each task from the values of its curve, of shape (rows, tasks).

        They are those at the rows of `Noise.evaluated_at`, as `observations` are.
        """
        if self.noise.correlation is not None:
            return correlated_loss(self.noise, values, log_sigma, observations)
        terms = self.noise.terms(values, observations.y, log_sigma, self.noise.accuracy(observations))
        return observations.masked(terms.loss).sum(dim=0)

    def losses_at(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, points: Tensor
    ) -> Tensor:
        """Return the rows' loss of each task at some deviations, of shape (tasks, points).

        Parameters
        ----------
        center : Tensor of shape (constants, tasks)
        factor : Tensor of shape (constants, random)
        log_sigma : Tensor of shape (noise constants,)
        observations : Observations
        points : Tensor of shape (random, points)
        """
        tasks, n = center.shape[1], points.shape[1]
        repeated = torch.arange(tasks, device=center.device).repeat_interleave(n)
        phi = center[:, repeated] + factor @ points.repeat(1, tasks)
        return self.loss(phi, log_sigma, observations.take(repeated)).reshape(tasks, n)

    def posterior_at(
        self, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, u: Tensor
    ) -> Information:
        """Return the negative log-posterior of u with its gradient and second derivative.

        The second derivative is the true one, from differences of the exact gradient: the points around u are further
        tasks of the same batch, which costs less than differentiating twice, and stays finite where torch's second
        derivative does not. Where it is not positive definite, the expected one stands in its place.

        Returns
        -------
        Information
            In u, of shapes (tasks,), (random, tasks) and (random, random, tasks); detached.
        """
        m, tasks = u.shape
        with torch.no_grad():
            shifts = DIFFERENCE * torch.cat([u.new_zeros(1, m), torch.eye(m).to(u), -torch.eye(m).to(u)])
            points = (u[:, None] + shifts.T[:, :, None]).reshape(m, -1)
            numbers = torch.arange(tasks, device=u.device).repeat(1 + 2 * m)
            phi = center[:, numbers] + factor @ points
            around = self.information(phi, log_sigma, observations.take(numbers)).in_random_directions(factor, points)
            shifted = around.gradient.reshape(m, 1 + 2 * m, tasks)[:, 1:].transpose(0, 1)
            true = true_curvature(shifted, around.matrix[..., :tasks])
        return Information(around.loss[:tasks], around.gradient[:, :tasks], true)

    def searched(
        self, solver: Any, center: Tensor, factor: Tensor, log_sigma: Tensor, observations: Observations, u: Tensor
    ) -> Any:
        """Return the result of a solver's search from u, or None; a subclass may have a faster search."""
        return None

    def information_and_curvature(
        self, phi: Tensor, log_sigma: Tensor, observations: Observations
    ) -> tuple[Information, Tensor] | None:
        """Return what `information` does, and the true second derivative of the loss, where a subclass knows it."""
        return None

    def information(
        self, phi: Tensor, log_sigma: Tensor, observations: Observations, *, differentiable: bool = False
    ) -> Information:
        """Return the likelihood of each task, its gradient and its expected second derivative in the constants.

        Parameters
        ----------
        phi : Tensor of shape (constants, tasks)
        log_sigma : Tensor of shape (noise constants,)
        observations : Observations
        differentiable : bool, default=False
            Whether the result can be differentiated in `phi`, `log_sigma` and whatever they were made of.

        Returns
        -------
        Information
        """
        observations = self.noise.evaluated_at(observations)
        theta = self.transforms.constrain(phi)
        values, D = self.equation.values_and_slopes(theta, observations, differentiable=differentiable)
        # the transform's slope belongs to a task and not to its rows: multiply after summing over rows
        slope = self.transforms.slope(phi)
        if self.noise.correlation is not None:
            loss, gradient, matrix = correlated_information(self.noise, values, D, log_sigma, observations)
            return Information(loss, slope * gradient, matrix * (slope[:, None] * slope))
        terms = self.noise.terms(values, observations.y, log_sigma, self.noise.accuracy(observations))
        first = observations.masked(terms.slope)
        one_weight = terms.weight.ndim == 0
        p = len(D)
        if p * p * values.numel() <= FEW:
            stacked = torch.stack(D)
            gradient = slope * (first * stacked).sum(dim=1)
            weighted = observations.masked(stacked if one_weight else terms.weight * stacked)
            matrix = (stacked[:, None] * weighted).sum(dim=2)
        else:
            gradient = slope * torch.stack([(first * d).sum(dim=0) for d in D])
            parts = [observations.masked(d if one_weight else terms.weight * d) for d in D]
            rows: list[list[Tensor]] = []
            for k in range(p):
                rows.append([rows[j][k] if j < k else (parts[k] * D[j]).sum(dim=0) for j in range(p)])
            matrix = torch.stack([entry for row in rows for entry in row]).reshape(p, p, -1)
        matrix = matrix * (slope[:, None] * slope) * (terms.weight if one_weight else 1.0)
        return Information(observations.masked(terms.loss).sum(dim=0), gradient, matrix)


def true_curvature(gradients: Tensor, expected: Tensor) -> Tensor:
    """Return second derivatives from gradients around a point, and the expected ones where they are not definite.

    Parameters
    ----------
    gradients : Tensor of shape (2 m, m, tasks)
        At the point moved by ``DIFFERENCE`` in each direction, then by minus that.
    expected : Tensor of shape (m, m, tasks)
    """
    m = len(expected)
    if m == 0:
        return expected
    true = (gradients[:m] - gradients[m:]) / (2 * DIFFERENCE)
    true = 0.5 * (true + true.transpose(0, 1))
    definite = torch.isfinite(small_matrices.cholesky(true)[-1][-1])
    return torch.where(definite, true, expected)
