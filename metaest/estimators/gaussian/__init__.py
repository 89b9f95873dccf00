"""Estimators for which the rows of a task are jointly Gaussian: a learned prior, and adaptation by conditioning."""
