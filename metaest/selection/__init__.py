"""Ways to learn from many tasks, compared on tasks left out of their fits; the best, or an average."""

from metaest.selection.adapted import AdaptedAuto
from metaest.selection.adapted_classifier import AdaptedAutoClassifier
from metaest.selection.adapted_classifiers import AdaptedAutoClassifiers
from metaest.selection.adapted_many import AdaptedAutos
from metaest.selection.classifier import AutoMetaClassifier
from metaest.selection.populations import AdaptedPopulationAverage, AdaptedPopulationAverages, PopulationAverage
from metaest.selection.regressor import AutoMetaRegressor

__all__ = [
    "AdaptedAuto",
    "AdaptedAutoClassifier",
    "AdaptedAutoClassifiers",
    "AdaptedAutos",
    "AdaptedPopulationAverage",
    "AdaptedPopulationAverages",
    "AutoMetaClassifier",
    "AutoMetaRegressor",
    "PopulationAverage",
]
