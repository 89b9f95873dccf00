"""Checkpoints: the state of a fit in a file, from which an interrupted fit continues with the same numbers."""

import contextlib
import hashlib
import json
import logging
import os
import platform
import threading
from pathlib import Path
from typing import Any, Protocol, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from metaest.estimators.fingerprint import digest, digest_of_tasks, engine
from metaest.exceptions import warn
from metaest.functional.outer import State
from metaest.tasks import TaskSet

__all__ = ["Checkpoint", "checkpoint_of", "require_seed", "write_whole"]

SUFFIX = ".checkpoint"
# settings that the numbers of a fit do not depend on; callbacks may end a fit early, which is left to the user
IGNORED = {"checkpoint", "checkpoint_every", "verbose", "callbacks", "random_state"}
# length of the hash at the beginning of a file, in bytes
HASH = 32
_logger = logging.getLogger("metaest.fit")
# files of the fits that run in this process
_running: set[Path] = set()


class DamagedError(ValueError):
    """A file does not hold what was written."""


class Checkpoint:
    """The file of one fit in a folder that many fits may share.

    It has the name of the estimator and a hash of data, settings, seed, versions and processor, so that fits on other
    data or settings never meet. A state is written to another name first and takes its place when it is on disk. Files
    hold numbers and JSON, no pickled objects.

    Parameters
    ----------
    folder : path-like
        Created where it does not exist.
    every : int
        Meta-steps or iterations from one state to the next.
    estimator : str
    parts : dict of str to str
        Hashes of data, settings and versions, by name.
    """

    def __init__(self, folder: Any, every: int, estimator: str, parts: dict[str, str]) -> None:
        self.every, self.estimator, self.parts = every, estimator, parts
        self.folder = _as_folder(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{estimator}-{digest(parts)}{SUFFIX}"
        self._can_write = True

    def __enter__(self) -> Self:
        _running.add(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Remove the file of a fit that succeeded."""
        if kind is None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
        _running.discard(self.path)  # last: where the fit is seen to have ended, its file is gone

    def load(self) -> State | None:
        """Return the state that was saved last, or None where no file can be read."""
        self._clear()
        try:
            state, _ = _read(self.path)
        except FileNotFoundError:
            self._tell_of_others()
            return None
        except (OSError, DamagedError) as error:
            warn(f"checkpoint: {self.path} cannot be read ({error}); the fit starts from the beginning.")
            return None
        _logger.info("the fit goes on from %s", self.path)
        return state

    def save(self, state: State) -> None:
        """Write a state; where writing fails, warn once and write no more."""
        if not self._can_write:
            return
        header = {"parts": self.parts, "process": os.getpid(), "host": platform.node()}
        try:
            write_whole(self.path, _packed(state, header))
        except OSError as error:
            self._can_write = False
            warn(f"checkpoint: {self.path} cannot be written ({error}); the fit continues without checkpoints.")

    def _clear(self) -> None:
        """Remove incomplete files of processes that were killed."""
        for half in self.folder.glob(f".{self.path.name}.*"):
            process = half.name.split(".")[-2]
            if process.isdigit() and not _runs(half, int(process), platform.node()):
                with contextlib.suppress(OSError):
                    half.unlink(missing_ok=True)

    def _tell_of_others(self) -> None:
        """Log the checkpoints of other fits that run, and warn of those of fits that have ended."""
        for path in sorted(self.folder.glob(f"{self.estimator}-*{SUFFIX}")):
            try:
                _, header = _read(path)
            except (OSError, DamagedError):  # written by another fit, and gone by now
                continue
            others = [part for part, value in self.parts.items() if header["parts"].get(part) != value]
            message = (
                f"checkpoint: {path} is of a fit on other {' and other '.join(others)}; this fit starts from the "
                "beginning. Delete the file if that fit will not be continued."
            )
            if _runs(path, header["process"], header["host"]):
                _logger.info(message)
            elif path.exists():  # the fit may have ended since its file was read
                warn(message)


class Checkpointed(Protocol):
    """An estimator that can keep the state of its fit in a file."""

    checkpoint: Any
    checkpoint_every: int
    random_state: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return all settings by name."""


def checkpoint_of(model: Checkpointed, tasks: TaskSet, seed: int, *further: Any) -> Checkpoint | None:
    """Return the checkpoint of a fit of a model to tasks, or None where the model has no `checkpoint`.

    Parameters
    ----------
    model : estimator
    tasks : TaskSet
    seed : int
        Drawn from ``random_state``.
    *further
        Other values that the fit depends on.

    Raises
    ------
    ValueError
        When ``random_state`` is None: a fit that continues could not draw the same numbers.
    """
    if model.checkpoint is None:
        return None
    require_seed(model.checkpoint, model.random_state)
    settings = {name: value for name, value in model.get_params(deep=False).items() if name not in IGNORED}
    parts = {
        "data": digest_of_tasks(tasks),
        "settings": digest([type(model), settings, seed, *further]),
        "versions or processor": digest(engine()),
    }
    return Checkpoint(model.checkpoint, int(model.checkpoint_every), type(model).__name__, parts)


def require_seed(checkpoint: Any, random_state: Any) -> None:
    """Raise a ValueError where an estimator has a `checkpoint` and no `random_state`."""
    if checkpoint is not None and random_state is None:
        raise ValueError(
            "checkpoint: an interrupted fit can continue only if it draws the same numbers; set random_state to a "
            "whole number."
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it when it is on disk, so that it is never seen incomplete."""
    name = os.fsdecode(os.fsencode(path.name)[:200])  # with the suffix, a name has at most 255 bytes
    fresh = path.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}")
    try:
        fresh.unlink(missing_ok=True)
        with open(fresh, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is not None:  # not the temporary name
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _packed(state: State, header: dict[str, Any]) -> bytes:
    """Return the bytes of a file: a hash, then the tensors, one of which holds everything else as JSON."""
    tensors: dict[str, Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = f"tensor {len(tensors)}"
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    text = json.dumps({"state": plain(state), **header}).encode()
    tensors["json"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    content = safetensors.torch.save(tensors)
    return hashlib.blake2b(content, digest_size=HASH).digest() + content


def _read(path: Path) -> tuple[State, dict[str, Any]]:
    """Return the state in a file and its header.

    Raises
    ------
    DamagedError
        When the file is not what was written.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise DamagedError("it is no regular file")
    whole = path.read_bytes()
    content = whole[HASH:]
    if hashlib.blake2b(content, digest_size=HASH).digest() != whole[:HASH]:
        raise DamagedError("its hash does not match")
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(tensors["json"].numpy().tobytes())
    except (safetensors.SafetensorError, LookupError, ValueError) as error:
        raise DamagedError(str(error)) from error
    if not isinstance(header, dict) or not {"state", "parts", "process", "host"} <= header.keys():
        raise DamagedError("its header is another")

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"tensor"}:
                return tensors[value["tensor"]].clone()
            return {name: filled(part) for name, part in value.items()}
        return [filled(part) for part in value] if isinstance(value, list) else value

    return filled(header.pop("state")), header


def _runs(path: Path, process: int, host: str) -> bool:
    """Tell whether the fit that wrote a file still runs; True where that cannot be found out."""
    if host != platform.node() or os.name != "posix":
        return True
    if process == os.getpid():
        return path in _running
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _as_folder(folder: Any) -> Path:
    """Return the folder as a path, or raise a ValueError where no folder can have such a name."""
    try:
        usable = b"\0" not in os.fsencode(folder)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise ValueError(f"checkpoint must be the name of a folder, got {folder!r}.")
    return Path(folder)
