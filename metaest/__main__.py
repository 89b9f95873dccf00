"""The command ``metaest``."""

import argparse
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.
    """
    parser = argparse.ArgumentParser("metaest", description="Meta-learned models for many small related data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a fitted model over HTTP")
    try:
        from metaest.server.command import add_arguments, serve_command
    except ModuleNotFoundError as error:
        sys.exit(f"metaest serve needs {error.name}: pip install 'metaest[serve]'")
    add_arguments(serve)
    try:
        serve_command(parser.parse_args(arguments))
    except (AttributeError, ImportError, OSError, TypeError, ValueError) as error:
        sys.exit(f"metaest serve: {error}")


if __name__ == "__main__":
    main()
