"""`save` and `load`: a fitted model, or a predictor adapted from one, in a file without code."""

import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.checkpoint import write_whole
from metaest.exceptions import ModelFileError, warn
from metaest.saving.classes import name_of_class
from metaest.saving.container import FORMAT, as_path, pack, read, unpack
from metaest.saving.decode import Decoder
from metaest.saving.description import about
from metaest.saving.encode import Encoder, digest_of, is_ours
from metaest.saving.shared_parts import is_adapted, population_hash, shared_parts
from metaest.saving.user_code import UserCode
from metaest.version import __version__

__all__ = ["from_bytes", "load", "model_hash", "save", "to_bytes"]


def save(model: Any, path: str | os.PathLike[str], *, keep_rows: bool = False) -> None:
    """Write a fitted model, or a predictor adapted from one, to a file that holds no code.

    A model with a network is a safetensors file, one with an equation is JSON; either has a hash of its content. A
    predictor is a small file that names its model by :func:`model_hash`. A file of that name is replaced at the very
    end, so that it is always whole.

    A model's file has none of the training rows, and hashes in place of the names of training tasks. What the guard
    (``adapt(..., guard=True)``) needs of them is learned before, at the present settings, which takes a moment. A
    predictor's file has the rows that it was adapted on, which are one patient's data.

    Parameters
    ----------
    model : estimator or predictor of metaest
    path : str or path
    keep_rows : bool, default=False
        Whether a model's file keeps those training rows (of 60 tasks at most) that the guard is learned from, and the
        names of tasks. The guard can then be learned at other settings after `load`.

    Raises
    ------
    ModelFileError
        When it is no model of metaest, or something in it cannot be written; the message names it. Nothing is written.
    NotFittedError
        Before `fit`.
    OSError
        When the file cannot be written.

    Warns
    -----
    UserWarning
        When the model has callbacks, which are code and are left out.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from metaest import MAMLRegressor, load, save
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(30, random_state=0)
    >>> model = MAMLRegressor(max_iter=20, random_state=0).fit(tasks[:29])
    >>> wave = model.adapt(tasks[29].X[:5], tasks[29].y[:5])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, Path(folder) / "waves.safetensors")
    ...     save(wave, Path(folder) / "wave.safetensors")
    ...     again = load(Path(folder) / "waves.safetensors")
    ...     same = load(Path(folder) / "wave.safetensors", model=again)
    >>> bool((same.predict(tasks[29].X) == wave.predict(tasks[29].X)).all())
    True
    """
    if not isinstance(keep_rows, (bool, np.bool_)):
        raise ModelFileError(f"keep_rows must be True or False, got {keep_rows!r}.")
    write_whole(as_path(path), to_bytes(model, keep_rows=bool(keep_rows)))
    if len(getattr(model, "callbacks", None) or ()):
        warn(
            "callbacks are code and are not in the file; pass them again by set_params(callbacks=...) before another "
            "fit of the loaded model."
        )


def to_bytes(model: Any, *, keep_rows: bool = False) -> bytes:
    """Return the content of the file that :func:`save` writes."""
    _require_ours(model)
    adapted = is_adapted(model)
    if isinstance(model, BaseEstimator):
        check_is_fitted(model)
        if not keep_rows:
            model.learn_guard()
    parts = shared_parts(model)
    encoder = Encoder(parts if adapted else None, inline="population" in parts, keep_rows=bool(keep_rows))
    node = encoder.encode(model, "")
    header: dict[str, Any] = {
        "metaest": "predictor" if adapted else "model",
        "format": FORMAT,
        "class": name_of_class(type(model)) or type(model).__qualname__,
        "hash": population_hash(model),
    }
    if adapted:
        header["calibration"] = _calibration_hash(parts)
    else:
        header["about"] = about(model)
        header["versions"] = {
            "metaest": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        }
    return pack({**header, "object": node}, None if "population" in parts else encoder.tensors)


def load(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    equation: Any = None,
    module: Any = None,
    objects: Sequence[Any] = (),
    check_source: bool = True,
) -> Any:
    """Read a model or a predictor that :func:`save` has written; nothing in the file is run.

    Only classes of metaest are made from a file. What else a model consists of (your equation, your module, a class of
    yours) has to be passed, and is compared with what the file was made with, by its name and by a hash of its source
    in which comments, docstrings and the layout do not count.

    Parameters
    ----------
    path : str or path
    model : fitted model, optional
        For a predictor: the model it was adapted from, of the same hash.
    equation : callable, optional
        For an EquationRegressor: the equation. Several, as of an average of models, are passed among `objects`.
    module : torch.nn.Module or callable, optional
        For a network of your own: the setting of that name.
    objects : sequence, default=()
        Other classes and functions of your own that the file names: a subclass of an estimator, a transformer of
        prices, a ``collate_fn``.
    check_source : bool, default=True
        Whether these must have the names and the sources that the file was made with. False accepts an equation that
        was renamed or rewritten, which then must compute the same: predictions would be wrong without a word.

    Returns
    -------
    estimator or predictor

    Raises
    ------
    ModelFileError
        When the file is no file of :func:`save`, is damaged, was written in a later format, belongs to another model,
        or needs something that was not passed; the message says what.
    OSError
        When the file cannot be opened.
    """
    where = as_path(path)
    if not isinstance(check_source, (bool, np.bool_)):
        raise ModelFileError(f"check_source must be True or False, got {check_source!r}.")
    if isinstance(objects, str) or not isinstance(objects, Sequence):
        raise ModelFileError(f"objects must be a sequence of classes and functions, got {objects!r}.")
    try:
        return _from_bytes(read(where), model, UserCode(equation, module, objects, bool(check_source)))
    except ModelFileError as error:
        raise ModelFileError(f"{where}: {error}") from error


def from_bytes(content: bytes, model: Any) -> Any:
    """Return the predictor of :func:`to_bytes`, adapted from this model; errors are those of :func:`load`."""
    return _from_bytes(content, model, UserCode(None, None, (), True))


def _from_bytes(content: bytes, model: Any, given: UserCode) -> Any:
    try:
        return _loaded(content, model, given)
    except ModelFileError:
        raise
    except Exception as error:  # whatever a file makes of itself, the answer is that it is none of ours
        raise ModelFileError(f"its content makes no sense ({type(error).__name__}: {str(error)[:200]}).") from error


def model_hash(model: Any) -> str:
    """Return the SHA-256 of what a model has learned.

    The same for a model, for the model that is loaded from its file, and for every predictor adapted from it. Weights
    or constants with their covariance, scaling, and the name and source of an equation or module of yours are hashed;
    settings that can be changed after a fit (`inner_steps`, `compile`) and the calibration of intervals are not.

    Parameters
    ----------
    model : fitted estimator or predictor of metaest

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ModelFileError
        When it is no model of metaest.
    NotFittedError
        Before `fit`.
    """
    _require_ours(model)
    if isinstance(model, BaseEstimator):
        check_is_fitted(model)
    return population_hash(model)


def _loaded(content: bytes, model: Any, given: UserCode) -> Any:
    header, tensors = unpack(content)
    shared: dict[str, Any] = {}
    if header["metaest"] == "predictor":
        shared = _shared_with(header, model)
    elif model is not None:
        raise ModelFileError("it is a model of its own; model= is for predictors adapted from one.")
    thing = Decoder(tensors, given, shared).decode(header["object"])
    if is_adapted(thing) != (header["metaest"] == "predictor") or not is_ours(thing):
        raise ModelFileError(f"it holds a {type(thing).__name__}.")
    given.require_used()
    return thing


def _shared_with(header: dict[str, Any], model: Any) -> dict[str, Any]:
    """Return what a predictor takes from the model it belongs to."""
    wanted = header["hash"]
    if model is None:
        raise ModelFileError(
            f"it is a predictor, adapted from a model with the hash {wanted}; load that first: load(path, model=...)."
        )
    if isinstance(model, (str, os.PathLike)):
        raise ModelFileError(f"model= must be a fitted model; got the path {str(model)!r}, pass load({str(model)!r}).")
    _require_ours(model)
    parts = shared_parts(model)
    got = population_hash(model)
    if got != wanted:
        raise ModelFileError(f"it was adapted from a model with the hash {wanted}; model= has {got}.")
    if header["calibration"] is None:
        return {**parts, "calibration": None}
    if header["calibration"] != _calibration_hash(parts):
        raise ModelFileError(
            "its intervals come from another calibration than that of model=; pass the model as it was then, or adapt "
            "the model that is calibrated anew."
        )
    return parts


def _calibration_hash(parts: dict[str, Any]) -> str | None:
    calibration = parts.get("calibration")
    return None if calibration is None else digest_of({"calibration": calibration})


def _require_ours(model: Any) -> None:
    if is_ours(model):
        return
    name = type(model).__name__
    if hasattr(model, "steps") or hasattr(model, "regressor"):
        raise ModelFileError(
            f"a {name} is scikit-learn's, which has no file without code; save the metaest estimator in it, and keep "
            "the transformers by other means (skops, pickle)."
        )
    raise ModelFileError(f"a fitted model of metaest, or a predictor adapted from one, is wanted; got a {name}.")
