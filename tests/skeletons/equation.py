"""An equation to start from: a function of rows and constants, and what is known of each constant beforehand."""

import torch

from metaest import EquationRegressor, Parameter


def cooling(X, k, ambient):
    """Newton's law: the temperature of a body that starts at X[:, 1], after the time X[:, 0]."""
    return ambient + (X[:, 1] - ambient) * torch.exp(-k * X[:, 0])


CONSTANTS = {
    "k": Parameter(0.1, lower=0, unit="1/min", meaning="rate of cooling"),
    "ambient": Parameter(20.0, unit="degC", meaning="temperature of the room"),
}


def model() -> EquationRegressor:
    return EquationRegressor(cooling, CONSTANTS)
