r"""Losses of a batch of ragged tasks: each task's mean over its own rows, padding left out.

Every loss takes predictions and targets with leading shape (tasks, rows) and a mask of that shape, and returns one
number for each task. A task without a row has loss 0 and gradient 0, so that adapting on nothing changes nothing. In
place of ones the mask may hold positive weights of rows, whose sum is the number of the task's rows.
"""

import torch
from torch import Tensor

__all__ = ["cross_entropy", "mean_over_rows", "squared_error"]


def mean_over_rows(per_row: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of each task over its own rows, from losses and a mask of shape (tasks, rows)."""
    return (per_row * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def squared_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""Mean squared error of each task, :math:`\frac{1}{n t}\sum_{ij} (\hat y_{ij} - y_{ij})^2`.

    Parameters
    ----------
    prediction, target : Tensor of shape (tasks, rows, targets)
    mask : Tensor of shape (tasks, rows)

    Returns
    -------
    Tensor of shape (tasks,)
    """
    return mean_over_rows((prediction - target).square().mean(dim=-1), mask)


def cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""Mean cross-entropy of each task, :math:`-\frac{1}{n}\sum_i \log \mathrm{softmax}(z_i)_{c_i}`.

    Parameters
    ----------
    logits : Tensor of shape (tasks, rows, classes)
    target : Tensor of shape (tasks, rows, classes)
        1 for the class of a row, 0 for another one of its task, -1 for classes the task does not have.
    mask : Tensor of shape (tasks, rows)

    Returns
    -------
    Tensor of shape (tasks,)
    """
    log_probability = torch.log_softmax(logits.masked_fill(target < 0, -torch.inf), dim=-1)
    own = torch.where(target > 0, log_probability, 0.0)
    return mean_over_rows(-own.sum(dim=-1), mask)
