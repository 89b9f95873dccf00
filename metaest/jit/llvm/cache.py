"""On-disk cache of compiled code. A file is executed, so that no other user may have been able to write it."""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import secrets
import stat
from pathlib import Path

from metaest.jit.llvm.private import PrivateFolder

__all__ = ["CachedCode"]

# most files; the oldest are removed
MOST = 256
# most bytes of all files together
MOST_BYTES = 2**28
# most bytes of one file: a program of that size takes minutes to compile
LARGEST = 2**26
# bytes of a seal and of the secret it is made with
SEAL = 32
SECRET = "secret"
_logger = logging.getLogger("metaest.compile")


class CachedCode:
    """Machine code under a key, in ``metaest/lanes`` in the user's folder for caches.

    That folder is ``$METAEST_CACHE_DIR``, else ``$XDG_CACHE_HOME``, else ``~/.cache``; ``METAEST_CACHE_DIR=off``
    switches the cache off. No other user may be able to write to a file, to the folder or to one above it
    (:class:`~metaest.jit.llvm.private.PrivateFolder`). A file begins with a seal, the HMAC-SHA256 of key and code under
    a secret in ``metaest/secret`` that only the user can read, so that damaged, exchanged and foreign code is not
    loaded. Whatever is wrong with folder or file, code is made anew, and a line of level "info" is logged.

    Parameters
    ----------
    key : str
        It says all that the code depends on: text, compiler, processor, versions.

    Attributes
    ----------
    path : Path or None
        Where the code lies; None where nothing is kept.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self.path: Path | None = None
        try:
            self._base = _base()
            if self._base is not None:
                self._lanes().close()
                self.path = self._base / "metaest" / "lanes" / self._name
        except (OSError, RuntimeError) as error:
            _logger.info("machine code is not kept on disk: %s", error)

    def load(self) -> bytes | None:
        """Return the code, or None where it is missing or not to be trusted."""
        if self.path is None:
            return None
        try:
            with self._metaest() as folder:
                secret = _secret(folder)
            with self._lanes() as folder:
                content = folder.read(self._name, SEAL + LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            _logger.info("machine code on disk is not used: %s", error)
            return None
        seal, code = content[:SEAL], content[SEAL:]
        if code and hmac.compare_digest(seal, self._seal(secret, code)):
            return code
        _logger.info("machine code on disk is not used: %s is damaged, or was sealed by somebody else", self._name)
        return None

    def store(self, code: bytes) -> None:
        """Write the code to disk, where that is possible."""
        if self.path is None or not 0 < len(code) <= LARGEST:
            return
        try:
            with self._metaest() as folder:
                secret = _made_secret(folder)
            with self._lanes() as folder:
                folder.write(self._name, self._seal(secret, code) + code)
                folder.remove_half_written()
                _make_room(folder)
        except OSError as error:
            _logger.info("machine code is not kept on disk: %s", error)

    @property
    def _name(self) -> str:
        return f"{self._key}.o"

    def _seal(self, secret: bytes, code: bytes) -> bytes:
        return hmac.digest(secret, self._key.encode() + b"\0" + code, "sha256")

    def _metaest(self) -> PrivateFolder:
        assert self._base is not None
        return PrivateFolder(self._base, "metaest")

    def _lanes(self) -> PrivateFolder:
        assert self._base is not None
        return PrivateFolder(self._base, "metaest", "lanes")


def _base() -> Path | None:
    """Return the user's folder for caches, or None where none is wanted."""
    asked = os.environ.get("METAEST_CACHE_DIR", "")
    if asked.lower() == "off":
        return None
    return Path(asked or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _secret(folder: PrivateFolder) -> bytes:
    """Return what this user's code is sealed with."""
    secret = folder.read(SECRET, SEAL, stat.S_IRWXG | stat.S_IRWXO)
    if len(secret) != SEAL:
        raise PermissionError(f"{SECRET} is damaged")
    return secret


def _made_secret(folder: PrivateFolder) -> bytes:
    """Return the secret, made anew where it is missing, damaged or known to others."""
    with contextlib.suppress(OSError):
        return _secret(folder)
    folder.write(SECRET, secrets.token_bytes(SEAL))
    return _secret(folder)  # which another process may have written since


def _make_room(folder: PrivateFolder) -> None:
    """Remove the oldest files beyond what is kept."""
    files = [(state.st_mtime, state.st_size, name) for name, state in folder.files() if name.endswith(".o")]
    count = total = 0
    for _, size, name in sorted(files, reverse=True):
        if count < MOST and total + size <= MOST_BYTES:
            count, total = count + 1, total + size
        else:
            folder.remove(name)
