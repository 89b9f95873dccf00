"""The regressor beside random coefficients: which it is, its seeds, and what it predicts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from metaest.estimators.gaussian.random_coefficients.alternation import Base
from metaest.estimators.gaussian.random_coefficients.prior import predictions, with_names
from metaest.exceptions import TaskError

__all__ = ["fitted_base", "fixed_columns", "is_linear", "new_base"]

# leaves of a tree: on simulated families of 12 to 150 tasks 8 were as good as 4 or 15, in two thirds of the time of 15
LEAVES = 8
# rows of a leaf: at least this share of all, between these. On simulated growth curves of 48 rows leaves of 20 rows,
# scikit-learn's least, doubled the error; on 120 to 800 rows of other families the share was about as good, or better
SHARE = 0.05
MOST_IN_LEAF = 20
LEAST_IN_LEAF = 2


def is_linear(base: Any) -> bool:
    """Tell whether the fixed part is linear, so that its coefficients have a closed form."""
    if isinstance(base, str):
        return base == "linear"
    return type(base) is LinearRegression and bool(base.fit_intercept) and not base.positive


def fixed_columns(base: Any) -> str:
    """Return which columns have fixed coefficients, as :meth:`Design.of` takes it."""
    return "random" if base is None else "all" if is_linear(base) else "levels"


def new_base(base: Any, seed: int, n_rows: int) -> Any:
    """Return an unfitted regressor whose randomness comes from a seed, unless its own settings fix it.

    Raises
    ------
    TypeError
        When it is no regressor.
    """
    if isinstance(base, str):
        in_leaf = min(MOST_IN_LEAF, max(LEAST_IN_LEAF, int(SHARE * n_rows)))
        return HistGradientBoostingRegressor(
            max_leaf_nodes=LEAVES, min_samples_leaf=in_leaf, early_stopping=False, random_state=seed
        )
    if isinstance(base, type):
        raise TypeError(
            f"base must be 'boosting', 'linear', None or a regressor, got the class {base.__name__}; make one: "
            f"{base.__name__}()."
        )
    if is_classifier(base):
        raise TypeError(f"base must be a regressor; {type(base).__name__} is a classifier.")
    fresh = clone(base)
    names = [name for name, value in fresh.get_params().items() if name.split("__")[-1] == "random_state"]
    unset = {name: seed for name in names if fresh.get_params()[name] is None}
    return fresh.set_params(**unset)


def fitted_base(
    fresh: Any, X: NDArray[np.float64], y: NDArray[np.float64], feature_names: tuple[str, ...] | None
) -> Base:
    """Return a clone of a regressor, fitted, whose predictions of its own rows are finite."""
    fitted: Base = clone(fresh).fit(with_names(X, feature_names), y)
    if not np.isfinite(predictions(fitted, X, feature_names)).all():
        raise TaskError(f"base: predictions of the fitted {type(fitted).__name__} are not finite.")
    return fitted
