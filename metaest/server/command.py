"""``metaest serve``: the command line of the server."""

import argparse
import importlib
import ipaddress
import json
import logging
import os
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from metaest.exceptions import ModelFileError
from metaest.saving import load
from metaest.server.app import LOOPBACK, create_app
from metaest.server.limits import Limits
from metaest.server.run import run

__all__ = ["add_arguments", "serve_command"]

TOKEN = "METAEST_API_TOKEN"
# characters of a token below which it can be guessed
SHORTEST_TOKEN = 16
# what an option of the command line says of a limit
HELP = {
    "max_bytes": "bytes of one request's body",
    "max_rows": "rows of one task",
    "max_tasks": "tasks of one request",
    "max_waiting": "requests that wait for an answer",
    "max_waiting_bytes": "bytes of the bodies of all requests at once",
    "max_connections": "open connections",
    "read_seconds": "time to send the head of a request, and its body",
    "answer_seconds": "time that a request may wait for its answer",
    "keep": "adapted predictors that are kept; 0 keeps none",
    "keep_bytes": "bytes of all kept predictors together",
    "expiry_seconds": "time that a predictor is kept",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``metaest serve``."""
    parser.add_argument("model", help="file of a fitted model, as metaest.save writes it")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--no-token",
        action="store_true",
        help=f"listen beyond this machine without a token in the environment variable {TOKEN}",
    )
    for what in ("equation", "module"):
        parser.add_argument(
            f"--{what}",
            metavar="PACKAGE.MODULE:NAME",
            help=f"import the {what} of the model from here; a file never names code",
        )
    parser.add_argument(
        "--columns",
        type=Path,
        metavar="FILE",
        help='JSON with unit, description, minimum and maximum of columns, {"weight": {"unit": "kg", "minimum": 0}}',
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="adapt in machine code (by default where that is possible)",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    for field in fields(Limits):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=field.type,
            default=field.default,
            metavar="N" if field.type is int else "SECONDS",
            help=f"{HELP[field.name]} (default: %(default)s)",
        )


def serve_command(arguments: argparse.Namespace) -> None:
    """Load a model and serve it until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    token = os.environ.get(TOKEN) or None
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ValueError(
            f"{TOKEN} has {len(token)} characters, which can be guessed; make one by "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'."
        )
    loopback = _is_loopback(arguments.host)
    if token is None and not loopback and not arguments.no_token:
        raise ValueError(
            f"--host {arguments.host} accepts connections from other machines, and {TOKEN} is not set; set it, "
            "or pass --no-token where something else keeps strangers out."
        )
    limits = Limits(**{field.name: getattr(arguments, field.name) for field in fields(Limits)})
    if not 0 <= arguments.port < 2**16:
        raise ValueError(f"--port must lie between 0 and 65535, got {arguments.port}.")
    columns = None if arguments.columns is None else _read_columns(arguments.columns)
    given = {
        what: _imported(getattr(arguments, what), what)
        for what in ("equation", "module")
        if getattr(arguments, what) is not None
    }
    torch.set_num_threads(arguments.threads)
    # what is to be said of rows goes to who sent them, and not into a log
    warnings.simplefilter("ignore")
    try:
        model = load(arguments.model, **given)
    except ModelFileError as error:
        if given or "is in no file" not in str(error):
            raise
        raise ModelFileError(f"{error} Here: --equation or --module PACKAGE.MODULE:NAME.") from error
    hosts = [*LOOPBACK, arguments.host] if loopback else None
    app = create_app(model, token=token, hosts=hosts, limits=limits, columns=columns, compile=arguments.compile)
    run(app, arguments.host, arguments.port, limits)


def _read_columns(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--columns {path} is no JSON: {error}.") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _imported(place: str, what: str) -> Any:
    """Import what the operator names."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise ValueError(f"--{what} must be of the form package.module:name, got {place!r}.")
    # files beside the operator, after everything that is installed
    sys.path.append(os.getcwd())
    return getattr(importlib.import_module(module), name)
