"""Names that classes, attributes and settings have in files, where the code has renamed or added them since.

A file keeps the name under which something was first written, so that files of every version are read, and hashes of
models stay what they were. Whoever renames a class or an attribute that is saved adds a line here.
"""

import math
from collections.abc import Mapping
from typing import Any

from metaest.functional import SquaredError

__all__ = ["ADDED", "ATTRIBUTES", "CLASSES", "as_stored", "as_today", "settings_as_today"]

# today's name of a class: its name in files
CLASSES: Mapping[str, str] = {
    "Adaptation": "Plan",
    "ClassAdaptation": "ClassPlan",
    "FittedEquation": "Calibrated",
    "FittedGuard": "Judge",
    "PolicyAdaptation": "PolicyPlan",
    "Population": "PublishedPopulation",
    "PopulationParameters": "Population",
    "RowAccuracy": "Weighing",
}

# today's name of a class, or of a base of it: today's names of attributes, and their names in files
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "AdaptedEquation": {"_fitted": "_calibrated", "_unguarded": "_own"},
    "AdaptedEquations": {"_fitted": "_calibrated", "_unguarded": "_adapted"},
    "EquationRegressor": {"_fitted": "_calibrated"},
    "FittedEquation": {"row_accuracy": "weighing"},
    "Histories": {"by_number": "known"},
    "Posterior": {"deviation": "own"},
    "Calibration": {"by_support": "own", "support_sizes": "own_sizes"},
    "AdaptedClassifier": {"_adaptation": "_plan"},
    "AdaptedPolicy": {"_adaptation": "_plan"},
    "AdaptedRegressor": {"_adaptation": "_plan"},
    "AdaptedRegressors": {"_adaptation": "_plan"},
    "ClassAdaptation": {"label_weights": "given"},
}

# today's name of a class, or of a base of it: attributes and settings that older files lack, and what older files mean.
# Attributes are written only where they are something else.
ADDED: Mapping[str, Mapping[str, Any]] = {
    "Adaptation": {"solver_object": None},
    "EquationRegressor": {
        "noise_correlation": None,
        "correlation_time": None,
        "limit_from": None,
        "upper_limit": None,
        "output": None,
        "_further": None,
        "structures_": None,
        "prior": None,
        "prior_weight": math.inf,
        "_published": None,
        "small_sample": "none",
        "levels": None,
        "time_varying": None,
        "n_nodes": 1,
    },
    "CompartmentRegressor": {"absorption": "excess", "time_varying": None},
    "Covariates": {"formulas": ()},
    "Doses": {"further": (), "paths": ()},
    "FittedEquation": {"uncertain": None, "levels": None},
    "MAMLClassifier": {"collate_fn": None},
    "MAMLRegressor": {
        "loss": "squared_error",
        "huber_threshold": 1.35,
        "quantile": 0.5,
        "collate_fn": None,
        "rank": 16,
    },
    "Network": {"collate_fn": None},
    "Noise": {"correlation": None, "limit_from": None, "upper_limit": None},
    "PatientEquation": {"absorption": "excess", "changing": None},
    "RegressionNetwork": {"loss": SquaredError()},
}


# values that can be compared with those of older files
_PLAIN = (type(None), bool, int, float, str, tuple, SquaredError)


def as_stored(cls: type, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes of an object under their names in files, without those that are as older files mean them."""
    names, added = _of_class(cls, ATTRIBUTES), _of_class(cls, ADDED)
    return {
        names.get(name, name): value
        for name, value in attributes.items()
        if not (name in added and isinstance(value, _PLAIN) and value == added[name])
    }


def as_today(cls: type, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of an object under today's names of its attributes, with learned ones it left out."""
    names = {stored: today for today, stored in _of_class(cls, ATTRIBUTES).items()}
    # without a name that a user reads, an object has its class's value
    left_out = {name: value for name, value in _of_class(cls, ADDED).items() if name.endswith("_") and attributes}
    return {**left_out, **{names.get(name, name): value for name, value in attributes.items()}}


def settings_as_today(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a file holds, with those that older files lack."""
    names = cls._get_param_names()  # type: ignore[attr-defined]
    added = {name: value for name, value in _of_class(cls, ADDED).items() if name in names}
    return {**added, **settings}


def _of_class(cls: type, table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        merged |= table.get(base.__name__, {})
    return merged
