r"""Observations known by an interval: below a limit of quantification, above one, or between two numbers.

The density of such an observation is the probability of its interval. With the ends :math:`a < b`, standardised by the
curve and the noise, that is :math:`\Phi(b) - \Phi(a)`; its logarithm is taken in the tail that both ends are nearer to,
:math:`\log \Phi(b) + \log(1 - e^{\log \Phi(a) - \log \Phi(b)})`, where nothing cancels. An interval narrower than
1e-5 standard deviations has the density at its middle times its width.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["HALF_LOG_2PI", "NARROW", "Bound", "Bounds", "Column", "between", "beyond"]

HALF_LOG_2PI = 0.5 * float(torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64)))
# width of an interval, in standard deviations, below which the density is the same all over it
NARROW = 1e-5
# width beyond which its farther end adds nothing
WIDE = 1e3


@dataclass(frozen=True)
class Column:
    """A column of X that holds a number of each row.

    Parameters
    ----------
    number : int
    label : str
        The user's name for it.
    """

    number: int
    label: str = ""


Bound = float | Column | None


class Bounds(NamedTuple):
    """What lies outside of which numbers is known by an interval; each one number of all rows, or a column of X.

    Attributes
    ----------
    limit : float, Column or None
        An observation below it is known to lie below it.
    limit_from : float, Column or None
        And not to lie below this.
    upper_limit : float, Column or None
        An observation above it is known to lie above it.
    """

    limit: Bound = None
    limit_from: Bound = None
    upper_limit: Bound = None

    @property
    def censors(self) -> bool:
        """Whether there is a limit at all."""
        return self.limit is not None or self.upper_limit is not None

    @property
    def by_column(self) -> bool:
        """Whether a limit differs between rows."""
        return any(isinstance(bound, Column) for bound in self)

    def of_rows(self, X: Any, shape: Any) -> "Bounds":
        """Return the numbers of rows X, columns as arrays or tensors of a shape."""
        ends = [X[:, bound.number].reshape(shape) if isinstance(bound, Column) else bound for bound in self]
        return Bounds(*ends)


def beyond(z: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return :math:`-\log \Phi(z)`, its slope in the curve and its curvature, for z with the slope `along`."""
    loss = -torch.special.log_ndtr(z)
    # of the standard normal: density over distribution function, without overflow in its tail
    ratio = (-0.5 * z.square() - HALF_LOG_2PI + loss).exp()
    # never negative: log-concave
    return loss, -ratio * along, (ratio * (ratio + z)).clamp(min=0) * along.square()


def between(a: Tensor, b: Tensor, along_a: Tensor, along_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return :math:`-\log(\Phi(b) - \Phi(a))`, its slope in the curve and its curvature, for a < b.

    Parameters
    ----------
    a, b : Tensor
    along_a, along_b : Tensor
        Their slopes in the curve.
    """
    left = a + b > 0
    near, far = torch.where(left, -a, b), torch.where(left, -b, a)
    far = torch.maximum(far, near - WIDE)
    top = torch.special.log_ndtr(near)
    log_probability = top + (-(torch.special.log_ndtr(far) - top).expm1()).log()
    at_a = (-0.5 * a.square() - HALF_LOG_2PI - log_probability).exp()
    at_b = (-0.5 * b.square() - HALF_LOG_2PI - log_probability).exp()
    first = at_b * along_b - at_a * along_a
    curvature = first.square() + b * at_b * along_b.square() - a * at_a * along_a.square()
    return -log_probability, -first, curvature.clamp(min=0)
