"""What the constructor arguments may be, alone and together; checked in `fit`."""

import os
from collections.abc import Mapping
from typing import Any

from sklearn.utils._param_validation import StrOptions

from metaest.estimators.arguments import POSITIVE_OR_ZERO, SEED, Number, Whole

__all__ = ["CONSTRAINTS", "REPORTED", "check_settings"]

# what a summary says of the settings of the fit, whatever is set afterwards
REPORTED = ("objective", "inner_solver", "covariance", "noise")

# equation and parameters are checked with words of their own
CONSTRAINTS: dict[str, list[Any]] = {
    "random": ["array-like", None],
    "covariance": [StrOptions({"full", "diagonal"})],
    "noise": [StrOptions({"additive", "proportional", "combined"})],
    "measurement_sd": [str, Whole(0, None, closed="left"), None],
    "limit": [Number(None, None, closed="neither"), None],
    "covariates": [Mapping, None],
    "objective": [StrOptions({"evidence", "query"})],
    "inner_solver": [StrOptions({"gauss-newton", "gradient"})],
    "inner_steps": [Whole(0, None, closed="left")],
    "meta_gradient": [StrOptions({"exact", "first-order"})],
    "support_size": [Whole(0, None, closed="left"), range, tuple, list, None],
    "split": [StrOptions({"random", "first"})],
    "n_episodes": [Whole(1, None, closed="left"), None],
    "meta_lr": [POSITIVE_OR_ZERO],
    "meta_batch_size": [Whole(1, None, closed="left")],
    "max_iter": [Whole(1, None, closed="left")],
    "compile": ["boolean", StrOptions({"auto"})],
    "random_state": SEED,
    "checkpoint": [str, os.PathLike, None],
    "checkpoint_every": [Whole(1, None, closed="left")],
    "verbose": ["verbose"],
}


def check_settings(model: Any) -> None:
    """Raise a ValueError when settings do not go together."""
    if model.inner_solver == "gradient" and model.objective == "evidence":
        raise ValueError(
            "inner_solver='gradient' needs objective='query': gradient steps have no evidence to maximise."
        )
    if model.limit is not None and (model.objective == "query" or model.inner_solver == "gradient"):
        raise ValueError("limit needs objective='evidence': a density of the query rows knows no limit.")
    if model.measurement_sd is not None and model.inner_solver == "gradient":
        raise ValueError(
            "measurement_sd needs inner_solver='gauss-newton': gradient steps minimise squared errors; use "
            "sample_weight instead."
        )
    if model.meta_gradient == "first-order" and model.inner_solver != "gradient":
        raise ValueError(
            "meta_gradient='first-order' needs inner_solver='gradient': the gradient through Gauss-Newton is always "
            "exact."
        )
