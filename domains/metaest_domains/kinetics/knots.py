"""The last knot at or before each of many values, in constant time a value where knots are about evenly spread."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Knots"]

# buckets for each knot: most hold one knot or none
_BUCKETS = 2


class Knots(NamedTuple):
    """Rising knots of several groups, one group after the other, and buckets of equal width in which they lie.

    The number of a bucket, rounding included, never falls as the value rises. So the last knot at or before a value is
    one of its bucket, or the last one of the buckets before.

    Attributes
    ----------
    value : ndarray of shape (knots,)
    first, last : integer ndarray of shape (groups,)
        The first and the last knot of each group.
    origin, scale : ndarray of shape (groups,)
        Value ``v`` lies in bucket ``(v - origin) * scale``, rounded down.
    bucket : integer ndarray of shape (groups,)
        The first bucket of each group.
    before : integer ndarray of shape (buckets,)
        The last knot before each bucket, or the first knot of the group; each group has an empty bucket at its end.
    halvings : int
        Bisections that find a knot within any bucket.
    """

    value: NDArray[Any]
    first: NDArray[Any]
    last: NDArray[Any]
    origin: NDArray[Any]
    scale: NDArray[Any]
    bucket: NDArray[Any]
    before: NDArray[Any]
    halvings: int

    @classmethod
    def of(cls, groups: Sequence[NDArray[Any]]) -> "Knots":
        """Sort the rising knots of each group, at least one, into buckets."""
        first = np.cumsum([0, *(len(group) for group in groups)])
        counts = np.array([_BUCKETS * len(group) for group in groups])
        origin = np.array([group[0] for group in groups])
        width = np.array([group[-1] - group[0] for group in groups])
        scale = np.divide(counts - 1, width, out=np.zeros(len(groups)), where=width > 0)
        ends, most = [], 1
        for i, group in enumerate(groups):
            place = np.floor((group - origin[i]) * scale[i])
            last = np.maximum(np.searchsorted(place, np.arange(counts[i] + 1)) - 1, 0)
            last[-1] = len(group) - 1
            most = max(most, int(np.diff(last).max()))
            ends.append(first[i] + last)
        bucket = np.cumsum([0, *(counts[:-1] + 1)])
        arrays = np.concatenate(groups), first[:-1], first[1:] - 1, origin, scale, bucket, np.concatenate(ends)
        return cls(*arrays, most.bit_length())

    def at_or_before(self, value: NDArray[Any], group: NDArray[Any]) -> NDArray[Any]:
        """Return the last knot at or before each value, in its group; the first one where the value lies before it.

        Parameters
        ----------
        value : ndarray of shape (values,)
            Finite.
        group : integer ndarray of shape (values,)

        Returns
        -------
        integer ndarray of shape (values,)
        """
        most = _BUCKETS * (self.last - self.first + 1) - 1
        place = (value - self.origin[group]) * self.scale[group]
        place = np.minimum(np.maximum(place, 0.0), most[group])
        bucket = self.bucket[group] + place.astype(np.intp)
        knot: NDArray[Any] = self.before[bucket]
        end = self.before[bucket + 1]
        for halving in reversed(range(self.halvings)):
            later = np.minimum(knot + 2**halving, end)
            knot = np.where(self.value[later] <= value, later, knot)
        return knot
