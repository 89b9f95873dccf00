"""From JSON and arrays to objects: only what `encode` writes is understood, and only classes of metaest are made."""

import datetime
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from metaest.exceptions import ModelFileError
from metaest.saving.classes import ANSWERS, class_named, function_named
from metaest.saving.consistency import require_sound
from metaest.saving.field_types import check_fields, check_state
from metaest.saving.networks import rebuilt
from metaest.saving.stored_names import as_today, settings_as_today
from metaest.saving.user_code import UserCode
from metaest.saving.weight_changes import changed
from metaest.tasks import TaskSet
from metaest.tasks.support import SupportRows

__all__ = ["Decoder"]

# numbers of an array that repeats itself along an axis, and so takes no room in the file
MOST_EXPANDED = 2**24
_FLOATS = {"float16", "bfloat16", "float32", "float64"}
_WHOLE = {"bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"}


class Decoder:
    """Reads objects.

    Parameters
    ----------
    tensors : dict of str to Tensor
    given : UserCode
        What the caller passed for code that no file holds.
    shared : dict of str to object
        What the file names of another one.
    """

    def __init__(self, tensors: Mapping[str, Tensor], given: UserCode, shared: Mapping[str, Any]) -> None:
        self._tensors, self._given, self._shared = dict(tensors), given, shared
        self._known: dict[int, Any] = {}
        # the setting `module` of the estimator that is read
        self._module: Any = None

    def decode(self, node: Any) -> Any:
        """Return the object that JSON stands for."""
        if node is None or type(node) in (bool, int, float, str):
            return node
        if type(node) is list:
            return [self.decode(value) for value in node]
        if type(node) is not dict or not node:
            raise ModelFileError(f"it holds {node!r} where an object is wanted.")
        tag = next(iter(node))
        read = getattr(self, f"_read_{tag}", None) if tag in _TAGS else None
        if read is None:
            raise ModelFileError(f"it holds an object of kind {tag!r}, which is not known.")
        thing = read(node)
        if "id" in node:
            self._known[node["id"]] = thing
        return thing

    def _read_ref(self, node: Any) -> Any:
        if node["ref"] not in self._known:
            raise ModelFileError(f"it refers to object {node['ref']!r}, which it does not hold.")
        return self._known[node["ref"]]

    def _read_shared(self, node: Any) -> Any:
        if node["shared"] not in self._shared:
            raise ModelFileError(f"it refers to {node['shared']!r} of another model.")
        return self._shared[node["shared"]]

    def _read_float(self, node: Any) -> float:
        if node["float"] not in ("nan", "inf", "-inf"):
            raise ModelFileError(f"{node['float']!r} is not a number.")
        return float(node["float"])

    def _read_tuple(self, node: Any) -> tuple[Any, ...]:
        return tuple(self.decode(value) for value in node["tuple"])

    def _read_dict(self, node: Any) -> dict[str, Any]:
        return {name: self.decode(value) for name, value in node["dict"].items()}

    def _read_changed(self, node: Any) -> Tensor:
        base = self._shared["weights"][node["changed"]]
        return base.detach().clone() if node["by"] is None else changed(base, self._numbers(node["by"]))

    def _read_items(self, node: Any) -> dict[Any, Any]:
        return {self.decode(key): self.decode(value) for key, value in node["items"]}

    def _read_set(self, node: Any) -> set[Any]:
        return {self.decode(value) for value in node["set"]}

    def _read_frozenset(self, node: Any) -> frozenset[Any]:
        return frozenset(self.decode(value) for value in node["frozenset"])

    def _read_bytes(self, node: Any) -> bytes:
        return bytes.fromhex(node["bytes"])

    def _read_date(self, node: Any) -> datetime.date:
        if node["kind"] == "Timestamp":
            moment = pd.Timestamp(str(node["date"]))
            if pd.isna(moment):
                raise ModelFileError(f"{node['date']!r} is no date.")
            return moment
        kind = {"date": datetime.date, "datetime": datetime.datetime}[node["kind"]]
        return kind.fromisoformat(node["date"])

    def _read_range(self, node: Any) -> range:
        return range(*node["range"])

    def _read_path(self, node: Any) -> Path:
        return Path(node["path"])

    def _read_dtype(self, node: Any) -> torch.dtype:
        if node["dtype"] not in _FLOATS | _WHOLE:
            raise ModelFileError(f"{node['dtype']!r} is no type of numbers.")
        return getattr(torch, node["dtype"])  # type: ignore[no-any-return]

    def _read_device(self, node: Any) -> torch.device:
        device = torch.device(node["device"])
        # a model fitted on a GPU serves on a machine without
        return device if device.type == "cpu" or torch.cuda.is_available() else torch.device("cpu")

    def _read_random_state(self, node: Any) -> np.random.RandomState:
        state, (kind, key, place, *normal) = np.random.RandomState(), self.decode(node["random_state"])
        # numpy does not look at the place, and reads there
        if kind != "MT19937" or type(place) is not int or not 0 <= place <= len(key):
            raise ModelFileError("its random state is not one of numpy's.")
        state.set_state((kind, key, place, *normal))
        return state

    def _numbers(self, stored: Any) -> Tensor:
        """Return a tensor, from among the arrays or from the JSON itself."""
        if type(stored) is str:
            # each is wanted once, so that a small file cannot ask for much memory
            tensor = self._tensors.pop(stored, None)
            if tensor is None:
                raise ModelFileError(f"it lacks the array {stored!r}, or names it twice.")
            return tensor.clone()
        kind, shape, values = stored["type"], stored["shape"], stored["values"]
        if kind not in _FLOATS | _WHOLE or not _is_shape(shape, len(values)):
            raise ModelFileError(f"it holds {len(values)} numbers of {kind!r} as an array of shape {shape}.")
        wanted = (float, int, str) if kind in _FLOATS else bool if kind == "bool" else int
        if not all(isinstance(value, wanted) and (kind == "bool" or type(value) is not bool) for value in values):
            raise ModelFileError(f"an array of {kind} holds something else.")
        values = [float(value) if type(value) is str else value for value in values]
        return torch.tensor(values, dtype=getattr(torch, kind)).reshape(shape)

    def _read_tensor(self, node: Any) -> Tensor:
        tensor = self._numbers(node["tensor"])
        if "order" in node:
            sizes = node["sizes"]
            if np.prod([1.0 * size for size in sizes]) > MOST_EXPANDED:
                raise ModelFileError(f"an array is repeated to the shape {sizes}.")
            tensor = tensor.expand(sizes).permute(node["order"])
        return nn.Parameter(tensor, requires_grad=bool(node["parameter"])) if "parameter" in node else tensor

    def _read_array(self, node: Any) -> np.ndarray[Any, Any]:
        stored, dtype = node["array"], np.dtype(node["dtype"])
        if dtype.kind in "OU":
            values, shape = stored["values"], stored["shape"]
            lengths = [len(value) for value in values if type(value) is str]
            wide = dtype.kind == "U" and dtype.itemsize > 4 * max(1, *lengths, 1)
            # all take the room of the longest
            wide |= dtype.itemsize * len(values) > 4 * MOST_EXPANDED + 100 * sum(lengths)
            if not _is_shape(shape, len(values)) or wide:
                raise ModelFileError(f"it holds {len(values)} values as an array of {dtype} and shape {shape}.")
            flat = np.empty(len(values), dtype=object)
            flat[:] = [self.decode(value) for value in values]
            return flat.reshape(shape) if dtype.kind == "O" else flat.astype(dtype).reshape(shape)
        numbers = self._numbers(stored).numpy()
        if dtype.kind in "mM" and numbers.dtype == np.int64:
            return numbers.view(dtype)
        if dtype.kind not in "biuf" or numbers.dtype != dtype:
            raise ModelFileError(f"it holds {numbers.dtype} as {dtype}.")
        return numbers

    def _read_scalar(self, node: Any) -> Any:
        array = self._read_array(node["scalar"])
        if array.shape != ():
            raise ModelFileError("a number has a shape.")
        return array[()]

    def _read_column(self, node: Any) -> Any:
        return pd.array(self.decode(node["column"]), dtype=node["dtype"])

    def _column(self, node: Any) -> Any:
        return self._read_column(node) if "column" in node else self._read_array(node)

    def _read_index(self, node: Any) -> pd.Index:
        stored, name = node["index"], self.decode(node["name"])
        if "several" in stored:
            return pd.MultiIndex.from_arrays([self._read_index(level) for level in stored["several"]])
        if "range" in stored:
            start, stop, step = stored["range"]
            return pd.RangeIndex(start, stop, step, name=name)
        index: pd.Index = pd.Index(self._column(stored), name=name)
        return index

    def _read_frame(self, node: Any) -> pd.DataFrame:
        columns, index = self._read_index(node["columns"]), self._read_index(node["index"])
        parts = [self._column(value) for value in node["frame"]]
        if len(parts) != len(columns) or any(len(value) != len(index) for value in parts):
            raise ModelFileError("a table has columns of unequal length.")
        frame = pd.DataFrame(dict(enumerate(parts)), index=index)
        frame.columns = columns
        return frame

    def _read_series(self, node: Any) -> pd.Series:
        return pd.Series(
            self._column(node["series"]), index=self._read_index(node["index"]), name=self.decode(node["name"])
        )

    def _read_tasks(self, node: Any) -> TaskSet:
        fields = {name: self.decode(value) for name, value in node["tasks"].items()}
        support = fields.pop("support")
        tasks = TaskSet.from_checked(
            *(fields[name] for name in ("X", "y", "offsets", "names")),
            feature_names=fields["feature_names"],
            target_names=fields["target_names"],
            support=None if support is None else SupportRows(support),
            sample_weight=fields["sample_weight"],
            level_labels=fields.get("level_labels"),
        )
        sizes = np.diff(tasks.offsets)
        whole = tasks.offsets[0] == 0 and tasks.offsets[-1] == len(tasks.X) == len(tasks.y) and (sizes > 0).all()
        if not whole or len(tasks.names) != len(sizes):
            raise ModelFileError("its tasks do not have the rows they claim.")
        return tasks

    def _read_forward(self, node: Any) -> Any:
        return rebuilt({name: self.decode(value) for name, value in node["forward"].items()}, self._module)

    def _read_formula(self, node: Any) -> Any:
        return function_named(node["formula"])

    def _read_answers(self, node: Any) -> Any:
        return partial(ANSWERS[node["answers"]], *(self.decode(value) for value in node["of"]))

    def _read_given(self, node: Any) -> Any:
        return self._given.find(node)

    def _read_of(self, node: Any) -> Any:
        return self._made(self._given.find_class(node["of"]), node)

    def _read_class(self, node: Any) -> Any:
        return self._made(class_named(node["class"]), node)

    def _made(self, cls: Any, node: Any) -> Any:
        """Return an object of a class, without a call of its constructor where that would do more than keep values."""
        if not issubclass(cls, BaseEstimator):
            fields = as_today(cls, {name: self.decode(value) for name, value in node["fields"].items()})
            thing = check_fields(cls, fields)
            require_sound(thing)
            return thing
        settings = settings_as_today(cls, {name: self.decode(value) for name, value in node["settings"].items()})
        if set(settings) - {"callbacks"} != set(cls._get_param_names()) - {"callbacks"}:
            raise ModelFileError(f"the settings of its {cls.__name__} are not those of this metaest.")
        before, self._module = self._module, settings.get("module")
        fields = as_today(cls, {name: self.decode(value) for name, value in node["fields"].items()})
        self._module = before
        estimator = check_state(cls(**settings), fields)
        if fields and hasattr(estimator, "_restore"):
            estimator._restore()
        require_sound(estimator)
        return estimator


def _is_shape(shape: Any, n: int) -> bool:
    whole = type(shape) is list and all(type(value) is int and value >= 0 for value in shape) and len(shape) < 30
    return whole and int(np.prod([1.0 * value for value in shape])) == n


_TAGS = frozenset(name.removeprefix("_read_") for name in vars(Decoder) if name.startswith("_read_"))
