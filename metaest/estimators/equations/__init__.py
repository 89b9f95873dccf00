"""Interpretable equations whose constants are meta-learned, and adapted with standard errors."""

from metaest.estimators.equations.adapted import AdaptedEquation
from metaest.estimators.equations.adapted_many import AdaptedEquations
from metaest.estimators.equations.answers import Derived, Quantity
from metaest.estimators.equations.averaged import AveragedEquation, AveragedEquations
from metaest.estimators.equations.drawn import Drawn
from metaest.estimators.equations.likelihood import LogLikelihood
from metaest.estimators.equations.profile_likelihood import ProfileLikelihood
from metaest.estimators.equations.recalibration import Recalibration
from metaest.estimators.equations.regressor import EquationRegressor
from metaest.estimators.equations.units.adapted import AdaptedUnits
from metaest.estimators.equations.units.adapted_many import AdaptedManyUnits
from metaest.functional import Binomial, StudentT, TimeToEvent
from metaest.population.parameter import Parameter

__all__ = [
    "AdaptedEquation",
    "AdaptedEquations",
    "AdaptedManyUnits",
    "AdaptedUnits",
    "AveragedEquation",
    "AveragedEquations",
    "Binomial",
    "Derived",
    "Drawn",
    "EquationRegressor",
    "LogLikelihood",
    "Parameter",
    "ProfileLikelihood",
    "Quantity",
    "Recalibration",
    "StudentT",
    "TimeToEvent",
]
