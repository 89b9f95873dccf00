"""The fit of an equation: the population of its constants, in the order of the algorithm."""
