"""Published kinetic constants of materials as data files."""

from metaest_domains.kinetics.published.catalogue import list_published, load_published, published_model

__all__ = ["list_published", "load_published", "published_model"]
