"""JSON as its standard has it, and with every key once."""

import json
from typing import Any

from metaest.server.errors import Refused

__all__ = ["parse"]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise Refused("json", f"the key {twice[:40]!r} stands twice in one object.")
    return members


def _refuse(word: str) -> Any:
    raise Refused("json", f"{word} is no number in JSON.")


def parse(body: bytes) -> Any:
    """Return the value of a body.

    Raises
    ------
    Refused
        When it is no JSON in UTF-8, has a key twice, is nested too deeply, or holds NaN, Infinity or half of a
        surrogate pair.
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
        if b"\\ud" in body.lower():  # half of a pair is no character, and no text of an answer
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError:
        raise Refused("json", "the body holds half of a surrogate pair, which is no character.") from None
    except UnicodeDecodeError:
        raise Refused("json", "the body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Refused("json", f"the body is no JSON: {error.msg.lower()} ({place}).") from None
    except RecursionError:
        raise Refused("json", "the body is nested too deeply.") from None
    except ValueError:  # whole numbers of more than 4,300 digits
        raise Refused("json", "the body holds a number of thousands of digits.") from None
