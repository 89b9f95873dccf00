"""From an object to JSON and arrays: a closed set of types, each written so that it is read back the same.

JSON's own types stand for themselves, but for dicts; anything else is an object with one tag. An object that occurs
twice is written once and referred to afterwards, so that what models and predictors share is shared again.
"""

import dataclasses
import datetime
import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from metaest.exceptions import ModelFileError
from metaest.functional import ModuleForward
from metaest.population.frozen import FrozenDict
from metaest.saving.classes import ANSWERS, name_of_class, name_of_function
from metaest.saving.container import bytes_of, canonical
from metaest.saving.learned_state import settings_of, state_of
from metaest.saving.networks import described
from metaest.saving.source_hash import is_code, layers_hash, name_of, source_hash
from metaest.saving.weight_changes import change, is_near
from metaest.tasks import TaskSet

__all__ = ["Encoder", "digest_of", "is_ours"]

# objects in each other beyond which something is refused that holds itself
DEEPEST = 60

# settings that may be objects of a data class of the user's
OBJECTS = ("inner_solver", "meta_gradient", "loss")

# what a date may be
DATES: dict[str, Any] = {"date": datetime.date, "datetime": datetime.datetime, "Timestamp": pd.Timestamp}


class Encoder:
    """Writes objects.

    Parameters
    ----------
    shared : dict of str to object, optional
        What is not written but named: it is another file's.
    inline : bool, default=False
        Whether numbers of arrays stand in the JSON itself.
    digests : bool, default=False
        Whether a hash stands for every array, and nothing is referred to: for the hash of a model.

    keep_rows : bool, default=False
        Whether rows of training tasks are written.

    Attributes
    ----------
    tensors : dict of str to Tensor
        The arrays, by the path of the attribute that holds each.
    """

    def __init__(
        self,
        shared: Mapping[str, Any] | None = None,
        *,
        inline: bool = False,
        digests: bool = False,
        keep_rows: bool = False,
    ) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._inline, self._digests, self._keep_rows = inline, digests, keep_rows
        self._written: dict[int, dict[str, Any]] = {}
        # an object that is gone could leave its place, and so its number, to another
        self._kept: list[Any] = []
        self._depth = 0
        # the learned weights of the network that is written next
        self._weights: Mapping[str, Tensor] | None = None
        # the weights of the model that a predictor was adapted from
        self._base: Mapping[str, Any] = (shared or {}).get("weights") or {}
        for name, thing in (shared or {}).items():
            if thing is not None:
                self._written[id(thing)] = {"shared": name}
                self._kept.append(thing)

    def encode(self, thing: Any, where: str) -> Any:
        """Return JSON for an object.

        Parameters
        ----------
        thing : object
        where : str
            The attribute that holds it, for error messages and names of arrays.

        Raises
        ------
        ModelFileError
            When it, or something in it, cannot be written; the message names the attribute.
        """
        if thing is None or type(thing) in (bool, int, str):
            return thing
        if type(thing) is float:
            return thing if math.isfinite(thing) else {"float": repr(thing)}
        before = None if self._digests else self._written.get(id(thing))
        if before is not None:
            if "shared" in before:
                return before
            before.setdefault("id", sum("id" in node for node in self._written.values()) + 1)
            return {"ref": before["id"]}
        self._depth += 1
        if self._depth > DEEPEST:
            raise ModelFileError(f"{where}: objects are nested too deeply, or hold themselves.")
        node = self._node(thing, where)
        self._depth -= 1
        if isinstance(node, dict):
            self._written[id(thing)] = node
            self._kept.append(thing)
        return node

    def _node(self, thing: Any, where: str) -> Any:
        for kinds, write in self._kinds():
            if isinstance(thing, kinds):
                return write(thing, where)
        if dataclasses.is_dataclass(thing) and not isinstance(thing, type) and ("." in where or where in OBJECTS):
            return {
                "of": self._given(type(thing), "objects"),
                "fields": self._all(state_of(thing, self._keep_rows), where),
            }
        if isinstance(thing, BaseEstimator) and any(name.endswith("_") and name[0] != "_" for name in vars(thing)):
            raise ModelFileError(
                f"{where} is a fitted {type(thing).__name__} of another library, which a file cannot hold; pickle the "
                "model instead."
            )
        if callable(thing) or hasattr(thing, "get_params"):
            formula = name_of_function(thing)
            return {"formula": formula} if formula else self._given(thing, where)
        raise ModelFileError(
            f"{where} is a {type(thing).__name__}, which a file cannot hold: numbers, strings, None, lists, tuples, "
            "dicts, arrays and data frames can be written."
        )

    def _kinds(self) -> list[tuple[Any, Callable[[Any, str], Any]]]:
        return [
            ((list,), lambda value, at: [self.encode(one, f"{at}.{i}") for i, one in enumerate(value)]),
            ((_Ours,), self._object),
            ((tuple,), lambda value, at: {"tuple": [self.encode(one, f"{at}.{i}") for i, one in enumerate(value)]}),
            ((dict,), self._dict),
            ((frozenset, set), self._set),
            ((bytes,), lambda value, at: {"bytes": value.hex()}),
            (tuple(DATES.values()), self._date),
            ((range,), lambda value, at: {"range": [value.start, value.stop, value.step]}),
            ((PurePath,), lambda value, at: {"path": str(value)}),
            ((np.generic,), lambda value, at: {"scalar": self._array(np.asarray(value), at)}),
            ((np.ndarray,), self._array),
            ((Tensor,), self._tensor),
            ((torch.dtype,), lambda value, at: {"dtype": str(value).removeprefix("torch.")}),
            ((torch.device,), lambda value, at: {"device": str(value)}),
            ((np.random.RandomState,), lambda value, at: {"random_state": self.encode(value.get_state(), at)}),
            ((functools.partial,), self._partial),
            ((pd.DataFrame, pd.Series), self._frame),
            ((pd.Index,), self._index),
            ((TaskSet,), self._tasks),
            ((ModuleForward,), self._forward),
        ]

    def _date(self, thing: Any, where: str) -> dict[str, Any]:
        """Write a date, or a moment, such as the label of a unit."""
        for kind, made in DATES.items():
            if type(thing) is made:
                return {"date": thing.isoformat(), "kind": kind}
        raise ModelFileError(f"{where} is a {type(thing).__name__}, which a file cannot hold; write it as a text.")

    def _forward(self, thing: ModuleForward, where: str) -> dict[str, Any]:
        fields = described(thing, self._weights)
        if self._digests and fields["built_in"] is None:  # in a file the setting `module` says it
            fields["source"] = layers_hash(thing.module)
        return {"forward": self._all(fields, where)}

    def _object(self, thing: Any, where: str) -> dict[str, Any]:
        """Write an object of a class of the table, or of a subclass of the user's of an estimator."""
        if getattr(thing, "holds_rows", False) and not (self._keep_rows or self._digests):
            raise ModelFileError(
                f"{where}: a Gaussian process predicts from the rows that it was fitted on, which a file then holds; "
                "write it by save(model, path, keep_rows=True)."
            )
        name = name_of_class(type(thing))
        head = {"class": name} if name else {"of": self._given(type(thing), "objects")}
        if not isinstance(thing, BaseEstimator):
            return {**head, "fields": self._all(state_of(thing, self._keep_rows), where)}
        settings = {key: self.encode(value, key) for key, value in settings_of(thing).items()}
        return {**head, "settings": settings, "fields": self._all(state_of(thing, self._keep_rows), where)}

    def _all(self, fields: Mapping[str, Any], where: str) -> dict[str, Any]:
        for name in ("_meta", "_params", "weights"):
            if isinstance(weights := fields.get(name), dict):
                self._weights = weights
                break
        prefix = f"{where}." if where else ""
        return {name: self.encode(value, f"{prefix}{name}") for name, value in fields.items()}

    def _given(self, thing: Any, where: str) -> dict[str, Any]:
        role = where if where in ("equation", "module") else "objects"
        node = {"given": name_of(thing), "role": role, "source": source_hash(thing)}
        return node if is_code(thing) else {**node, "made": True}  # an object of a class, or a partial of a function

    def _partial(self, thing: Any, where: str) -> dict[str, Any]:
        for name, function in ANSWERS.items():
            if thing.func is function and not thing.keywords:
                parts = [self.encode(value, f"{where}.{i}") for i, value in enumerate(thing.args)]
                return {"answers": name, "of": parts}
        return self._given(thing, where)

    def _dict(self, thing: dict[Any, Any], where: str) -> dict[str, Any]:
        if type(thing) not in (dict, FrozenDict):
            raise ModelFileError(f"{where} is a {type(thing).__name__}, which a file cannot hold; make it a dict.")
        if all(type(key) is str for key in thing):
            near = {name: value for name, value in thing.items() if is_near(value, self._base.get(name))}
            rest = self._all({name: value for name, value in thing.items() if name not in near}, where)
            moved = {name: self._change(value, name, f"{where}.{name}") for name, value in near.items()}
            return {"dict": {name: moved.get(name, rest.get(name)) for name in thing}}
        pairs = [[self.encode(key, where), self.encode(value, f"{where}.{key}")] for key, value in thing.items()]
        return {"items": pairs}

    def _change(self, thing: Tensor, name: str, where: str) -> dict[str, Any]:
        by = change(thing, self._base[name])
        return {"changed": name, "by": None if by is None else self._numbers(by, where)}

    def _set(self, thing: Any, where: str) -> dict[str, Any]:
        members = [self.encode(value, where) for value in thing]
        return {"frozenset" if isinstance(thing, frozenset) else "set": sorted(members, key=canonical)}

    def _array(self, thing: Any, where: str) -> dict[str, Any]:
        if type(thing) is not np.ndarray:
            raise ModelFileError(f"{where} is a {type(thing).__name__}, which a file cannot hold; make it an array.")
        kind = thing.dtype.kind
        if kind == "O" and where.rpartition(".")[2] in ("X", "X_support_"):
            raise ModelFileError(f"{where} holds rows that are objects, which a file cannot hold; pickle it.")
        if kind in "OU":
            values = [self.encode(value, where) for value in thing.ravel().tolist()]
            return {"array": {"values": values, "shape": list(thing.shape)}, "dtype": thing.dtype.str}
        if kind in "mM":
            return {
                "array": self._numbers(torch.from_numpy(thing.view(np.int64).copy()), where),
                "dtype": thing.dtype.str,
            }
        if kind not in "biuf" or thing.dtype.itemsize > 8:
            raise ModelFileError(f"{where} is an array of {thing.dtype}, which a file cannot hold.")
        native = np.ascontiguousarray(thing.astype(thing.dtype.newbyteorder("="))).reshape(thing.shape)
        return {"array": self._numbers(torch.from_numpy(native.copy()), where), "dtype": native.dtype.str}

    def _tensor(self, thing: Tensor, where: str) -> dict[str, Any]:
        if thing.is_sparse or thing.is_complex() or thing.is_quantized:
            raise ModelFileError(f"{where} is a tensor that is sparse, complex or quantised, which a file cannot hold.")
        thing, layout = _as_it_lies(thing)
        node = {"tensor": self._numbers(thing, where), **layout}
        return {**node, "parameter": thing.requires_grad} if isinstance(thing, nn.Parameter) else node

    def _numbers(self, tensor: Tensor, where: str) -> Any:
        tensor = tensor.detach().cpu()
        kind = str(tensor.dtype).removeprefix("torch.")
        if self._digests:
            return [kind, list(tensor.shape), hashlib.sha256(bytes_of(tensor)).hexdigest()]
        if self._inline:
            values = tensor.reshape(-1).tolist()
            values = [repr(value) if type(value) is float and not math.isfinite(value) else value for value in values]
            return {"type": kind, "shape": list(tensor.shape), "values": values}
        name = where
        while name in self.tensors:
            name += "'"
        self.tensors[name] = tensor
        return name

    def _frame(self, thing: Any, where: str) -> dict[str, Any]:
        index = self._index(thing.index, where)
        if isinstance(thing, pd.Series):
            name = self.encode(thing.name, where)
            return {"series": self._column(thing, f"{where}.{thing.name}"), "index": index, "name": name}
        columns = [self._column(thing.iloc[:, j], f"{where}.{name}") for j, name in enumerate(thing.columns)]
        return {"frame": columns, "index": index, "columns": self._index(thing.columns, where)}

    def _column(self, thing: Any, where: str) -> Any:
        if not isinstance(thing.dtype, np.dtype):
            kind = str(thing.dtype)
            if kind not in ("str", "string", "Int64", "Float64", "boolean", "category"):
                raise ModelFileError(f"{where} is a column of {kind}, which a file cannot hold.")
            return {"column": self.encode(thing.astype(object).tolist(), where), "dtype": kind}
        return self._array(thing.to_numpy(), where)

    def _index(self, thing: pd.Index, where: str) -> dict[str, Any]:
        if isinstance(thing, pd.MultiIndex):
            several = [self._index(thing.get_level_values(level), where) for level in range(thing.nlevels)]
            return {"index": {"several": several}, "name": self.encode(None, where)}
        name = self.encode(thing.name, where)
        if isinstance(thing, pd.RangeIndex):
            return {"index": {"range": [thing.start, thing.stop, thing.step]}, "name": name}
        if isinstance(thing, pd.DatetimeIndex):
            thing = thing.astype(object)
        return {"index": self._column(thing, f"{where}.index"), "name": name}

    def _tasks(self, thing: TaskSet, where: str) -> dict[str, Any]:
        names = ("X", "y", "offsets", "names", "feature_names", "target_names", "sample_weight")
        fields = {name: getattr(thing, name) for name in names}
        support = [None if task.support is None else np.asarray(task.support) for task in thing]
        if thing.level_labels is not None:
            fields["level_labels"] = thing.level_labels
        fields["support"] = None if all(rows is None for rows in support) else support
        return {"tasks": self._all(fields, where)}


def _as_it_lies(tensor: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Return the numbers of a tensor in the order of memory, and how its axes lie: sums over it round by that."""
    if tensor.is_contiguous() or isinstance(tensor, nn.Parameter):
        return tensor, {}
    view = tensor.detach()
    for axis, stride in enumerate(view.stride()):
        view = view.narrow(axis, 0, 1) if stride == 0 and view.shape[axis] else view
    strides = view.stride()
    axes = sorted(range(view.ndim), key=lambda axis: -strides[axis])
    view = view.permute(axes)
    if not view.is_contiguous():  # every second column of something: what lies between them is not written
        return tensor, {}
    return view, {
        "order": [axes.index(axis) for axis in range(view.ndim)],
        "sizes": [tensor.shape[axis] for axis in axes],
    }


def is_ours(thing: Any) -> bool:
    """Tell whether something is of a class of the table, or an estimator that derives from one."""
    classes = type(thing).__mro__ if isinstance(thing, BaseEstimator) else type(thing).__mro__[:1]
    return any(name_of_class(cls) for cls in classes)


class _OursMeta(type):
    def __instancecheck__(cls, thing: Any) -> bool:
        return is_ours(thing)


class _Ours(metaclass=_OursMeta):
    """Stands for all objects of a class of the table, or of an estimator that derives from one."""


def digest_of(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of objects, whatever file they came from."""
    return hashlib.sha256(canonical(Encoder(digests=True).encode(dict(parts), ""))).hexdigest()
