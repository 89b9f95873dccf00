"""Well-spread points of a normal distribution: scrambled Sobol points, the same for a seed."""

from functools import lru_cache

import torch
from scipy.stats import norm, qmc
from torch import Tensor

__all__ = ["normal_points"]


@lru_cache(maxsize=32)
def normal_points(n: int, dimension: int, seed: int = 0) -> Tensor:
    """Return n well-spread points of a standard normal distribution, the same for a seed, of shape (dimension, n)."""
    if dimension == 0:
        return torch.zeros(0, n, dtype=torch.float64)
    uniform = qmc.Sobol(dimension, scramble=True, rng=seed).random(n)
    return torch.from_numpy(norm.ppf(uniform.clip(1e-6, 1 - 1e-6))).T.contiguous()
