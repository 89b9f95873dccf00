"""What the constructor arguments may be; scikit-learn checks them in `fit`."""

import os
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Options, StrOptions
from torch import nn

from metaest.estimators.arguments import POSITIVE, POSITIVE_OR_ZERO, SEED, VERBOSE, Number, Whole
from metaest.functional import META_GRADIENTS, REGRESSION_LOSSES, InnerSolver, MetaGradient, RegressionLoss
from metaest.functional.modules.builtin import ACTIVATIONS

__all__ = ["ADAPTING", "CLASS_CONSTRAINTS", "CONSTRAINTS", "REGRESSION_CONSTRAINTS"]


CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", Whole(1, None, closed="left")],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "normalization": [StrOptions({"batch", "layer", "group"}), None],
    "batch_statistics": [StrOptions({"support", "per-step"})],
    "module": [nn.Module, callable, None],
    "inner_solver": [StrOptions({"gradient", "ridge", "bayes", "evidence"}), InnerSolver],
    "inner_steps": [Whole(0, None, closed="left")],
    "inner_lr": [POSITIVE_OR_ZERO],
    "learn_inner_lr": [StrOptions({"one", "per-parameter", "per-layer-and-step"}), Options(bool, {False})],
    "adapt_layers": [StrOptions({"all", "head", "body"}), list, tuple],
    "context_dim": [Whole(0, None, closed="left")],
    "rank": [Whole(1, None, closed="left")],
    "meta_gradient": [StrOptions(set(META_GRADIENTS)), MetaGradient],
    "proximal": [POSITIVE_OR_ZERO],
    "multi_step_share": [Number(0, 1, closed="both")],
    "first_order_share": [Number(0, 1, closed="both")],
    "support_size": [Whole(0, None, closed="left"), range, tuple, list, None],
    "split": [StrOptions({"random", "first"})],
    "meta_lr": [POSITIVE_OR_ZERO],
    "meta_batch_size": [Whole(1, None, closed="left")],
    "max_iter": [Whole(1, None, closed="left")],
    "alpha": [POSITIVE_OR_ZERO],
    "max_grad_norm": [POSITIVE, None],
    "early_stopping": ["boolean"],
    "validation_fraction": [Number(0, 1, closed="neither")],
    "n_iter_no_change": [Whole(1, None, closed="left")],
    "standardize": ["boolean", list, tuple, np.ndarray],
    "check_plausibility": ["boolean"],
    "warm_start": ["boolean"],
    "callbacks": [list, tuple],
    "random_state": SEED,
    "compile": ["boolean", StrOptions({"auto"})],
    "vectorize": ["boolean", StrOptions({"auto"})],
    "max_batch_bytes": [Whole(1, None, closed="left"), None],
    "device": [StrOptions({"auto", "cpu", "cuda"})],
    "dtype": [StrOptions({"float32", "float64"})],
    "checkpoint": [str, os.PathLike, None],
    "checkpoint_every": [Whole(1, None, closed="left")],
    "verbose": VERBOSE,
}

CLASS_CONSTRAINTS: dict[str, list[Any]] = {
    **{name: allowed for name, allowed in CONSTRAINTS.items() if name != "rank"},
    "inner_solver": [StrOptions({"gradient", "ridge", "bayes"}), InnerSolver],
    "collate_fn": [callable, None],
    "shared_labels": [StrOptions({"auto"}), "boolean"],
    "n_way": [Whole(2, None, closed="left"), None],
    "k_shot": [Whole(1, None, closed="left"), range, tuple, list, None],
    "n_query": [Whole(1, None, closed="left"), None],
    "balanced": ["boolean"],
    "class_weight": [dict, StrOptions({"balanced", "learned"}), None],
    "scoring": [StrOptions({"accuracy", "balanced_accuracy", "f1_macro"})],
}

REGRESSION_CONSTRAINTS: dict[str, list[Any]] = {
    **CONSTRAINTS,
    "collate_fn": [callable, None],
    "loss": [StrOptions(set(REGRESSION_LOSSES)), RegressionLoss, callable],
    "huber_threshold": [POSITIVE],
    "quantile": [Number(0, 1, closed="neither")],
}

# settings that an adaptation reads of a fitted model
ADAPTING = {
    name: CONSTRAINTS[name]
    for name in (
        "inner_solver",
        "inner_steps",
        "inner_lr",
        "learn_inner_lr",
        "adapt_layers",
        "context_dim",
        "rank",
        "meta_gradient",
        "proximal",
        "batch_statistics",
        "max_batch_bytes",
    )
}
