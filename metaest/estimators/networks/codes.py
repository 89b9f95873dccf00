"""Standardised columns, and checks of the codes of categories that a module looks up in an embedding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaest.estimators.columns import chosen_columns
from metaest.exceptions import TaskError
from metaest.functional.modules.codes import casts_of, first_refused, made_whole
from metaest.tasks import TaskSet

__all__ = ["Codes", "codes_of", "row_of_task", "standardised_columns"]

# whole numbers up to this one differ in single precision
LARGEST_CODE = 2**24
# columns that a message shows
SHOWN = 5


def standardised_columns(standardize: Any, names: Sequence[str] | None, n_columns: int) -> NDArray[np.bool_]:
    """Return which columns of X (channels of images) a setting standardises.

    Parameters
    ----------
    standardize : bool or sequence of str or int
        All, none, or those named or numbered from 0.
    names : sequence of str or None
        Names of the columns.
    n_columns : int

    Returns
    -------
    ndarray of bool of shape (n_columns,)

    Raises
    ------
    ValueError
        When a name or number does not belong to a column, or occurs twice.
    """
    if isinstance(standardize, (bool, np.bool_)):
        return np.full(n_columns, bool(standardize))
    chosen = np.zeros(n_columns, dtype=bool)
    chosen[chosen_columns(standardize, "standardize", names, n_columns)] = True
    return chosen


@dataclass(frozen=True)
class Codes:
    """The columns that reach a module as they are, where the module looks up codes.

    Attributes
    ----------
    columns : tuple of (int, str)
        Number and label of each.
    shape : tuple of int
        Shape of a row.
    exact : bool
        Whether the module computes in double precision, where large whole numbers stay apart.
    whole : tuple of int
        Those of the columns that hold whole numbers only in the fit.
    """

    columns: tuple[tuple[int, str], ...]
    shape: tuple[int, ...]
    exact: bool
    whole: tuple[int, ...] = ()

    def require(
        self,
        look_up: Callable[[Tensor], Any],
        X: NDArray[Any],
        scaled: Tensor,
        locate: Callable[[int], str] = "row {} of X".format,
    ) -> None:
        """Raise a TaskError at the first row with a code that is not whole, or that the module has no entry for.

        Parameters
        ----------
        look_up : callable
            Scaled rows -> outputs.
        X : ndarray of shape (..., *shape)
        scaled : Tensor of the same shape
        locate : callable
            A row number -> how a message names the row.
        """
        rows, raw = scaled.reshape(-1, *self.shape), X.reshape(-1, *self.shape)
        places = [place for place, _ in self.columns]
        if not self.exact and places and raw.size and float(np.abs(raw[:, places]).max()) > LARGEST_CODE:
            large = np.abs(raw[:, places].reshape(len(raw), -1)).max(axis=1) > LARGEST_CODE
            raise TaskError(
                f"{locate(int(np.argmax(large)))}: a column that is not standardised holds a number beyond "
                f"{LARGEST_CODE}, where single precision leaves out whole numbers; set dtype='float64', or use smaller "
                "codes."
            )
        self._require_whole(look_up, raw, rows, locate)
        refused = first_refused(look_up, rows)
        if refused is None:
            return
        row, message = refused
        shown = ", ".join(f"{label} holds {raw[row, place]}" for place, label in self.columns[:SHOWN])
        reason = shown or "all columns are standardised: name only those without codes in standardize="
        raise TaskError(
            f"{locate(row)}: the module has no entry for a code it looks up ({message}); {reason}. "
            "Every code must lie within the module's embedding."
        )

    def _require_whole(
        self, look_up: Callable[[Tensor], Any], raw: NDArray[Any], rows: Tensor, locate: Callable[[int], str]
    ) -> None:
        """Raise a TaskError where the module would cut off the fraction of a code."""
        labels = dict(self.columns)
        for place in self.whole:
            fractions = (raw[:, place] != np.trunc(raw[:, place])).reshape(len(raw), -1).any(axis=1)
            if not fractions.any():
                continue
            row = int(np.argmax(fractions))
            if _is_read(rows[row : row + 1, place], casts_of(look_up, rows[row : row + 1])):
                raise TaskError(
                    f"{locate(row)}: {labels[place]} holds {raw[row, place]}, and the module looks up whole codes "
                    "there; its fraction would be cut off."
                )


def codes_of(
    module: nn.Module, rows: Tensor, tasks: TaskSet, columns: NDArray[np.bool_], standardize: Any
) -> Codes | None:
    """Return the check of codes; None where the module looks up no codes.

    Parameters
    ----------
    module : torch.nn.Module
    rows : Tensor of shape (rows, ...)
        The first rows of the tasks, standardised.
    tasks : TaskSet
    columns : ndarray of bool of shape (n_columns,)
        Which columns are standardised.
    standardize : bool or sequence
        The setting.

    Raises
    ------
    TaskError
        When standardisation turns codes into other numbers.
    """
    sources = made_whole(module, rows)
    embeds = any(isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) for layer in module.modules())
    if not sources and not embeds:
        return None
    labels = [f"column {name!r}" for name in tasks.feature_names or range(tasks.X.shape[1])]
    axes = (0, *range(2, tasks.X.ndim))
    all_whole = (np.trunc(tasks.X) == tasks.X).all(axis=axes)
    whole = columns & all_whole
    by_default = isinstance(standardize, (bool, np.bool_))
    cut = [source for source in sources if bool((source != source.trunc()).any())]
    if by_default:
        spoilt = whole & bool(cut or (embeds and tasks.X.ndim < 4))
    else:
        spoilt = whole & np.array([_is_read(rows[:, place], cut) for place in range(len(columns))])
    if spoilt.any():
        raise TaskError(
            "module looks up codes, and standardisation would turn them into fractions: "
            f"{', '.join(np.array(labels)[spoilt][:SHOWN])} hold{'s' * int(spoilt.sum() == 1)} whole numbers only. "
            "Name the columns to standardise, without those that hold codes: "
            f"standardize={_suggested(tasks, columns & ~spoilt)}."
        )
    unscaled = tuple((place, labels[place]) for place in np.flatnonzero(~columns).tolist())
    return Codes(
        unscaled, tasks.X.shape[1:], rows.dtype == torch.float64, tuple(np.flatnonzero(~columns & all_whole).tolist())
    )


def row_of_task(tasks: TaskSet, row: int) -> str:
    """Return how a message names a row among those of all tasks."""
    task, row_in_task = tasks.place_of(row)
    return f"task {tasks.name_of(task)!r}, row {row_in_task}"


def _is_read(column: Tensor, sources: list[Tensor]) -> bool:
    """Tell whether the values of a column are among those that a module makes whole numbers of."""
    fractions = column[column != column.trunc()]
    return len(fractions) > 0 and any(bool(torch.isin(fractions, source.to(column)).all()) for source in sources)


def _suggested(tasks: TaskSet, columns: NDArray[np.bool_]) -> list[Any]:
    places = np.flatnonzero(columns).tolist()
    return places if tasks.feature_names is None else [tasks.feature_names[place] for place in places]
