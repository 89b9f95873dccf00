"""The last knot at or before each of many values, in constant time a value where knots are about evenly spread."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Knots"]

# buckets for each knot: most hold one knot or none
_BUCKETS = 2


class Knots(NamedTuple):
    """Rising knots of several groups, one group after the other, and buckets of equal width in which they lie.

    The number of a bucket, rounding included, never falls as the value rises. So the last knot at or before a value is
    one of its bucket, or the last one of the buckets before.

    Attributes
    ----------
    value : Tensor of shape (knots,)
    first, last : integer Tensor of shape (groups,)
        The first and the last knot of each group.
    origin, scale : Tensor of shape (groups,)
        Value ``v`` lies in bucket ``(v - origin) * scale``, rounded down.
    bucket : integer Tensor of shape (groups,)
        The first bucket of each group.
    before : integer Tensor of shape (buckets,)
        The last knot before each bucket, or the first knot of the group; each group has an empty bucket at its end.
    halvings : int
        Bisections that find a knot within any bucket.
    """

    value: Tensor
    first: Tensor
    last: Tensor
    origin: Tensor
    scale: Tensor
    bucket: Tensor
    before: Tensor
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
        value, start, end, origins, scales, buckets, before = (torch.from_numpy(array) for array in arrays)
        return cls(value, start, end, origins, scales, buckets, before, most.bit_length())

    def at_or_before(self, value: Tensor, group: Tensor) -> Tensor:
        """Return the last knot at or before each value, in its group; the first one where the value lies before it.

        Parameters
        ----------
        value : Tensor of shape (values,)
            Finite.
        group : integer Tensor of shape (values,)

        Returns
        -------
        integer Tensor of shape (values,)
        """
        last = self.last[group]
        most = _BUCKETS * (last - self.first[group] + 1) - 1
        place = ((value - self.origin[group]) * self.scale[group]).clamp(min=0)
        bucket = self.bucket[group] + torch.minimum(place, most).long()
        knot, end = self.before[bucket], self.before[bucket + 1]
        for halving in reversed(range(self.halvings)):
            later = torch.minimum(knot + 2**halving, end)
            knot = torch.where(self.value[later] <= value, later, knot)
        return knot
