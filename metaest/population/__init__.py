"""A population of tasks: its constants, how they vary between tasks, and where the numbers come from."""

from metaest.population.block import Block
from metaest.population.effects import Category, Effect, Exponential, Formula, Linear, Maturation, Power, Shift
from metaest.population.noise_model import NoiseModel
from metaest.population.parameter import Parameter
from metaest.population.population import Population
from metaest.population.provenance import Provenance

__all__ = [
    "Block",
    "Category",
    "Effect",
    "Exponential",
    "Formula",
    "Linear",
    "Maturation",
    "NoiseModel",
    "Parameter",
    "Population",
    "Power",
    "Provenance",
    "Shift",
]
