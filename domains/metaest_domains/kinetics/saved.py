"""List the classes of this domain that a file of `metaest.save` may name."""

from collections.abc import Mapping

from metaest_domains import kinetics
from metaest_domains.kinetics.catalogue import Formula
from metaest_domains.kinetics.history import Histories, History
from metaest_domains.kinetics.nonisothermal import Along

__all__ = ["CLASSES"]

_PUBLIC = [getattr(kinetics, name) for name in kinetics.__all__]
CLASSES: Mapping[str, type] = {
    cls.__name__: cls for cls in (*_PUBLIC, Along, Formula, Histories, History) if isinstance(cls, type)
}
