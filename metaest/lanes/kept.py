"""Machine code on disk, by a hash of what it was made from; code that is read is run, so that trust comes first."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import Any

__all__ = ["Kept"]

# files that are kept; the oldest make room
MOST = 256


class Kept:
    """Machine code under a key.

    It lies in ``$METAEST_CACHE_DIR``, or else in the user's folder for caches, under ``metaest/lanes``. A folder that
    others can write to, or that is another user's, is not used, nor one that cannot be written to; then code is made
    anew.

    Parameters
    ----------
    key : str
    """

    def __init__(self, key: str) -> None:
        folder = _folder()
        self.path = None if folder is None else folder / f"{key}.o"

    def load(self, module: Any) -> bytes | None:
        """Return what was kept, if it is whole; LLVM calls this."""
        if self.path is None:
            return None
        try:
            found = self.path.read_bytes()
        except OSError:
            return None
        code = found[32:]
        return code if code and hashlib.sha256(code).digest() == found[:32] else None

    def keep(self, module: Any, code: bytes) -> None:
        """Keep machine code; LLVM calls this."""
        if self.path is None:
            return
        fresh = self.path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
        try:
            fresh.write_bytes(hashlib.sha256(code).digest() + code)
            fresh.replace(self.path)
            self._make_room(self.path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)

    @staticmethod
    def _make_room(folder: Path) -> None:
        known = sorted(folder.glob("*.o"), key=lambda path: path.stat().st_mtime)
        for path in known[:-MOST]:
            path.unlink(missing_ok=True)


def _folder() -> Path | None:
    """Return where machine code is kept, or None where no folder is safe."""
    try:
        base = os.environ.get("METAEST_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        path = Path(base) / "metaest" / "lanes"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = all(map(_is_ours, (path, path.parent)))
    except (OSError, RuntimeError):
        return None
    return path if own else None


def _is_ours(path: Path) -> bool:
    if not hasattr(os, "getuid"):
        return True
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
