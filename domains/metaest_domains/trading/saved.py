"""List the classes of this domain that a file of `metaest.save` may name."""

from collections.abc import Mapping

from metaest_domains import trading

__all__ = ["CLASSES"]

CLASSES: Mapping[str, type] = {
    name: getattr(trading, name) for name in trading.__all__ if isinstance(getattr(trading, name), type)
}
