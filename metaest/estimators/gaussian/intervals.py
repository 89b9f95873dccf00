"""Intervals of normal distributions."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from metaest.estimators.gaussian.prior import Moments

__all__ = ["normal_interval"]


def normal_interval(
    moments: Moments, noise_variance: float, level: float, of: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of intervals that leave out equal probability on both sides.

    Parameters
    ----------
    moments : Moments
        Of the function, with its variance.
    noise_variance : float
    level : float
        Between 0 and 1.
    of : {"observation", "curve"}
    """
    assert moments.variance is not None
    variance = moments.variance + (noise_variance if of == "observation" else 0.0)
    half = float(ndtri(0.5 + level / 2)) * np.sqrt(variance)
    return moments.mean - half, moments.mean + half
