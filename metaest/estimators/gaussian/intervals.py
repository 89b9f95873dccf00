"""Intervals of normal and of Student's distributions."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from metaest.estimators.gaussian.prior import Moments

__all__ = ["student_interval"]


def student_interval(
    moments: Moments, noise_variance: float, level: float, freedom: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of intervals that leave out equal probability on both sides.

    Parameters
    ----------
    moments : Moments
        Of the function, with its variance.
    noise_variance : float
        What is added to it; 0 for an interval of the function itself.
    level : float
        Between 0 and 1.
    freedom : ndarray of shape (n_rows,)
        Degrees of freedom of the variance; infinite for a normal distribution.
    """
    assert moments.variance is not None
    share = 0.5 + level / 2
    wide = np.where(np.isfinite(freedom), stdtrit(np.where(np.isfinite(freedom), freedom, 1.0), share), ndtri(share))
    half = wide * np.sqrt(moments.variance + noise_variance)
    return moments.mean - half, moments.mean + half
