"""Estimators of kinetics that adapt to few measurements: transformation, conversion, tempering, enzymes and growth."""

from metaest_domains.kinetics.austin_rickett import AustinRickettRegressor
from metaest_domains.kinetics.catalogue import KineticRegressor
from metaest_domains.kinetics.conversion import FirstOrderConversionRegressor, NthOrderConversionRegressor
from metaest_domains.kinetics.growth import LogisticGrowthRegressor
from metaest_domains.kinetics.jmak import JMAKArrheniusRegressor, JMAKRegressor
from metaest_domains.kinetics.nonisothermal import AlongHistory, NonIsothermalJMAKRegressor
from metaest_domains.kinetics.outputs import (
    activation_energy,
    half_transformation_time,
    pre_exponential,
    time_to,
    ttt_curve,
)
from metaest_domains.kinetics.parallel import ParallelJMAKRegressor
from metaest_domains.kinetics.plots import plot_constants, plot_curve, plot_errors, plot_ttt
from metaest_domains.kinetics.published import list_published, load_published, published_model
from metaest_domains.kinetics.readers import read_curve_files, read_curves
from metaest_domains.kinetics.saturation import MichaelisMentenRegressor
from metaest_domains.kinetics.tempering import HollomonJaffeRegressor

__all__ = [
    "AlongHistory",
    "AustinRickettRegressor",
    "FirstOrderConversionRegressor",
    "HollomonJaffeRegressor",
    "JMAKArrheniusRegressor",
    "JMAKRegressor",
    "KineticRegressor",
    "LogisticGrowthRegressor",
    "MichaelisMentenRegressor",
    "NonIsothermalJMAKRegressor",
    "NthOrderConversionRegressor",
    "ParallelJMAKRegressor",
    "activation_energy",
    "half_transformation_time",
    "list_published",
    "load_published",
    "plot_constants",
    "plot_curve",
    "plot_errors",
    "plot_ttt",
    "pre_exponential",
    "published_model",
    "read_curve_files",
    "read_curves",
    "time_to",
    "ttt_curve",
]
