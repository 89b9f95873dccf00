"""Predictions of tasks left out of a fit, by every candidate."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import DivergenceError, quiet
from metaest.functional.progress import Bar
from metaest.selection.answers import fitted
from metaest.selection.episodes import Episode, episodes
from metaest.selection.targets import Numbers, Targets
from metaest.tasks import TaskSet

__all__ = ["FAILURES", "HeldOut", "predict_held_out"]

_logger = logging.getLogger("metaest.auto")
# errors of data and numbers, those of torch among them; others are mistakes in the code of a candidate
FAILURES = (ValueError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class HeldOut:
    """Targets of left-out rows, and what the candidates predict there.

    Attributes
    ----------
    truth : ndarray of shape (n_rows, n_targets)
    predictions : dict of str to ndarray of shape (n_rows, n_targets)
        By candidates, in their order; those that failed are not there.
    task, shot : ndarray of int, shape (n_rows,)
        Number of the row's task in the fit, and of the support rows of its episode.
    seconds : dict of str to float
    failures : dict of str to str
        Why candidates failed.
    targets : Targets
        What is predicted.
    """

    truth: NDArray[np.float64]
    predictions: dict[str, NDArray[np.float64]]
    task: NDArray[np.intp]
    shot: NDArray[np.intp]
    seconds: dict[str, float]
    failures: dict[str, str]
    targets: Targets = field(default_factory=Numbers)


def predict_held_out(
    targets: Targets,
    candidates: Sequence[tuple[str, Any]],
    tasks: TaskSet,
    parts: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    shots: Sequence[int],
    split: str,
    seed: int,
    *,
    verbose: bool = False,
) -> HeldOut:
    """Fit every candidate on each part of the tasks, adapt it to the tasks left out, and predict their other rows.

    A candidate that raises one of FAILURES is left out of the comparison, which says why; where all do, the first error
    is raised.

    Parameters
    ----------
    targets : Targets
    candidates : sequence of (str, estimator)
    tasks : TaskSet
    parts : sequence of (ndarray of int, ndarray of int)
        Tasks fitted on and left out, as :func:`folds` returns them.
    shots : sequence of int
    split : {"random", "first"}
    seed : int
    verbose : bool
        Whether to show a progress bar.
    """
    n_in_all = sum(len(left_out) for _, left_out in parts)
    drawn = [list(episodes(targets, tasks, left_out, shots, split, n_in_all, seed)) for _, left_out in parts]
    predictions, seconds, failures, first = {}, {}, {}, None
    with Bar(verbose, len(candidates) * len(parts), "candidates", "fit") as bar:
        for name, candidate in candidates:
            started = time.perf_counter()
            try:
                predictions[name] = _predictions(targets, name, candidate, tasks, parts, drawn, bar)
            except FAILURES as error:
                failures[name] = f"{type(error).__name__}: {error}"
                first = first or error
                _logger.info("candidate %s is left out: %s", name, failures[name])
            seconds[name] = time.perf_counter() - started
    if first is not None and not predictions:
        first.add_note(f"All candidates failed in the comparison, in fits on {len(parts[0][0])} of {len(tasks)} tasks.")
        raise first
    each = [episode for part in drawn for episode in part]
    return HeldOut(
        np.concatenate([targets.truth(episode.support, episode.query) for episode in each]),
        predictions,
        np.concatenate([np.repeat(episode.numbers, episode.query.sizes) for episode in each]),
        np.concatenate([np.full(len(episode.query.y), episode.shot) for episode in each]),
        seconds,
        failures,
        targets,
    )


def _predictions(
    targets: Targets,
    name: str,
    candidate: Any,
    tasks: TaskSet,
    parts: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    drawn: Sequence[Sequence[Episode]],
    bar: Bar,
) -> NDArray[np.float64]:
    """Return what one candidate predicts in all episodes."""
    values = []
    # what warns here warns again in the fit of the candidate that is chosen
    with quiet(UserWarning):
        for (training, _), of_part in zip(parts, drawn, strict=True):
            model = fitted(name, candidate, tasks[training])
            values += [targets.predictions(name, model, episode.support, episode.query) for episode in of_part]
            bar.advance()
    predicted = np.concatenate(values)
    if not np.isfinite(predicted).all():
        raise DivergenceError("predictions of left-out tasks are not finite.")
    return predicted
