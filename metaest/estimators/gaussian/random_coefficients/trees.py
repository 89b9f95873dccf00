"""Boosted trees as arrays, which a file can hold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

__all__ = ["BoostedTrees"]

# numbers that are compared at a time
CHUNK_VALUES = 1_000_000


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """The sum of many trees, from a fitted HistGradientBoostingRegressor.

    Attributes
    ----------
    start : float
        What the trees are added to.
    roots : ndarray of int, shape (n_trees,)
        The first node of each tree.
    feature : ndarray of int, shape (n_nodes,)
        The column that a node compares.
    threshold : ndarray of shape (n_nodes,)
        Rows with values up to it go to the left; infinite at leaves.
    left, right : ndarray of int, shape (n_nodes,)
        The next nodes; a leaf leads to itself.
    value : ndarray of shape (n_nodes,)
        What a leaf adds.
    depth : int
        Of the deepest tree.
    """

    start: float
    roots: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: NDArray[np.float64]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    value: NDArray[np.float64]
    depth: int

    @classmethod
    def of(cls, fitted: HistGradientBoostingRegressor) -> "BoostedTrees":
        """Return the trees of a fitted regressor without columns of categories."""
        trees = [tree.nodes for (tree,) in fitted._predictors]
        sizes = np.array([len(nodes) for nodes in trees])
        roots = np.cumsum(sizes) - sizes
        nodes: Any = np.concatenate(trees)
        first, here = np.repeat(roots, sizes), np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        return cls(
            float(fitted._baseline_prediction.item()),
            roots.astype(np.intp),
            np.where(leaf, 0, nodes["feature_idx"]).astype(np.intp),
            np.where(leaf, np.inf, nodes["num_threshold"]).astype(np.float64),
            np.where(leaf, here, first + nodes["left"]).astype(np.intp),
            np.where(leaf, here, first + nodes["right"]).astype(np.intp),
            np.where(leaf, nodes["value"], 0.0).astype(np.float64),
            int(nodes["depth"].max()),
        )

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the trees at rows of shape (n_rows, n_features), of shape (n_rows,)."""
        size = max(1, CHUNK_VALUES // max(1, len(self.roots)))
        parts = [self._of_rows(X[first : first + size]) for first in range(0, len(X), size)]
        return np.concatenate([np.empty(0), *parts])

    def _of_rows(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        node = np.tile(self.roots, (len(X), 1))
        row = np.arange(len(X))[:, None]
        for _ in range(self.depth):
            node = np.where(X[row, self.feature[node]] <= self.threshold[node], self.left[node], self.right[node])
        return np.asarray(self.start + self.value[node].sum(axis=1))

    def fault(self, n_features: int) -> str:
        """Return what is wrong with trees that a file holds, and nothing where all is well."""
        n = len(self.value)
        arrays = (self.feature, self.threshold, self.left, self.right)
        if any(array.shape != (n,) for array in arrays) or self.roots.ndim != 1:
            return "the nodes of the trees differ in number"
        bounds = ((self.roots, n), (self.left, n), (self.right, n), (self.feature, n_features))
        if any(len(array) and not (array.min() >= 0 and array.max() < most) for array, most in bounds):
            return "a tree leads to a node or a column that is not there"
        if not (np.isfinite(self.start) and np.isfinite(self.value).all()):
            return "a number of the trees is not finite"
        return "" if 0 <= self.depth <= n else "the depth of the trees is none"
