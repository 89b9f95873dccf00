"""Handwritten characters: the two small background sets of Omniglot, and its twenty one-shot runs."""

import io
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest import Task, TaskSet
from metaest.tasks.arguments import as_flag, as_whole
from metaest_datasets.cache import fetch_file

__all__ = ["fetch_omniglot_runs", "fetch_omniglot_small"]


def fetch_omniglot_small(part: int = 1, *, size: int = 28, rotations: bool = False) -> TaskSet:
    """Return characters of five alphabets, each drawn by twenty people: a small background set of Omniglot.

    A task is an alphabet. Greek and Latin are in both parts.

    Parameters
    ----------
    part : {1, 2}, default=1
        Part 1: Balinese, Early Aramaic, Greek, Korean, Latin (136 characters). Part 2: Greek, Japanese (katakana),
        Latin, Sanskrit, Tagalog (156).
    size : int, default=28
        Height and width in pixels; the drawings have 105 and are reduced by averaging.
    rotations : bool, default=False
        True adds each character rotated by 90, 180 and 270 degrees as further classes, as is customary in training.

    Returns
    -------
    TaskSet
        5 tasks; X of shape (n, 1, size, size), 0 for paper and 1 for ink; y the character, ``"Greek/character01"`` or,
        rotated, ``"Greek/character01/90"``. The twenty drawings of a character are in the order of the people.

    Raises
    ------
    ImportError
        When pooch or Pillow is not installed: ``pip install 'metaest[fetch]'``.
    OSError
        When the file is neither in the cache nor available for download.

    References
    ----------
    B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum (2015). Human-level concept learning through probabilistic program
    induction. Science 350, 1332-1338. :doi:`10.1126/science.aab3050`

    Examples
    --------
    >>> from metaest_datasets import fetch_omniglot_small
    >>> tasks = fetch_omniglot_small(1)  # doctest: +SKIP
    """
    part = as_whole(part, "part", most=2)
    size = as_whole(size, "size", most=10_000)
    rotations = as_flag(rotations, "rotations")
    alphabets: dict[str, tuple[list[Any], list[str]]] = {}
    with zipfile.ZipFile(fetch_file(f"omniglot/images_background_small{part}.zip")) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".png")):
            _, alphabet, character, _ = name.split("/")
            images, labels = alphabets.setdefault(alphabet, ([], []))
            images.append(_read(archive, name, size))
            labels.append(f"{alphabet}/{character}")
    return TaskSet(
        Task(alphabet, *_turned(np.stack(images), np.array(labels), range(4 if rotations else 1)))
        for alphabet, (images, labels) in alphabets.items()
    )


def fetch_omniglot_runs(*, size: int = 28) -> TaskSet:
    """Return twenty one-shot trials within an alphabet: twenty characters, and twenty drawings to be recognised.

    Parameters
    ----------
    size : int, default=28
        Height and width in pixels.

    Returns
    -------
    TaskSet
        20 tasks of 40 rows; `support` is the first twenty, one of each class; y is the number of the class. There are
        two trials for each of ten alphabets, none of which is in :func:`fetch_omniglot_small`.

    Raises
    ------
    ImportError
        When pooch or Pillow is not installed: ``pip install 'metaest[fetch]'``.
    OSError
        When the file is neither in the cache nor available for download.

    References
    ----------
    B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum (2019). The Omniglot challenge: a 3-year progress report. Current
    Opinion in Behavioral Sciences 29, 97-104. :doi:`10.1016/j.cobeha.2019.04.007`

    Examples
    --------
    >>> from metaest_datasets import fetch_omniglot_runs
    >>> runs = fetch_omniglot_runs()  # doctest: +SKIP
    """
    size = as_whole(size, "size", most=10_000)
    tasks = []
    with zipfile.ZipFile(fetch_file("omniglot/all_runs.zip")) as archive:
        for run in (f"run{number:02d}" for number in range(1, 21)):
            pairs = [line.split() for line in archive.read(f"{run}/class_labels.txt").decode().splitlines() if line]
            classes = sorted({label for _, label in pairs})
            images = [_read(archive, name, size) for name in [*classes, *(test for test, _ in pairs)]]
            numbers = [classes.index(label) + 1 for label in [*classes, *(label for _, label in pairs)]]
            tasks.append(Task(run, np.stack(images), np.array(numbers), support=range(len(classes))))
    return TaskSet(tasks)


def _read(archive: zipfile.ZipFile, name: str, size: int) -> NDArray[np.float32]:
    """Return a drawing of shape (1, size, size)."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading drawings requires Pillow: pip install 'metaest[fetch]'.") from error
    with Image.open(io.BytesIO(archive.read(name))) as image:
        grey = image.convert("L").resize((size, size), Image.Resampling.BOX)
    return (1 - np.asarray(grey, dtype=np.float32)[None] / 255).astype(np.float32)


def _turned(X: NDArray[Any], y: NDArray[Any], quarters: Iterable[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return images and labels rotated by each number of quarter turns, one after the other."""
    images = [np.rot90(X, quarter, axes=(2, 3)) for quarter in quarters]
    labels = [y if quarter == 0 else np.char.add(y, f"/{90 * quarter}") for quarter in quarters]
    return np.concatenate(images), np.concatenate(labels)
