"""Small real data sets and simulated tasks for metaest, each with a data card."""

from metaest_datasets.avrami import AvramiTasks, make_avrami_tasks
from metaest_datasets.bainite import fetch_bainite
from metaest_datasets.glucose import fetch_hall2018
from metaest_datasets.linear import LinearPopulation, make_linear_tasks
from metaest_datasets.markets import load_index_prices, load_sp500_prices, make_market
from metaest_datasets.omniglot import fetch_omniglot_runs, fetch_omniglot_small
from metaest_datasets.perovskites import fetch_perovskite_labels, fetch_perovskite_table
from metaest_datasets.polymer import Crystallinity, fetch_polymer_crystallisation, relative_crystallinity
from metaest_datasets.sinusoids import make_sinusoids
from metaest_datasets.tables import load_orange, load_reference, load_sleepstudy, load_theophylline
from metaest_datasets.tempering import fetch_steel_tempering
from metaest_datasets.tga import fetch_nh4cl_tga

__all__ = [
    "AvramiTasks",
    "Crystallinity",
    "LinearPopulation",
    "fetch_bainite",
    "fetch_hall2018",
    "fetch_nh4cl_tga",
    "fetch_omniglot_runs",
    "fetch_omniglot_small",
    "fetch_perovskite_labels",
    "fetch_perovskite_table",
    "fetch_polymer_crystallisation",
    "fetch_steel_tempering",
    "load_index_prices",
    "load_orange",
    "load_reference",
    "load_sleepstudy",
    "load_sp500_prices",
    "load_theophylline",
    "make_avrami_tasks",
    "make_linear_tasks",
    "make_market",
    "make_sinusoids",
    "relative_crystallinity",
]
