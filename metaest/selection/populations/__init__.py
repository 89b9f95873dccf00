"""Several fitted equations, each with its population, averaged anew for every task by what its rows say."""

from metaest.selection.populations.adapted import AdaptedPopulationAverage
from metaest.selection.populations.adapted_many import AdaptedPopulationAverages
from metaest.selection.populations.average import PopulationAverage

__all__ = ["AdaptedPopulationAverage", "AdaptedPopulationAverages", "PopulationAverage"]
