"""Numbers of two different calls agree to rounding; only the same call repeated gives the same bits."""

import numpy as np

# Sums of some hundred terms, added up in another order on another processor, differ by some hundred roundings.
ROUNDINGS = 1000


def assert_agree(actual, expected, dtype="float32"):
    """Assert equality to rounding in the type in which the numbers were fitted or adapted, relative to the largest."""
    expected = np.asarray(expected)
    tolerance = ROUNDINGS * float(np.finfo(dtype).eps)
    scale = float(np.abs(expected).max()) if expected.size else 0.0
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)
