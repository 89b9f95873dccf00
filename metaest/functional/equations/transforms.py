r"""Bounded constants in an unconstrained space, where they are fitted and where they are normal between tasks.

With a lower bound :math:`\theta = l + e^\varphi`, with an upper one :math:`\theta = u - e^{-\varphi}`, with both
:math:`\theta = l + (u - l) / (1 + e^{-\varphi})`, with none :math:`\theta = \varphi`. All of them rise with
:math:`\varphi`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Transforms"]


@dataclass(frozen=True)
class Transforms:
    """Maps between bounded constants and unconstrained ones.

    Parameters
    ----------
    lower, upper : sequence of float
        One of each a constant; infinite where there is no bound.
    """

    lower: Sequence[float]
    upper: Sequence[float]

    @property
    def kinds(self) -> tuple[str, ...]:
        """For each constant "identity", "log", "upper" or "logit"."""
        return _kinds(tuple(self.lower), tuple(self.upper))

    def constrain(self, phi: Tensor) -> Tensor:
        """Map unconstrained values of shape (constants, ...) into their bounds."""
        return torch.stack([self._bounded(k, kind, phi[k]) for k, kind in enumerate(self.kinds)])

    def unconstrain(self, theta: Tensor) -> Tensor:
        """Map values strictly inside their bounds to the unconstrained space."""
        return torch.stack([self._free(k, kind, theta[k]) for k, kind in enumerate(self.kinds)])

    def slope(self, phi: Tensor) -> Tensor:
        r"""Return :math:`d\theta / d\varphi`, always above zero."""
        return torch.stack([self._slope(k, kind, phi[k]) for k, kind in enumerate(self.kinds)])

    def _bounded(self, k: int, kind: str, phi: Tensor) -> Tensor:
        if kind == "identity":
            return phi
        if kind == "log":
            return phi.exp() if self.lower[k] == 0 else self.lower[k] + phi.exp()
        if kind == "upper":
            return self.upper[k] - (-phi).exp()
        return self.lower[k] + (self.upper[k] - self.lower[k]) * phi.sigmoid()

    def _free(self, k: int, kind: str, theta: Tensor) -> Tensor:
        if kind == "identity":
            return theta
        if kind == "log":
            return (theta - self.lower[k]).log()
        if kind == "upper":
            return -(self.upper[k] - theta).log()
        return (theta - self.lower[k]).log() - (self.upper[k] - theta).log()

    def _slope(self, k: int, kind: str, phi: Tensor) -> Tensor:
        if kind == "identity":
            return torch.ones_like(phi)
        if kind == "log":
            return phi.exp()
        if kind == "upper":
            return (-phi).exp()
        return (self.upper[k] - self.lower[k]) * phi.sigmoid() * (-phi).sigmoid()


@lru_cache(maxsize=256)
def _kinds(lower: tuple[float, ...], upper: tuple[float, ...]) -> tuple[str, ...]:
    """Return the kinds of constants with such bounds; every evaluation asks for them."""
    names = {(False, False): "identity", (True, False): "log", (False, True): "upper", (True, True): "logit"}
    return tuple(names[math.isfinite(low), math.isfinite(high)] for low, high in zip(lower, upper, strict=True))
