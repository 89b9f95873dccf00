"""Estimators in the manner of scikit-learn: ``fit(tasks)``, ``adapt(X, y)``, ``predict``."""

from metaest.estimators.adapted import AdaptedRegressor
from metaest.estimators.equation import AdaptedEquation, AdaptedEquations, Derived, EquationRegressor, Parameter
from metaest.estimators.few_shot import FewShotRegressor
from metaest.estimators.pipeline import adapt
from metaest.estimators.regressor import MAMLRegressor

__all__ = [
    "AdaptedEquation",
    "AdaptedEquations",
    "AdaptedRegressor",
    "Derived",
    "EquationRegressor",
    "FewShotRegressor",
    "MAMLRegressor",
    "Parameter",
    "adapt",
]
