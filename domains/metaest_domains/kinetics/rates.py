"""How a rate depends on temperature, and the thermal time it makes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["GAS_CONSTANT", "arrhenius", "begun"]

GAS_CONSTANT = 8.314462618e-3  # kJ/mol/K
# rate times time, which has no unit: its powers, and two derivatives of them, are finite numbers
_BEGINNING = 1e-100


def arrhenius(temperature: Any, k_ref: Any, E: Any, reference: float) -> Any:
    """Rate at a temperature (K), from the rate at a reference temperature and the activation energy (kJ/mol)."""
    exp = torch.exp if isinstance(temperature, Tensor) else np.exp
    return k_ref * exp(-(E / GAS_CONSTANT) * (1 / temperature - 1 / reference))


def begun(theta: Tensor) -> Tensor:
    """Return a thermal time, hardly above zero before it begins: powers of zero have infinite derivatives."""
    return theta.clamp(min=_BEGINNING)
