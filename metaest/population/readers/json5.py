"""JSON5: JSON with comments, trailing commas, names without quotes and texts over several lines (https://spec.json5.org)."""

import math
import re
from typing import Any

__all__ = ["parse_json5"]

# nested objects beyond this are no file of a person's
DEEPEST = 100
_BLANK = re.compile(r"(?:[\s\ufeff]|//[^\n\r\u2028\u2029]*|/\*.*?\*/)*", re.DOTALL)
_NAME = re.compile(r"[^\W\d][\w$\u200c\u200d]*|\$[\w$]*")
_NUMBER = re.compile(
    r"[+-]?(?:Infinity|NaN|0[xX][0-9a-fA-F]+|(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
)
_WORDS = {"true": True, "false": False, "null": None}
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_LINE_ENDS = "\n\r\u2028\u2029"


def parse_json5(text: str) -> Any:
    """Return the value of a JSON5 text; objects are dicts, and lists are lists.

    Raises
    ------
    ValueError
        When it is none, or an object has a key twice; the message names line and column.
    """
    reader = _Reader(text)
    value = reader.value(0)
    reader.blank()
    if reader.at < len(text):
        raise reader.error("the text should end here")
    return value


class _Reader:
    """A text and a place in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def error(self, what: str) -> ValueError:
        """Return an error that names line and column."""
        before = self.text[: self.at]
        line, column = before.count("\n") + 1, self.at - before.rfind("\n")
        return ValueError(f"no JSON5 at line {line}, column {column}: {what}.")

    def blank(self) -> str:
        """Skip blanks and comments, and return the next character, an empty text at the end."""
        match = _BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        if self.text.startswith("/*", self.at):
            raise self.error("a comment has no end")
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> Any:
        """Read the next value."""
        if depth > DEEPEST:
            raise self.error(f"values are nested more than {DEEPEST} deep")
        mark = self.blank()
        if mark == "{":
            return self.object(depth)
        if mark == "[":
            return self.list(depth)
        if mark in ("'", '"'):
            return self.string(mark)
        word = _NAME.match(self.text, self.at)
        if word and word[0] in _WORDS:
            self.at = word.end()
            return _WORDS[word[0]]
        return self.number()

    def object(self, depth: int) -> dict[str, Any]:
        """Read an object."""
        self.at += 1
        content: dict[str, Any] = {}
        while (mark := self.blank()) != "}":
            start = self.at
            key = self.string(mark) if mark in ("'", '"') else self.name()
            if key in content:
                self.at = start
                raise self.error(f"the key {key!r} comes twice")
            if self.blank() != ":":
                raise self.error(f"a colon should follow the key {key!r}")
            self.at += 1
            content[key] = self.value(depth + 1)
            if not self.comma("}"):
                break
        self.at += 1
        return content

    def list(self, depth: int) -> list[Any]:
        """Read a list."""
        self.at += 1
        content = []
        while self.blank() != "]":
            content.append(self.value(depth + 1))
            if not self.comma("]"):
                break
        self.at += 1
        return content

    def comma(self, end: str) -> bool:
        """Skip a comma and return True, or return False at the end of an object or list."""
        mark = self.blank()
        if mark == ",":
            self.at += 1
            return True
        if mark != end or not mark:
            raise self.error(f"a comma or {end} is wanted" + ("" if mark else ", and the text ends"))
        return False

    def name(self) -> str:
        """Read a key without quotes."""
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.error("a key is wanted")
        self.at = match.end()
        return match[0]

    def number(self) -> float | int:
        """Read a number."""
        match = _NUMBER.match(self.text, self.at)
        after = self.text[match.end() : match.end() + 1] if match else ""
        if match is None or after.isalnum() or after in ("_", "."):
            raise self.error("a value is wanted")
        digits = match[0]
        self.at = match.end()
        bare = digits.lstrip("+-")
        sign = -1 if digits.startswith("-") else 1
        if bare in ("Infinity", "NaN"):
            return sign * (math.inf if bare == "Infinity" else math.nan)
        if bare[:2] in ("0x", "0X"):
            return sign * int(bare, 16)
        if re.fullmatch("[0-9]{1,18}", bare):
            return sign * int(bare)
        return float(digits)

    def string(self, quote: str) -> str:
        """Read a text in quotes; a backslash at the end of a line continues it."""
        start = self.at
        self.at += 1
        parts = []
        while (mark := self.text[self.at : self.at + 1]) != quote:
            if not mark or mark in "\n\r":
                self.at = start
                raise self.error("a text has no end in its line")
            self.at += 1
            parts.append(self.escape() if mark == "\\" else mark)
        self.at += 1
        return "".join(parts)

    def escape(self) -> str:
        """Read what follows a backslash."""
        mark = self.text[self.at : self.at + 1]
        self.at += 1
        if mark in ("x", "u"):
            digits = self.text[self.at : self.at + (2 if mark == "x" else 4)]
            if not re.fullmatch("[0-9a-fA-F]{2}" if mark == "x" else "[0-9a-fA-F]{4}", digits):
                raise self.error("a backslash with x or u wants two or four hexadecimal digits")
            self.at += len(digits)
            return chr(int(digits, 16))
        if mark == "\r" and self.text[self.at : self.at + 1] == "\n":
            self.at += 1
        return "" if not mark or mark in _LINE_ENDS else _ESCAPES.get(mark, mark)
