"""What a population may be, where few tasks leave it open: populations with their probabilities."""

from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.hierarchical import Design

__all__ = ["NewTask", "UncertainPopulation", "entering_of"]


class UncertainPopulation(NamedTuple):
    """Populations with their probabilities, each with normal coefficients.

    Attributes
    ----------
    weight : Tensor of shape (populations,)
        They sum to one.
    beta : Tensor of shape (populations, coefficients)
    beta_covariance : Tensor of shape (populations, coefficients, coefficients)
    factor : Tensor of shape (populations, constants, random)
    log_scale : Tensor of shape (populations,)
        Logarithm of a factor on the standard deviations of the fitted noise.
    """

    weight: Tensor
    beta: Tensor
    beta_covariance: Tensor
    factor: Tensor
    log_scale: Tensor

    def of_task(self, design: Design) -> "NewTask":
        """Return what the constants of a new task, the only one of `design`, are before its rows."""
        entering = entering_of(design, self.factor.shape[1])[0]
        covariance = self.factor @ self.factor.mT + entering @ self.beta_covariance @ entering.T
        return NewTask(self.weight, self.beta @ entering.T, covariance, self.log_scale)


class NewTask(NamedTuple):
    """The unconstrained constants of a new task: a mixture of normal distributions, one of each population.

    Attributes
    ----------
    weight : Tensor of shape (populations,)
    mean : Tensor of shape (populations, constants)
    covariance : Tensor of shape (populations, constants, constants)
    log_scale : Tensor of shape (populations,)
        Logarithm of a factor on the standard deviations of the fitted noise.
    """

    weight: Tensor
    mean: Tensor
    covariance: Tensor
    log_scale: Tensor


def entering_of(design: Design, n_constants: int) -> Tensor:
    """Return how coefficients enter the constants of each task, of shape (tasks, constants, coefficients)."""
    index, multiplier = design
    whole = multiplier.new_zeros(multiplier.shape[1], n_constants, len(index))
    whole[:, index, torch.arange(len(index))] = multiplier.T
    return whole
