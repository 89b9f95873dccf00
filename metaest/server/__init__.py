"""Serving a fitted model over HTTP; needs the extra ``serve``."""

from metaest.server.app import create_app
from metaest.server.limits import Limits

__all__ = ["Limits", "create_app"]
