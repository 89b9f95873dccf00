"""Recognise the tasks of a fit by hashes of their rows, without the rows themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from metaest.tasks import TaskSet

__all__ = ["SeenTasks", "hashed"]

# probability of so many coincidences by accident, below which a task is taken as one of the fit
ACCIDENT = 1e-6
# rows that are hashed at once, which bounds the memory
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, eq=False)
class SeenTasks:
    """Hashes of the rows of a fit, by which its tasks are recognised, whole or in part and in any order.

    A row is hashed with its targets, as numbers of 24 binary digits, so that rounding to float32 changes nothing. The
    hashes are keyed by a salt of the fit: rows cannot be read off them, but anyone who has the model can test whether a
    guessed row was in the fit.

    Attributes
    ----------
    salt : bytes
    tasks : ndarray of uint64, shape (n_tasks,)
        Hash of all rows of each task; sorted.
    rows : ndarray of uint64, shape (n_rows,)
        Hashes of the rows that occur in one task only; sorted.
    shared : ndarray of uint64
        Hashes of the rows that occur in several tasks, such as zero at time zero, and identify none; sorted.
    coincidence : float
        Estimated chance that a row of a new task equals one of `rows` by accident (Good and Turing's estimate: twice
        the number of rows seen in two tasks, over the number of all).
    """

    salt: bytes
    tasks: NDArray[np.uint64]
    rows: NDArray[np.uint64]
    shared: NDArray[np.uint64]
    coincidence: float

    @classmethod
    def learn(cls, tasks: TaskSet, seed: int) -> SeenTasks:
        """Hash the tasks of a fit; the salt is derived from its seed."""
        salt = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=16).digest()
        hashes = _hashes(salt, tasks)
        owner = np.repeat(np.arange(len(tasks)), tasks.sizes)
        order = np.lexsort((hashes, owner))
        owner, ordered = owner[order], hashes[order]
        first = np.append(True, (ordered[1:] != ordered[:-1]) | (owner[1:] != owner[:-1]))[: len(ordered)]
        ends = np.cumsum(np.bincount(owner[first], minlength=len(tasks)))
        distinct = np.split(ordered[first], ends[:-1])
        rows, counts = np.unique(ordered[first], return_counts=True)
        whole = np.unique(np.array([_whole(salt, hashes_of_task) for hashes_of_task in distinct], dtype=np.uint64))
        chance = min(1.0, 2.0 * int((counts == 2).sum()) / int(counts.sum()))
        return cls(salt, whole, rows[counts == 1], rows[counts > 1], chance)

    def first_seen(self, tasks: TaskSet) -> int | None:
        """Return the number of the first task that was in the fit, in whole or by half of its rows; None for none.

        Rows that stand in several tasks of the fit do not count, unless a task has no others.
        """
        hashes = _hashes(self.salt, tasks)
        for i, (a, b) in enumerate(zip(tasks.offsets[:-1], tasks.offsets[1:], strict=True)):
            distinct = np.unique(hashes[a:b])
            if _among(np.array([_whole(self.salt, distinct)], dtype=np.uint64), self.tasks)[0]:
                return i
            telling = distinct[~_among(distinct, self.shared)]
            n, again = len(telling), int(_among(telling, self.rows).sum())
            if again and 2 * again >= n and bdtrc(again - 1, n, self.coincidence) < ACCIDENT:
                return i
        return None


def hashed(names: Any) -> NDArray[np.uint64]:
    """Return a hash of each task's name."""
    digests = (hashlib.blake2b(str(name).encode(errors="replace"), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


def _hashes(salt: bytes, tasks: TaskSet) -> NDArray[np.uint64]:
    """Return one hash a row, of its features and targets."""
    digest, digests, n = hashlib.blake2b(digest_size=8, key=salt), bytearray(), len(tasks.X)
    for start in range(0, n, ROWS_AT_ONCE):
        X, y = tasks.X[start : start + ROWS_AT_ONCE], tasks.y[start : start + ROWS_AT_ONCE]
        values = np.column_stack([X.reshape(len(X), -1), y.reshape(len(y), -1)]).astype(np.float64)
        fraction, exponent = np.frexp(values)
        # adding 0 makes -0.0 and 0.0, which are equal, the same bytes
        rounded = np.ldexp(fraction.astype(np.float32).astype(np.float64), exponent) + 0.0
        for row in np.ascontiguousarray(rounded):
            of_row = digest.copy()
            of_row.update(row)
            digests += of_row.digest()
    return np.frombuffer(digests, dtype=np.uint64)


def _whole(salt: bytes, distinct: NDArray[np.uint64]) -> int:
    digest = hashlib.blake2b(distinct.tobytes(), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "little")


def _among(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell for each value whether a sorted array contains it."""
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    place = np.searchsorted(ordered, values).clip(max=len(ordered) - 1)
    return np.asarray(ordered[place] == values)
