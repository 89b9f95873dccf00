r"""The correlation of the residuals of one task: of first order, in the order of the rows or in continuous time.

========== ================================ =============================================
``"ar1"``  :math:`\phi^{|i - j|}`           :math:`\phi = \tanh z`, rows i and j of a task
``"car1"`` :math:`e^{-|t_i - t_j| / \tau}`  :math:`\tau = e^z`, at times t
========== ================================ =============================================

These are nlme's corAR1 and corCAR1, whose constant of the second is :math:`e^{-1/\tau}`, the correlation over one unit
of time (Pinheiro and Bates, 2000, section 5.3, :doi:`10.1007/b98882`). Residuals are those divided by the standard
deviation of the noise. Both kinds are Markov: in the order of time, the next residual depends on the last one alone,
and :math:`(r_i - \rho_i r_{i-1}) / \sqrt{1 - \rho_i^2}` are independent, with :math:`\rho_i` the correlation of the
two. That costs one pass over the rows. Between two rows, a third one depends on these two alone (``bridge``).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metaest.functional.equations.observations import Observations

__all__ = ["Bridge", "Correlation", "CorrelationKind", "Lags"]

CorrelationKind = Literal["ar1", "car1"]
# bounds of artanh(phi): phi = 0.999999
MOST_STEADY = 7.25
# correlation times at which nothing is left of a correlation
FAR = 1e3


class Lags(NamedTuple):
    r"""How each row of a task depends on the one before, in the order of time.

    Attributes
    ----------
    order : integer Tensor of shape (rows, tasks) or None
        Numbers of the rows in the order of time, padding last; None where they stand in that order.
    rho : Tensor of shape (rows - 1, tasks)
        Correlation of each row but the first with the one before; 0 for padding.
    root : Tensor of shape (rows - 1, tasks)
        :math:`\sqrt{1 - \rho^2}`.
    """

    order: Tensor | None
    rho: Tensor
    root: Tensor

    def arranged(self, values: Tensor) -> Tensor:
        """Return values of shape (rows, tasks) in the order of time."""
        return values if self.order is None else values.gather(0, self.order)

    def whitened(self, values: Tensor) -> Tensor:
        """Return arranged residuals, or slopes, of shape (rows, tasks), made independent."""
        return torch.cat([values[:1], (values[1:] - self.rho * values[:-1]) / self.root])

    def pulled_back(self, white: Tensor) -> Tensor:
        """Return the product of the transposed matrix of `whitened` with values of shape (rows, tasks)."""
        later = white[1:] / self.root
        return torch.cat([white[:1], later]) - torch.cat([self.rho * later, torch.zeros_like(white[:1])])

    def log_determinant(self) -> Tensor:
        """Return half the logarithm of the determinant of the correlation matrix of each task, of shape (tasks,)."""
        return self.root.log().sum(dim=0)


class Bridge(NamedTuple):
    """The residuals of new rows of a task, given the residuals of the rows before and after them.

    Attributes
    ----------
    before, after : integer Tensor of shape (new rows, tasks)
        Numbers of these rows; any number where there is none, which has the weight 0.
    weight_before, weight_after : Tensor of shape (new rows, tasks)
        The conditional mean is the sum of the two residuals, each times its weight.
    variance : Tensor of shape (new rows, tasks)
        The conditional variance, in units of that of the noise: 0 at the time of a row, 1 far from all rows.
    """

    before: Tensor
    after: Tensor
    weight_before: Tensor
    weight_after: Tensor
    variance: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """Return the conditional means, of shape (new rows, tasks), from values of the rows, zero for padding.

        Of one task, values may have many columns.
        """
        if not len(values):
            return torch.zeros_like(self.variance)
        columns = values.shape[1]
        before, after = (values.gather(0, at.expand(-1, columns)) for at in (self.before, self.after))
        return self.weight_before * before + self.weight_after * after


@dataclass(frozen=True)
class Correlation:
    """The correlation of the residuals of a task.

    Parameters
    ----------
    kind : {"ar1", "car1"}
    column : int or None
        For "car1", the column of X with the times.
    label : str
        The user's name of that column.
    shortest, longest : float
        For "car1", the range in which the correlation time is searched.
    sorted : bool, default=False
        Whether the rows of every task are promised to stand in the order of time.
    """

    kind: CorrelationKind
    column: int | None = None
    label: str = ""
    shortest: float = 1.0
    longest: float = 1.0
    sorted: bool = False

    @property
    def name(self) -> str:
        """Name of the constant: tau or phi of the module's table."""
        return "correlation_time" if self.kind == "car1" else "phi"

    @property
    def bounds(self) -> tuple[float, float]:
        """Bounds of z of the module's table."""
        if self.kind == "ar1":
            return -MOST_STEADY, MOST_STEADY
        low, high = torch.tensor([self.shortest, self.longest], dtype=torch.float64).log().tolist()
        return low, high

    def constant(self, z: Tensor) -> Tensor:
        """Return the constant, in the unit of the times for "car1"."""
        return z.exp() if self.kind == "car1" else z.tanh()

    def times(self, observations: Observations) -> Tensor:
        """Return the times of rows, or their places in the task, of shape (rows, tasks)."""
        if self.column is None:
            rows, tasks = observations.y.shape
            return torch.arange(rows).to(observations.y)[:, None].expand(-1, tasks)
        return observations.X[:, self.column].reshape(observations.y.shape)

    def order(self, observations: Observations) -> Tensor | None:
        """Return the numbers of the rows in the order of time, padding last; None where they stand in that order."""
        if self.column is None or self.sorted:
            return None
        times = self.times(observations)
        if not observations.full:
            times = torch.where(observations.mask > 0, times, torch.inf)
        if bool((times[1:] >= times[:-1]).all()):
            return None
        return times.argsort(dim=0, stable=True)

    def lags(self, observations: Observations, z: Tensor) -> Lags:
        """Return how each row depends on the one before, differentiable in z, a number."""
        order = self.order(observations)
        unordered = Lags(order, z, z)
        mask = unordered.arranged(observations.mask)[1:]
        if self.kind == "ar1":
            rho = z.tanh().expand_as(mask)
            small = (-2 * z.abs()).exp()
            left = (4 * small / (1 + small).square()).expand_as(mask)  # 1 - tanh^2, without cancellation
        else:
            times = unordered.arranged(self.times(observations))
            gap = times[1:] - times[:-1]
            if not observations.full:
                gap = torch.where(mask > 0, gap, 1.0)
            share = gap * (-z).exp()
            rho, left = (-share).exp(), -(-2 * share).expm1()
        root = left.sqrt()
        if not observations.full:
            rho, root = torch.where(mask > 0, rho, 0.0), torch.where(mask > 0, root, 1.0)
        return Lags(order, rho, root)

    def bridge(self, seen: Observations, new: Observations, z: Tensor) -> Bridge:
        r"""Return the residuals of new rows given those of seen rows; for "car1".

        With correlations a and b of the new row with the ones before and after it, the weights are
        :math:`a (1 - b^2) / (1 - a^2 b^2)` and :math:`b (1 - a^2) / (1 - a^2 b^2)`, and the variance is
        :math:`(1 - a^2)(1 - b^2) / (1 - a^2 b^2)`.
        """
        with torch.no_grad():
            at = torch.where(seen.mask > 0, self.times(seen), torch.inf)
            # infinite before all rows and after them, where there is no row
            at, order = at.sort(dim=0, stable=True)
            end = torch.full_like(at[:1], torch.inf)
            at = torch.cat([-end, at, end]).T.contiguous()
            order = torch.nn.functional.pad(order.T, (1, 1)).contiguous()
            times = self.times(new).T.contiguous()
            right = torch.searchsorted(at, times, right=True).clamp(max=at.shape[1] - 1)
            since, until = times - at.gather(1, right - 1), at.gather(1, right) - times
            before, after = order.gather(1, right - 1).T, order.gather(1, right).T
        rate = (-z).exp()
        # far beyond any correlation, where there is no row: infinity has no derivative
        since, until = (
            torch.where(torch.isinf(gap), FAR, torch.where(torch.isinf(gap), 0.0, gap) * rate)
            for gap in (since.T, until.T)
        )
        left, right_part, both = (-(-2 * share).expm1() for share in (since, until, since + until))
        return Bridge(
            before,
            after,
            (-since).exp() * right_part / both,
            (-until).exp() * left / both,
            left * right_part / both,
        )
