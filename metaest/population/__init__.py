"""A population of tasks: its constants, how they vary between tasks, and where the numbers come from."""

from metaest.population.parameter import Parameter

__all__ = ["Parameter"]
