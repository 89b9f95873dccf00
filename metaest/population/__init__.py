"""A population of tasks: its constants, how they vary between tasks, and where the numbers come from."""

from metaest.population.block import Block
from metaest.population.effects import Category, Effect, Exponential, Formula, Linear, Maturation, Power, Shift
from metaest.population.estimates import Estimates
from metaest.population.noise_model import NoiseModel, OutputNoiseModel
from metaest.population.parameter import Parameter
from metaest.population.population import Population
from metaest.population.provenance import Provenance
from metaest.population.readers import read_monolix, read_nonmem_ext, read_nonmem_phi, read_pkpdsim

__all__ = [
    "Block",
    "Category",
    "Effect",
    "Estimates",
    "Exponential",
    "Formula",
    "Linear",
    "Maturation",
    "NoiseModel",
    "OutputNoiseModel",
    "Parameter",
    "Population",
    "Power",
    "Provenance",
    "Shift",
    "read_monolix",
    "read_nonmem_ext",
    "read_nonmem_phi",
    "read_pkpdsim",
]
