"""Estimators in the manner of scikit-learn: ``fit(tasks)``, ``adapt(X, y)``, ``predict``."""

from metaest.estimators.adapted import AdaptedRegressor
from metaest.estimators.adapted_classifier import AdaptedClassifier
from metaest.estimators.adapted_many import AdaptedRegressors
from metaest.estimators.adapted_policy import AdaptedPolicy
from metaest.estimators.callbacks import EndOnInterrupt
from metaest.estimators.classifier import MAMLClassifier
from metaest.estimators.conformal import ConformalInterval
from metaest.estimators.equations import (
    AdaptedEquation,
    AdaptedEquations,
    Derived,
    EquationRegressor,
    Parameter,
    Quantity,
)
from metaest.estimators.few_shot import FewShotClassifier, FewShotRegressor
from metaest.estimators.guard import Guard
from metaest.estimators.pipeline import adapt
from metaest.estimators.policy import MAMLPolicy
from metaest.estimators.regressor import MAMLRegressor

__all__ = [
    "AdaptedClassifier",
    "AdaptedEquation",
    "AdaptedEquations",
    "AdaptedPolicy",
    "AdaptedRegressor",
    "AdaptedRegressors",
    "ConformalInterval",
    "Derived",
    "EndOnInterrupt",
    "EquationRegressor",
    "FewShotClassifier",
    "FewShotRegressor",
    "Guard",
    "MAMLClassifier",
    "MAMLPolicy",
    "MAMLRegressor",
    "Parameter",
    "Quantity",
    "adapt",
]
