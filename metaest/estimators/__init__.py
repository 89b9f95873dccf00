"""Estimators in the manner of scikit-learn: ``fit(tasks)``, ``adapt(X, y)``, ``predict``."""

from metaest.estimators.conformal import ConformalInterval
from metaest.estimators.equations import (
    AdaptedEquation,
    AdaptedEquations,
    AdaptedManyUnits,
    AdaptedUnits,
    AveragedEquation,
    AveragedEquations,
    Binomial,
    Derived,
    Drawn,
    EquationRegressor,
    LogLikelihood,
    Parameter,
    ProfileLikelihood,
    Quantity,
    Recalibration,
    StudentT,
    TimeToEvent,
)
from metaest.estimators.few_shot import FewShotClassifier, FewShotRegressor
from metaest.estimators.gaussian.adapted import AdaptedGaussian
from metaest.estimators.gaussian.adapted_many import AdaptedGaussians
from metaest.estimators.gaussian.hierarchical_gp.regressor import HierarchicalGPRegressor
from metaest.estimators.gaussian.random_coefficients.regressor import RandomCoefficientRegressor
from metaest.estimators.guard import Guard
from metaest.estimators.networks.adapted import AdaptedRegressor
from metaest.estimators.networks.adapted_classifier import AdaptedClassifier
from metaest.estimators.networks.adapted_many import AdaptedRegressors
from metaest.estimators.networks.adapted_policy import AdaptedPolicy
from metaest.estimators.networks.callbacks import EndOnInterrupt
from metaest.estimators.networks.classifier import MAMLClassifier
from metaest.estimators.networks.policy import MAMLPolicy
from metaest.estimators.networks.regressor import MAMLRegressor
from metaest.estimators.pipeline import adapt

__all__ = [
    "AdaptedClassifier",
    "AdaptedEquation",
    "AdaptedEquations",
    "AdaptedGaussian",
    "AdaptedGaussians",
    "AdaptedManyUnits",
    "AdaptedPolicy",
    "AdaptedRegressor",
    "AdaptedRegressors",
    "AdaptedUnits",
    "AveragedEquation",
    "AveragedEquations",
    "Binomial",
    "ConformalInterval",
    "Derived",
    "Drawn",
    "EndOnInterrupt",
    "EquationRegressor",
    "FewShotClassifier",
    "FewShotRegressor",
    "Guard",
    "HierarchicalGPRegressor",
    "LogLikelihood",
    "MAMLClassifier",
    "MAMLPolicy",
    "MAMLRegressor",
    "Parameter",
    "ProfileLikelihood",
    "Quantity",
    "RandomCoefficientRegressor",
    "Recalibration",
    "StudentT",
    "TimeToEvent",
    "adapt",
]
