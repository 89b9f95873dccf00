"""Files that nobody but their owner can have written: checked on what was opened, never on a name."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["PrivateFolder"]

# what ends the name of a file that is still being written; the number of its process stands before it
HALF = ".part"
# seconds after which a half-written file is left over, whoever has the number of its process now
ABANDONED = 86_400
SHARED = stat.S_IWGRP | stat.S_IWOTH
_OPENED = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
# enough for the folders on the way, of which some may be entered and not listed
_ENTERED = _OPENED | getattr(os, "O_PATH", os.O_RDONLY)


class PrivateFolder:
    """A folder of the user's that no other user can write to, held by its descriptor.

    The path is resolved once. Then every folder from the root downwards is opened by the descriptor of the one before,
    following no link, and is checked as ssh does with `StrictModes`: it belongs to the user or to root, and neither
    group nor others can write to it. A folder such as /tmp may stand on the way, in which everybody can write, but only
    the owner of a file can rename or delete it. The last folder belongs to the user and is writable for nobody else.

    What is missing is made, for the user alone. Close it by `with`.

    Parameters
    ----------
    base : Path
        An absolute path; links in it are followed.
    *inside : str
        Names of folders in it; none of them may be a link.

    Raises
    ------
    OSError
        When it cannot be opened or made, or is not private.
    """

    def __init__(self, base: Path, *inside: str) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "geteuid"):
            raise PermissionError("this system does not say who owns a file")
        if not base.is_absolute():
            raise PermissionError(f"{base} is not an absolute path")
        path = Path(os.path.realpath(base), *inside)
        self._folder = os.open(path.anchor, _ENTERED)
        try:
            for depth, part in enumerate(path.parts[1:], start=1):
                _require_safe(os.fstat(self._folder), Path(*path.parts[:depth]))
                last = depth == len(path.parts) - 1
                above, self._folder = self._folder, _opened(part, self._folder, _OPENED if last else _ENTERED)
                os.close(above)
            _require_private(os.fstat(self._folder), str(path), stat.S_ISDIR, SHARED)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PrivateFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._folder)

    def read(self, name: str, most: int, shared: int = SHARED) -> bytes:
        """Return what is in a file of at most so many bytes.

        Raises
        ------
        OSError
            When there is none, or it is a link or has several names, is no regular file, is another user's, is larger,
            or has one of the permissions in `shared`.
        """
        # a pipe is opened at once, without waiting for somebody who writes to it
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=self._folder), "rb") as file:
            state = os.fstat(file.fileno())
            _require_private(state, name, stat.S_ISREG, shared)
            if state.st_nlink > 1:
                raise PermissionError(f"{name} has {state.st_nlink} names")
            if state.st_size > most:
                raise PermissionError(f"{name} is larger than {most} bytes")
            return file.read(most)

    def write(self, name: str, data: bytes) -> None:
        """Write a file for the user alone, whatever the umask; others see the old one or the new one whole."""
        half = f"{name}.{os.getpid()}.{secrets.token_hex(8)}{HALF}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(half, flags, 0o600, dir_fd=self._folder)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(data)
            os.replace(half, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            self.remove(half)
            raise

    def remove(self, name: str) -> None:
        """Remove a file if it is there and can be removed."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._folder)

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Return names and states of the files that are there."""
        for name in os.listdir(self._folder):
            with contextlib.suppress(OSError):
                yield name, os.stat(name, dir_fd=self._folder, follow_symlinks=False)

    def remove_half_written(self) -> None:
        """Remove what processes that ended were about to write."""
        for name, state in self.files():
            parts = name.split(".")
            if not name.endswith(HALF) or len(parts) < 4:
                continue
            if time.time() - state.st_mtime > ABANDONED or not _runs(parts[-3]):
                self.remove(name)


def _opened(name: str, above: int, flags: int) -> int:
    """Open a folder in another one; make it where it is missing."""
    with contextlib.suppress(FileNotFoundError):
        return os.open(name, flags, dir_fd=above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
        os.chmod(name, 0o700, dir_fd=above)  # the umask may have taken something away
    return os.open(name, flags, dir_fd=above)


def _require_safe(state: os.stat_result, path: Path) -> None:
    if state.st_uid not in (0, os.geteuid()):
        raise PermissionError(f"{path} is another user's")
    if state.st_mode & SHARED and not state.st_mode & stat.S_ISVTX:
        raise PermissionError(f"others can write to {path}")


def _require_private(state: os.stat_result, name: str, kind: Callable[[int], bool], shared: int) -> None:
    if not kind(state.st_mode):
        raise PermissionError(f"{name} is of another kind")
    if state.st_uid != os.geteuid():
        raise PermissionError(f"{name} is another user's")
    if state.st_mode & shared:
        raise PermissionError(f"{name} is open to others")


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        pass
    return True
