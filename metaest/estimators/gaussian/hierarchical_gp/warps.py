"""Columns as a Gaussian process sees them: standardised, or by their ranks among the training rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Warp"]

Array = NDArray[np.float64]

# knots of the distribution of a column at most
MOST_KNOTS = 100


@dataclass(frozen=True, eq=False)
class Warp:
    """Columns brought to mean 0 and standard deviation 1 in the training rows, through knots.

    Between knots the column is interpolated; beyond the outermost ones it goes on along the line through them, so that
    new rows far away stay far away. Two knots standardise a column; more of them, at the ranks of its values, make
    equally many training rows lie in equal distances.

    Attributes
    ----------
    values, places : tuple of ndarray
        For each column its knots, rising, and where they come to lie; one knot for a column that does not vary.
    """

    values: tuple[Array, ...]
    places: tuple[Array, ...]

    @classmethod
    def learn(cls, X: Array, *, ranks: bool) -> "Warp":
        """Learn the knots of rows of shape (n_rows, n_features)."""
        knots = [_knots(column, ranks=ranks) for column in X.T]
        return cls(tuple(values for values, _ in knots), tuple(places for _, places in knots))

    def __call__(self, X: Array) -> Array:
        """Return rows of shape (..., n_features) in the units of the process."""
        result = np.empty(X.shape)
        for j, (values, places) in enumerate(zip(self.values, self.places, strict=True)):
            column = X[..., j]
            if len(values) == 1:
                # there is no scale: the column's own size, so that other values are seen as such
                result[..., j] = (column - values[0]) / (abs(values[0]) or 1.0)
                continue
            slope = (places[-1] - places[0]) / (values[-1] - values[0])
            beyond = np.minimum(column - values[0], 0.0) + np.maximum(column - values[-1], 0.0)
            result[..., j] = np.interp(column, values, places) + slope * beyond
        return result


def _knots(column: Array, *, ranks: bool) -> tuple[Array, Array]:
    """Return the knots of one column, and their places."""
    values, number = np.unique(column, return_inverse=True)
    if len(values) == 1:
        return values, np.zeros(1)
    if ranks:
        counts = np.bincount(number)
        places = (np.cumsum(counts) - 0.5 * counts) / len(column)  # middle ranks, so that ties share one
    else:
        places = values
    if len(values) > MOST_KNOTS or not ranks:
        some = np.unique(np.linspace(0, len(values) - 1, MOST_KNOTS if ranks else 2).round().astype(int))
        values, places = values[some], places[some]
    places = places / np.abs(places).max()  # squares neither overflow nor vanish
    seen = np.interp(column, values, places)
    return values, (places - seen.mean()) / seen.std()
