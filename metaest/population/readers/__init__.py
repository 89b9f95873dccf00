"""Readers of the numbers that other programs keep in files."""

from metaest.population.readers.monolix import read_monolix
from metaest.population.readers.nonmem_ext import read_nonmem_ext
from metaest.population.readers.nonmem_phi import read_nonmem_phi
from metaest.population.readers.pkpdsim import read_pkpdsim

__all__ = ["read_monolix", "read_nonmem_ext", "read_nonmem_phi", "read_pkpdsim"]
