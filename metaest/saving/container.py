"""The bytes of a file: a header and arrays, in safetensors or in JSON, with a hash over both.

A file is read by size first: it must be a regular file, and everything it declares must lie inside it, so that memory
is bounded by the length of the file. Nothing in it is run. It is written whole or not at all.
"""

import errno
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from metaest.exceptions import ModelFileError

__all__ = ["FORMAT", "canonical", "pack", "read", "unpack"]

# the version of the format that is written; a newer one is refused
FORMAT = 1
# the key of the header among the metadata of a safetensors file
KEY = "metaest"
# how the file of a predictor begins, before the safetensors file that was made short by zlib
PACKED = b"metaest\n"
# how pickles begin, and those that joblib compresses by zlib
PICKLES = b"\x80", b"x"
# a packed file may become so many times as long, and so many bytes more; safetensors of weights shrink to a third, and
# what shrinks further is not packed: JSON that says the same again and again takes many times its length in memory
MOST_RATIO = 8
LEAST_UNPACKED = 2**20
# bytes of a header, of a file of JSON and of a packed file beyond which none is read or written: numbers in JSON take
# some twenty times their length in memory
LARGEST_HEADER = 2**28
# bytes that precede the header of a safetensors file, and of which the last two are zero unless it is absurdly long
PREFIX = 8


def canonical(header: Any) -> bytes:
    """Return JSON that is the same for equal contents."""
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def pack(header: dict[str, Any], tensors: Mapping[str, Tensor] | None) -> bytes:
    """Return the bytes of a file, with their hash in the header.

    Parameters
    ----------
    header : dict
        Of what JSON has.
    tensors : dict of str to Tensor, or None
        None for a file that is JSON throughout.
    """
    header = {**header, "sha256": _hash(header, tensors or {})}
    text = _readable(header) if tensors is None else json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > LARGEST_HEADER // 2:  # quotes in a text in JSON take two characters
        raise ModelFileError(f"{len(text):,} bytes are too many for one file; save predictors in parts, or one by one.")
    if tensors is None:
        return text
    whole = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    content = safetensors.torch.save(whole, {KEY: text.decode()})
    if header[KEY] != "predictor":
        return content
    packed = PACKED + zlib.compress(content, 9)
    likely = len(packed) < LARGEST_HEADER and len(content) < LEAST_UNPACKED + MOST_RATIO * len(packed)
    return packed if likely else content


def _readable(header: dict[str, Any]) -> bytes:
    """Return JSON with what is for readers on lines of its own."""
    lines = [
        f" {json.dumps(name)}: {json.dumps(value, indent=2 if name == 'about' else None, allow_nan=False)}"
        for name, value in header.items()
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the arrays of a file, after a look at its hash.

    Raises
    ------
    ModelFileError
        When the content is no model file, or was changed.
    """
    content = _unzipped(content)
    if len(content) <= PREFIX:
        raise ModelFileError("it is too short to be a model file of metaest.")
    if content[PREFIX - 2 : PREFIX] == b"\0\0":
        text, tensors = _safetensors(content)
    else:
        _require_braces(content.strip(), content)
        text, tensors = content, {}
    header = _json(text)
    if not isinstance(header, dict) or "metaest" not in header:
        raise ModelFileError("it is no model file of metaest.")
    version = header.get("format")
    if type(version) is not int or version < 1:
        raise ModelFileError("it states no version of its format.")
    if version > FORMAT:
        raise ModelFileError(
            f"it has version {version} of the format, and this metaest reads up to {FORMAT}; update metaest."
        )
    stated = header.pop("sha256", None)
    if stated != _hash(header, tensors):
        raise ModelFileError("its content is not what was written (the hash differs): it is damaged, or was edited.")
    return header, tensors


def _unzipped(content: bytes) -> bytes:
    """Return the safetensors file that a predictor's file was packed from, no longer than is likely."""
    if not content.startswith(PACKED):
        return content
    packed, most = content[len(PACKED) :], LEAST_UNPACKED + MOST_RATIO * len(content)
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(packed, most)
    except zlib.error as error:
        raise ModelFileError(f"it is damaged ({error}).") from error
    if not unpacker.eof or unpacker.unused_data:
        raise ModelFileError("it is cut off, longer than it was written, or claims to be very large.")
    return content


def _require_braces(text: bytes, content: bytes) -> None:
    """Say what a file is whose text cannot be an object of JSON."""
    if text.startswith(b"{") and text.endswith(b"}"):
        return
    if text.startswith(b"{"):
        raise ModelFileError("it is cut off, or something was written behind its end.")
    if content.startswith(PICKLES):
        raise ModelFileError(
            "it looks like a pickle (of pickle or joblib), which is code; load reads files of metaest.save. Where "
            "you trust whoever made it, read it by pickle or joblib, and save the model anew."
        )
    raise ModelFileError("it is no model file of metaest.")


def _safetensors(content: bytes) -> tuple[bytes, dict[str, Tensor]]:
    length = int.from_bytes(content[:PREFIX], "little")
    if length > min(len(content) - PREFIX, LARGEST_HEADER):
        raise ModelFileError("it is cut off, or no safetensors file.")
    text = _json(content[PREFIX : PREFIX + length])
    metadata = text.get("__metadata__") if isinstance(text, dict) else None
    header = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(header, str):
        raise ModelFileError("it is a safetensors file, but not one of metaest.")
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, RuntimeError, KeyError, TypeError, OverflowError) as error:
        raise ModelFileError(f"its tensors cannot be read ({error}).") from error
    return header.encode(), tensors


def _json(text: bytes) -> Any:
    if len(text) > LARGEST_HEADER:
        raise ModelFileError(f"its header has {len(text):,} bytes; at most {LARGEST_HEADER:,} are read.")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(made := dict(pairs)) < len(pairs):
            raise ModelFileError("a name stands twice in its header.")
        return made

    def refuse(word: str) -> Any:
        raise ModelFileError(f"its header holds {word}, which JSON does not know.")

    try:
        return json.loads(text.decode(), object_pairs_hook=once, parse_constant=refuse)
    except RecursionError as error:
        raise ModelFileError("its header is nested too deeply.") from error
    except ValueError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError("its header is no JSON.") from error


def _hash(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a header and of every array with its name, dtype and shape."""
    digest = hashlib.sha256(canonical(header))
    for name in sorted(tensors):
        digest.update(canonical([name, str(tensors[name].dtype), list(tensors[name].shape)]))
        digest.update(bytes_of(tensors[name]))
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor's numbers."""
    flat = tensor.detach().cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def as_path(path: Any) -> Path:
    """Return a path, or raise a ModelFileError where the argument is none."""
    if not isinstance(path, (str, os.PathLike)):
        raise ModelFileError(f"path must be a string or a path, got {path!r}.")
    named = Path(os.fsdecode(path))
    try:
        encoded = os.fsencode(named)
    except UnicodeEncodeError:
        encoded = b"\0"
    if not named.name or b"\0" in encoded:
        raise ModelFileError(f"path must name a file, got {str(path)!r}.")
    return named


def read(path: Any) -> bytes:
    """Return the bytes of a regular file.

    Raises
    ------
    ModelFileError
        When it is none.
    FileNotFoundError, IsADirectoryError, PermissionError
        As `open` raises them.
    """
    path = as_path(path)
    # a pipe without a writer would wait for ever
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(kind := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "This is a folder, not the file of a model", str(path))
        raise ModelFileError("it is no regular file.")
    with os.fdopen(descriptor, "rb") as file:
        size, start = os.fstat(descriptor).st_size, file.read(PREFIX)
        if start == PACKED or start[PREFIX - 2 :] != b"\0\0":
            if size > LARGEST_HEADER:
                raise ModelFileError(f"it has {size:,} bytes; at most {LARGEST_HEADER:,} of such a file are read.")
        else:
            start += file.read(min(LARGEST_HEADER, int.from_bytes(start, "little")))
            if start[PREFIX : PREFIX + 1] != b"{":
                _require_braces(start[PREFIX:], start)
            if len(start) + _declared(start[PREFIX:]) != size:
                raise ModelFileError("it is shorter or longer than it declares to be.")
        return start + file.read(size - len(start) + 1)


def _declared(text: bytes) -> int:
    """Return how many bytes follow the header of a safetensors file."""
    header = _json(text)
    if not isinstance(header, dict):
        raise ModelFileError("it is no safetensors file.")
    ends = [0]
    for name, entry in header.items():
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if name == "__metadata__":
            continue
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
            raise ModelFileError("it is no safetensors file: an array does not say where its numbers are.")
        ends.append(offsets[1])
    return max(ends)
