"""Meta-learn from many small related data sets, and adapt to the next one from a handful of observations."""

import logging

from metaest import scorers
from metaest.estimators import (
    AdaptedClassifier,
    AdaptedEquation,
    AdaptedEquations,
    AdaptedGaussian,
    AdaptedGaussians,
    AdaptedPolicy,
    AdaptedRegressor,
    AdaptedRegressors,
    ConformalInterval,
    Derived,
    EndOnInterrupt,
    EquationRegressor,
    FewShotClassifier,
    FewShotRegressor,
    Guard,
    HierarchicalGPRegressor,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    Quantity,
    RandomCoefficientRegressor,
    adapt,
)
from metaest.exceptions import (
    CorrelatedResidualsWarning,
    CoverageWarning,
    DivergenceError,
    IdentifiabilityWarning,
    ModelFileError,
    OvershootWarning,
    TaskError,
    UngroupedWarning,
    UnlikelyTaskWarning,
)
from metaest.saving import load, model_hash, save
from metaest.selection import (
    AdaptedAuto,
    AdaptedAutoClassifier,
    AdaptedAutoClassifiers,
    AdaptedAutos,
    AutoMetaClassifier,
    AutoMetaRegressor,
)
from metaest.tasks import Task, TaskSet, make_episodes
from metaest.version import __version__ as __version__

__all__ = [
    "AdaptedAuto",
    "AdaptedAutoClassifier",
    "AdaptedAutoClassifiers",
    "AdaptedAutos",
    "AdaptedClassifier",
    "AdaptedEquation",
    "AdaptedEquations",
    "AdaptedGaussian",
    "AdaptedGaussians",
    "AdaptedPolicy",
    "AdaptedRegressor",
    "AdaptedRegressors",
    "AutoMetaClassifier",
    "AutoMetaRegressor",
    "ConformalInterval",
    "CorrelatedResidualsWarning",
    "CoverageWarning",
    "Derived",
    "DivergenceError",
    "EndOnInterrupt",
    "EquationRegressor",
    "FewShotClassifier",
    "FewShotRegressor",
    "Guard",
    "HierarchicalGPRegressor",
    "IdentifiabilityWarning",
    "MAMLClassifier",
    "MAMLPolicy",
    "MAMLRegressor",
    "ModelFileError",
    "OvershootWarning",
    "Parameter",
    "Quantity",
    "RandomCoefficientRegressor",
    "Task",
    "TaskError",
    "TaskSet",
    "UngroupedWarning",
    "UnlikelyTaskWarning",
    "adapt",
    "load",
    "make_episodes",
    "model_hash",
    "save",
    "scorers",
]

# a library says nothing unless its user asks for it
logging.getLogger("metaest").addHandler(logging.NullHandler())
