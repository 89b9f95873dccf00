"""Published population models of drugs as data files, one for each paper."""

from metaest_domains.physiology.published.catalogue import list_published, load_published, published_model

__all__ = ["list_published", "load_published", "published_model"]
