"""Arrhenius' law, and the guard that keeps powers of a thermal time differentiable at its beginning."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["GAS_CONSTANT", "arrhenius", "begun"]

GAS_CONSTANT = 8.314462618e-3  # kJ/mol/K
# least rate times time, without unit: its powers and their first two derivatives are still finite in float64
_BEGINNING = 1e-100


def arrhenius(temperature: Any, k_ref: Any, E: Any, reference: float) -> Any:
    """Return the rate at a temperature (K) from the rate at the reference (K) and the activation energy (kJ/mol)."""
    exp = torch.exp if isinstance(temperature, Tensor) else np.exp
    return k_ref * exp(-(E / GAS_CONSTANT) * (1 / temperature - 1 / reference))


def begun(theta: Tensor) -> Tensor:
    """Return a thermal time, tiny but above 0 before it begins: powers of 0 have infinite derivatives."""
    return theta.clamp(min=_BEGINNING)
