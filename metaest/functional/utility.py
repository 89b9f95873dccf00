r"""Differentiable utilities of a policy: of its actions and their outcomes, in order of time.

An action :math:`a_t` is taken at every row, and earns

.. math:: r_t = a_t s_t y_t - c\,|a_t s_t - a_{t-1} s_{t-1}|, \qquad a_{-1} = 0,

with its outcome y, a scale s (1 without one; a position in units of risk has the reciprocal of the volatility) and a
proportional cost c of changing what is held. The utility of some rows is

======================= ====================================================================
mean-variance           :math:`\bar r - \lambda\,\mathrm{var}(r)`
sharpe                  :math:`\bar r / \sqrt{\mathrm{var}(r) + \epsilon^2}`
                        (Sharpe, 1994, :doi:`10.3905/jpm.1994.409501`)
sortino                 :math:`\bar r / \sqrt{\overline{\min(r, 0)^2} + \epsilon^2}`
======================= ====================================================================

The ratios are those of a row, not of a year. :math:`\epsilon` is a thousandth of the typical outcome, which keeps them
finite and differentiable where nothing varies or nothing is lost; of rewards far smaller than outcomes they are smaller
than the ratios without it.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Utility", "UtilityKind"]

UtilityKind = Literal["mean-variance", "sharpe", "sortino"]
# smallest denominator of a ratio, in units of a typical outcome: it keeps ratios finite where nothing varies
RATIO_FLOOR = 1e-3


@dataclass(frozen=True)
class Utility:
    """A utility of actions between minus and plus `limit`.

    Parameters
    ----------
    kind : {"mean-variance", "sharpe", "sortino"}
    limit : float
        Largest size of an action: the network's output z stands for ``limit * tanh(z)``.
    risk_aversion : float
        lambda, in the reciprocal of the unit of outcomes.
    cost : float
        c, in the unit of outcomes for a change of one.
    unit : float
        Typical size of an outcome times its scale. Losses are in this unit, so that gradient steps do not depend on
        units; ratios are kept finite by a thousandth of it.
    """

    kind: UtilityKind = "mean-variance"
    limit: float = 1.0
    risk_aversion: float = 0.0
    cost: float = 0.0
    unit: float = 1.0

    def actions(self, output: Tensor) -> Tensor:
        """Return the actions that outputs of the network stand for."""
        return self.limit * torch.tanh(output)

    def rewards(self, actions: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Return the reward of each action, net of costs; 0 where the mask is 0.

        Parameters
        ----------
        actions : Tensor of shape (tasks, rows)
        y : Tensor of shape (tasks, rows, 1 or 2)
            Outcomes, and scales.
        mask : Tensor of shape (tasks, rows)
            1 for a row, 0 for padding, which must come last.

        Returns
        -------
        Tensor of shape (tasks, rows)
        """
        held = actions * y[..., 1] if y.shape[-1] == 2 else actions
        before = torch.cat([torch.zeros_like(held[:, :1]), held[:, :-1]], dim=1)
        return (held * y[..., 0] - self.cost * (held - before).abs()) * mask

    def of_rewards(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """Return the utility of each task, of shape (tasks,), from rewards of its rows; 0 for a task without rows."""
        count = mask.sum(dim=1).clamp(min=1)
        mean = rewards.sum(dim=1) / count
        small = (RATIO_FLOOR * self.unit) ** 2
        if self.kind == "sortino":
            return mean / (rewards.clamp(max=0).square().sum(dim=1) / count + small).sqrt()
        variance = ((rewards - mean[:, None]).square() * mask).sum(dim=1) / count
        if self.kind == "sharpe":
            return mean / (variance + small).sqrt()
        return mean - self.risk_aversion * variance

    def loss(self, output: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Return minus the utility of the network's outputs, in units of an outcome; one number for each task.

        Parameters
        ----------
        output : Tensor of shape (tasks, rows, 1)
        y : Tensor of shape (tasks, rows, 1 or 2)
        mask : Tensor of shape (tasks, rows)
        """
        utility = self.of_rewards(self.rewards(self.actions(output[..., 0]), y, mask), mask)
        return -utility / self.unit if self.kind == "mean-variance" else -utility
