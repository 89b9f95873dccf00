"""The version of the package, for all that is stamped with it."""

__all__ = ["__version__"]

__version__ = "0.1.0.dev0"
