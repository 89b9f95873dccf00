"""The classes that a file may name: those of this table, and of the tables of the domains, and no others."""

import importlib
from collections.abc import Mapping
from typing import Any

from sklearn.frozen import FrozenEstimator

from metaest import estimators, population, selection
from metaest.estimators.conformal import Calibration, Scores
from metaest.estimators.equations import average, many_tasks
from metaest.estimators.equations.covariates import ConstantFormulas, Covariates, TimeVaryingEquation
from metaest.estimators.equations.fitted import FittedEquation, Posterior
from metaest.estimators.equations.row_accuracy import RowAccuracy
from metaest.estimators.equations.uncertain import UncertainPopulation
from metaest.estimators.equations.units.fitted import FittedLevels
from metaest.estimators.equations.units.levels import LevelColumns, Variation
from metaest.estimators.equations.units.posterior import UnitPosterior
from metaest.estimators.gaussian import conditioning
from metaest.estimators.gaussian.hierarchical_gp.evidence import Curves, Hyperparameters
from metaest.estimators.gaussian.hierarchical_gp.kernels import Kernel
from metaest.estimators.gaussian.hierarchical_gp.prior import CurvePrior
from metaest.estimators.gaussian.hierarchical_gp.warps import Warp
from metaest.estimators.gaussian.random_coefficients.design import Design
from metaest.estimators.gaussian.random_coefficients.prior import CoefficientPrior
from metaest.estimators.gaussian.random_coefficients.trees import BoostedTrees
from metaest.estimators.gaussian.random_coefficients.uncertainty import Uncertainty
from metaest.estimators.guard import FittedGuard, GuardRule
from metaest.estimators.networks import classification, regression
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.classification import ClassAdaptation, ClassNetwork
from metaest.estimators.networks.codes import Codes
from metaest.estimators.networks.policies import PolicyAdaptation, PolicyNetwork
from metaest.estimators.networks.regression import RegressionNetwork
from metaest.estimators.seen_tasks import SeenTasks
from metaest.exceptions import ModelFileError
from metaest.functional import (
    Bernoulli,
    ClassHead,
    Correlation,
    Equation,
    EvidenceHead,
    GaussNewton,
    GradientDescent,
    HierarchicalModel,
    Huber,
    Implicit,
    LinearHead,
    NegativeBinomial,
    Noise,
    Ordinal,
    Poisson,
    PoissonCounts,
    PopulationParameters,
    Quantile,
    QueryLoss,
    Reptile,
    RowLoss,
    Scaling,
    SquaredError,
    Transforms,
    Utility,
)
from metaest.functional.equations.censoring import Column
from metaest.functional.equations.outputs import OutputEquations, OutputNoise
from metaest.saving import stored_names
from metaest.selection import class_ensemble, ensemble
from metaest.selection.class_ensemble import ClassEnsemble
from metaest.selection.ensemble import Ensemble, Member
from metaest.selection.gaussian_classes import GaussianClasses, HierarchicalGaussianClassifier
from metaest.selection.image_network import ImageNetwork
from metaest.selection.indicators import IndicatorClassifier, Indicators
from metaest.selection.populations.columns import PartColumns
from metaest.selection.populations.weighting import Weighting

__all__ = ["ANSWERS", "FORMULAS", "class_named", "function_named", "name_of_class", "name_of_function"]

_INNER: tuple[type, ...] = (
    Bernoulli,
    BoostedTrees,
    Calibration,
    ClassEnsemble,
    ClassHead,
    ClassNetwork,
    ClassAdaptation,
    Codes,
    CoefficientPrior,
    Column,
    ConstantFormulas,
    Correlation,
    Covariates,
    CurvePrior,
    Curves,
    Design,
    Ensemble,
    Equation,
    EvidenceHead,
    FittedEquation,
    FittedLevels,
    FrozenEstimator,
    GaussianClasses,
    GaussNewton,
    GradientDescent,
    GuardRule,
    HierarchicalGaussianClassifier,
    HierarchicalModel,
    Hyperparameters,
    ImageNetwork,
    IndicatorClassifier,
    Indicators,
    FittedGuard,
    Huber,
    Implicit,
    Kernel,
    LevelColumns,
    LinearHead,
    Member,
    NegativeBinomial,
    Noise,
    Ordinal,
    OutputEquations,
    OutputNoise,
    PoissonCounts,
    Adaptation,
    PartColumns,
    PolicyNetwork,
    PolicyAdaptation,
    Poisson,
    PopulationParameters,
    Posterior,
    QueryLoss,
    RegressionNetwork,
    RowAccuracy,
    Quantile,
    Reptile,
    RowLoss,
    Scaling,
    Scores,
    SeenTasks,
    SquaredError,
    TimeVaryingEquation,
    Transforms,
    UncertainPopulation,
    Uncertainty,
    UnitPosterior,
    Utility,
    Variation,
    Warp,
    Weighting,
)
_PUBLIC = [getattr(part, name) for part in (estimators, population, selection) for name in part.__all__]
CLASSES: Mapping[str, type] = {
    stored_names.CLASSES.get(cls.__name__, cls.__name__): cls for cls in (*_INNER, *_PUBLIC) if isinstance(cls, type)
}
_NAMES: Mapping[type, str] = {cls: name for name, cls in CLASSES.items()}
# packages that say in `saved.CLASSES` what of theirs a file may name
DOMAINS = ("kinetics", "physiology", "trading")
# what a judge asks, by the kind of model
ANSWERS: Mapping[str, Any] = {
    "average": ensemble.guard_answers,
    "average of classes": class_ensemble.class_guard_answers,
    "equation": many_tasks.guard_answers,
    "equation in several structures": average.guard_answers,
    "gaussian": conditioning.guard_answers,
    "regression": regression.query_answers,
    "classes": classification.query_answers,
}
# what a file may name of a class: formulas of a catalogue, written as static methods
FORMULAS = ("formula", "inverse", "examine", "shape")


def class_named(name: Any) -> type:
    """Return the class of a name, or raise a ModelFileError."""
    if isinstance(name, str) and name in CLASSES:
        return CLASSES[name]
    domain, _, name_in_domain = str(name).partition(".")
    if domain in DOMAINS:
        table = _table(domain)
        if table is None:
            raise ModelFileError(f"it needs metaest_domains.{domain}, which is not installed.")
        if name_in_domain in table:
            return table[name_in_domain]
    raise ModelFileError(f"it names {name!r}, which is no class of metaest.")


def name_of_class(cls: type) -> str | None:
    """Return the name of a class in a file, or None where it has none."""
    if cls in _NAMES:
        return _NAMES[cls]
    for domain in DOMAINS:
        if cls.__module__.startswith(f"metaest_domains.{domain}."):
            names = (name for name, other in (_table(domain) or {}).items() if other is cls)
            name = next(names, None)
            return name and f"{domain}.{name}"
    return None


def name_of_function(function: Any) -> list[str] | None:
    """Return class and name of a formula of a catalogue, or None where a function is another."""
    owner, _, attribute = getattr(function, "__qualname__", "").rpartition(".")
    module = str(getattr(function, "__module__", ""))
    for domain in DOMAINS:
        if module.startswith(f"metaest_domains.{domain}.") and attribute in FORMULAS:
            for name, cls in (_table(domain) or {}).items():
                if cls.__name__ == owner and getattr(cls, attribute, None) is function:
                    return [f"{domain}.{name}", attribute]
    return None


def function_named(name: Any) -> Any:
    """Return the formula of a catalogue, or raise a ModelFileError."""
    if not (isinstance(name, list) and len(name) == 2 and name[1] in FORMULAS):
        raise ModelFileError(f"it names {name!r}, which is no formula of a catalogue.")
    function = getattr(class_named(name[0]), name[1], None)
    if not callable(function):
        raise ModelFileError(f"{name[0]} has no {name[1]}.")
    return function


def _table(domain: str) -> Mapping[str, type] | None:
    # the names are those of DOMAINS, never a file's
    try:
        table: Mapping[str, type] = importlib.import_module(f"metaest_domains.{domain}.saved").CLASSES
    except ModuleNotFoundError:
        return None
    return table
