"""Small real data sets and simulated tasks for metaest, each with a data card."""

from metaest_datasets.linear import LinearPopulation, make_linear_tasks
from metaest_datasets.sinusoids import make_sinusoids
from metaest_datasets.tables import load_orange, load_reference, load_sleepstudy, load_theophylline

__all__ = [
    "LinearPopulation",
    "load_orange",
    "load_reference",
    "load_sleepstudy",
    "load_theophylline",
    "make_linear_tasks",
    "make_sinusoids",
]
