"""List the classes of this domain that a file of `metaest.save` may name."""

from collections.abc import Mapping

from metaest_domains import physiology
from metaest_domains.physiology.changing import Changing, Coefficient
from metaest_domains.physiology.doses import Doses
from metaest_domains.physiology.integrated import SaturableEquation
from metaest_domains.physiology.linear_model import LinearCompartments
from metaest_domains.physiology.minimal_model import MinimalModel
from metaest_domains.physiology.pharmacokinetics import OneCompartment, TwoCompartments

__all__ = ["CLASSES"]

_PUBLIC = [getattr(physiology, name) for name in physiology.__all__]
_INNER = (
    Changing,
    Coefficient,
    Doses,
    LinearCompartments,
    MinimalModel,
    OneCompartment,
    SaturableEquation,
    TwoCompartments,
)
CLASSES: Mapping[str, type] = {cls.__name__: cls for cls in (*_PUBLIC, *_INNER) if isinstance(cls, type)}
