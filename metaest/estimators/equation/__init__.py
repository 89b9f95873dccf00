"""Interpretable equations whose constants are meta-learned, and adapted with standard errors."""

from metaest.estimators.equation.adapted import AdaptedEquation
from metaest.estimators.equation.derived import Derived, Quantity
from metaest.estimators.equation.many import AdaptedEquations
from metaest.estimators.equation.parameter import Parameter
from metaest.estimators.equation.regressor import EquationRegressor

__all__ = ["AdaptedEquation", "AdaptedEquations", "Derived", "EquationRegressor", "Parameter", "Quantity"]
