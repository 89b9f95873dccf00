"""Draws and densities of constants whose population is uncertain: mixtures of normal distributions."""

from collections.abc import Callable

import torch
from torch import Tensor

from metaest.estimators.equations.adaptive_draws import N_DRAWS, root
from metaest.estimators.equations.uncertain import NewTask, UncertainPopulation
from metaest.estimators.normal_points import normal_points

__all__ = ["Losses", "axes_of", "draws_of_coefficients", "draws_of_new_task", "log_density"]

# losses of the rows of a task, from its constants and factors on the noise
Losses = Callable[[Tensor, Tensor], Tensor]
# groups of populations whose noise is taken as equal
NOISES = 16
# width of all groups together at least
SMALLEST = 1e-12
# share of a variance that is added to it, against rounding
JITTER = 1e-12


def draws_of_coefficients(population: UncertainPopulation) -> Tensor:
    """Return equally probable draws of the coefficients, of shape (coefficients, draws)."""
    return _draws(population.weight, population.beta, population.beta_covariance)


def draws_of_new_task(task: NewTask) -> Tensor:
    """Return equally probable draws of the constants of a task without rows, of shape (constants, draws)."""
    return _draws(task.weight, task.mean, task.covariance)


def _varying(task: NewTask) -> Tensor:
    """Return the numbers of the constants that are uncertain at all."""
    return torch.nonzero(task.covariance.diagonal(dim1=1, dim2=2).amax(dim=0) > 0)[:, 0]


def axes_of(task: NewTask) -> tuple[Tensor, Tensor]:
    """Return the mean of all, and a root of their covariance with a column a constant that varies."""
    mean = task.weight @ task.mean
    away = task.mean - mean
    covariance = torch.einsum("s,sij->ij", task.weight, task.covariance) + away.T * task.weight @ away
    where = _varying(task)
    axes = mean.new_zeros(len(mean), len(where))
    axes[where] = _cholesky(covariance[where[:, None], where])
    return mean, axes


def log_density(task: NewTask, losses: Losses) -> Callable[[Tensor], Tensor]:
    """Return the log-posterior of the coordinates along the axes of :func:`axes_of`, up to a constant.

    Parameters
    ----------
    losses : callable
        From constants of shape (constants, points) and logarithms of factors on the noise, of shape (factors,), to
        the losses of the task's rows, of shape (factors, points).

    Returns
    -------
    callable
        From points of shape (axes, points) to their log-densities, of shape (points,).
    """
    mean, axes = axes_of(task)
    where = _varying(task)
    turn = torch.linalg.inv(axes[where])
    center = (task.mean - mean)[:, where] @ turn.T
    lower = _cholesky(turn @ task.covariance[:, where[:, None], where] @ turn.T)
    height_of = task.weight.log() - lower.diagonal(dim1=1, dim2=2).log().sum(dim=1)
    groups, scales = _noises(task)

    def height(points: Tensor) -> Tensor:
        parts = []
        for group in groups:
            away = points - center[group, :, None]
            square = torch.linalg.solve_triangular(lower[group], away, upper=False).square().sum(dim=1)
            parts.append(torch.logsumexp(-0.5 * square + height_of[group, None], dim=0))
        total = torch.stack(parts) - losses(mean[:, None] + axes @ points, scales)
        return torch.nan_to_num(torch.logsumexp(torch.nan_to_num(total, nan=-torch.inf), dim=0), nan=-torch.inf)

    return height


def _noises(task: NewTask) -> tuple[list[Tensor], Tensor]:
    """Return numbers of populations whose noise is about equal, and the mean logarithm of its factor of each."""
    low, high = task.log_scale.min(), task.log_scale.max()
    number = (NOISES * (task.log_scale - low) / (high - low).clamp(min=SMALLEST)).long().clamp(max=NOISES - 1)
    groups = [torch.nonzero(number == i)[:, 0] for i in sorted(set(number.tolist()))]
    means = [task.weight[group] @ task.log_scale[group] / task.weight[group].sum() for group in groups]
    return groups, torch.stack(means)


def _cholesky(covariance: Tensor) -> Tensor:
    """Return lower factors of covariances that rounding may have made singular."""
    scale = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    eye = JITTER * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
    lower: Tensor = torch.linalg.cholesky(covariance / scale[..., None] / scale[..., None, :] + eye)
    return scale[..., None] * lower


def _draws(weight: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return equally probable draws of a mixture of normal distributions, of shape (p, draws)."""
    n, p = mean.shape
    points = normal_points(N_DRAWS, p + 1)
    member = torch.searchsorted(weight.cumsum(dim=0), torch.special.ndtr(points[p])).clamp(max=n - 1)
    roots = torch.stack([root(part) for part in covariance])
    center, away = mean[member], (roots[member] @ points[:p].T[..., None])[..., 0]
    # each deviation and its negative: intervals of a symmetric distribution are symmetric
    return torch.cat([center + away, center - away]).T
