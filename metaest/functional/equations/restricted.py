r"""The posterior of covariance and noise given linearised tasks, the population's coefficients integrated out.

With the information :math:`P_t` of the rows of a task about its constants, and the gradient :math:`g_t` of their loss,
both at constants :math:`\hat\varphi_t`, the loss of the rows is taken as quadratic. The deviation u of a task and the
coefficients :math:`\beta` are then integrated out in closed form, the latter under a flat prior, which leaves the
restricted likelihood of covariance and noise (Patterson and Thompson, 1971, :doi:`10.1093/biomet/58.3.545`); nlme's
REML is that of the same linearisation (Lindstrom and Bates, 1990, :doi:`10.2307/2532087`). Times Jeffreys' prior,

.. math:: \pi(\theta) \propto \Big|\tfrac12 \sum_t \mathrm{tr}\, E_a G_t E_b G_t\Big|^{1/2}, \qquad
          G_t = P_t - P_t A (I + A^\top P_t A)^{-1} A^\top P_t,

with :math:`E_a` the derivative of :math:`A A^\top` in the a-th coordinate, it is the posterior. Where rows tell the
constants of their tasks, a constant of a new task follows Student's distribution of N - 1 degrees of freedom, the
classical prediction interval of a normal sample; where they do not, the prior keeps the standard deviation from zero,
as the reference prior of random effects does (Bodnar and others, 2017, :doi:`10.1002/sim.7156`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Evaluation", "LinearisedTasks", "Shape"]


class Shape(NamedTuple):
    r"""How a covariance between tasks follows from a vector of coordinates.

    The factor is lower triangular, :math:`A_{ii} = e^{\eta_i}` and :math:`A_{ij} = s_i c_{ij}` with a fixed scale s.
    The coordinates are :math:`\eta`, then the c row by row (none where constants vary independently), then the
    logarithm of a factor on all standard deviations of the noise.

    Attributes
    ----------
    random : tuple of int
        The constants that vary.
    n_constants : int
    diagonal : bool
    scale : Tensor of shape (random,)
        About the standard deviations between tasks.
    """

    random: tuple[int, ...]
    n_constants: int
    diagonal: bool
    scale: Tensor

    @property
    def lower(self) -> Tensor:
        """Rows and columns of the entries below the diagonal, of shape (2, entries)."""
        m = 0 if self.diagonal else len(self.random)
        return torch.tril_indices(m, m, offset=-1)

    @property
    def n_coordinates(self) -> int:
        """Number of coordinates."""
        return len(self.random) + self.lower.shape[1] + 1

    def factor(self, theta: Tensor) -> Tensor:
        """Return the factors of shape (points, random, random) of coordinates of shape (points, coordinates)."""
        m, (i, j) = len(self.random), self.lower
        factor = torch.diag_embed(theta[:, :m].exp())
        factor[:, i, j] = self.scale[i] * theta[:, m:-1]
        return factor

    def whole_factor(self, theta: Tensor) -> Tensor:
        """Return the factors with rows of zeros for the constants that do not vary, (points, constants, random)."""
        whole = theta.new_zeros(len(theta), self.n_constants, len(self.random))
        whole[:, list(self.random)] = self.factor(theta)
        return whole

    def coordinates(self, covariance: Tensor) -> Tensor:
        """Return the coordinates of a positive definite covariance of the constants that vary, at the same noise."""
        root, (i, j) = torch.linalg.cholesky(covariance), self.lower
        return torch.cat([root.diagonal().log(), (root / self.scale[:, None])[i, j], root.new_zeros(1)])

    def directions(self, theta: Tensor) -> Tensor:
        """Return the derivatives of A times its inverse, of shape (points, coordinates - 1, random, random)."""
        factor, m = self.factor(theta), len(self.random)
        i, j = self.lower
        change = factor.new_zeros(len(theta), m + len(i), m, m)
        k = torch.arange(m)
        change[:, k, k, k] = factor[:, k, k]
        change[:, m + torch.arange(len(i)), i, j] = self.scale[i]
        turned: Tensor = torch.linalg.solve_triangular(factor[:, None], change, upper=False)
        return turned


class Evaluation(NamedTuple):
    """Populations at coordinates of covariance and noise.

    Attributes
    ----------
    log_posterior : Tensor of shape (points,)
        Up to a constant.
    beta : Tensor of shape (points, coefficients)
        The most probable coefficients.
    normal : Tensor of shape (points, coefficients, coefficients)
        Their information.
    """

    log_posterior: Tensor
    beta: Tensor
    normal: Tensor


class LinearisedTasks(NamedTuple):
    r"""Tasks whose rows have a quadratic loss in the constants.

    A factor :math:`e^\delta` on the standard deviations of the noise divides `precision` and `gradient` by its square,
    and adds :math:`n \delta + \tfrac12 q e^{-2\delta}` to the loss; exactly so for additive noise.

    Attributes
    ----------
    phi : Tensor of shape (tasks, constants)
        Where the loss was expanded.
    gradient : Tensor of shape (tasks, constants)
    precision : Tensor of shape (tasks, constants, constants)
    entering : Tensor of shape (tasks, constants, coefficients)
        How coefficients enter the constants.
    n, q : float
        Of the loss at `phi`.
    """

    phi: Tensor
    gradient: Tensor
    precision: Tensor
    entering: Tensor
    n: float
    q: float

    def at(self, shape: Shape, theta: Tensor, *, restricted: bool = True) -> Evaluation:
        """Return the posterior, or the plain likelihood, at coordinates of shape (points, coordinates)."""
        random, delta = list(shape.random), theta[:, -1]
        shrunk = (-2 * delta).exp()[:, None, None, None]
        factor = shape.factor(theta)[:, None]
        P, g = self.precision * shrunk, self.gradient * shrunk[..., 0]
        along = P[..., random] @ factor  # P A
        eye = torch.eye(len(random), dtype=theta.dtype)
        root = torch.linalg.cholesky(factor.mT @ along[:, :, random] + eye)
        W = torch.linalg.solve_triangular(root, along.mT, upper=False)
        w = torch.linalg.solve_triangular(root, factor.mT @ g[..., random, None], upper=False)
        G, h = P - W.mT @ W, g - (W.mT @ w)[..., 0]
        loss = root.diagonal(dim1=-2, dim2=-1).log().sum(dim=(1, 2)) - 0.5 * w.square().sum(dim=(1, 2, 3))
        M = self.entering
        normal = (M.mT @ G @ M).sum(dim=1)
        slope = (M.mT @ (h[..., None] - G @ self.phi[..., None])).sum(dim=1)
        normal_root = torch.linalg.cholesky(normal)
        beta = -torch.cholesky_solve(slope, normal_root)[..., 0]
        away = (M @ beta[:, None, :, None])[..., 0] - self.phi
        loss = loss + ((h + 0.5 * (G @ away[..., None])[..., 0]) * away).sum(dim=(1, 2))
        loss = loss + self.n * delta + 0.5 * self.q * (-2 * delta).exp()
        if restricted:
            loss = loss + normal_root.diagonal(dim1=-2, dim2=-1).log().sum(dim=1)
            inner = factor.mT @ G[..., random, :][..., random] @ factor
            loss = loss - 0.5 * torch.linalg.slogdet(_information(shape.directions(theta), inner))[1]
        return Evaluation(-loss, beta, normal)

    def information(self, shape: Shape, theta: Tensor) -> Tensor:
        """Return the expected information of all coordinates, of shape (coordinates, coordinates), at one point."""
        random, factor = list(shape.random), shape.factor(theta[None])[0]
        K = (-2 * theta[-1]).exp() * (factor.T @ self.precision[:, random][:, :, random] @ factor)
        unseen = torch.linalg.inv(torch.eye(len(random), dtype=theta.dtype) + K)
        inner, directions = K @ unseen, shape.directions(theta[None])
        whole = theta.new_zeros(len(theta), len(theta))
        whole[:-1, :-1] = _information(directions, inner[None])[0]
        whole[-1, :-1] = whole[:-1, -1] = 2 * torch.einsum("aij,tji->a", directions[0], inner @ unseen)
        seen = len(random) * len(K) - (unseen @ unseen).diagonal(dim1=1, dim2=2).sum()
        whole[-1, -1] = 2 * (self.n - seen)
        return whole


def _information(directions: Tensor, inner: Tensor) -> Tensor:
    """Return the expected information of the coordinates of the covariance, (points, coordinates, coordinates).

    Parameters
    ----------
    directions : Tensor of shape (points, coordinates, random, random)
    inner : Tensor of shape (points, tasks, random, random)
        A' G A of each task.
    """
    product = (directions + directions.mT)[:, :, None] @ inner[:, None]
    return 0.5 * torch.einsum("satij,sbtji->sab", product, product)
