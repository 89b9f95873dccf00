"""Hostile inputs: numbers in every container, dtype and shape, and what each of them means as plain float64.

A container is a function of a float64 array; it returns the same numbers (or what its dtype rounds them to) in another
form. A spell changes the numbers, a shape their arrangement. Whatever comes out is a `Given`: the value to pass, and the
plain array of the same meaning, whose result is the right answer.
"""

import datetime
import decimal
import fractions
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import torch
from hypothesis import strategies as st
from scipy import sparse

# numbers past this size may overflow in one dtype and not in another, so that only "finite or refused" is demanded
ORDINARY = 1e30


@dataclass
class Given:
    """One argument of a call.

    Parameters
    ----------
    kind : str
        What it is, for the report.
    value : object
        What is passed.
    plain : object
        The plain value of the same meaning; whatever the call returns for it is the right answer.
    refuse : bool
        Whether no answer is right, so that the call has to raise.
    sure : bool
        Whether it has to be accepted wherever the plain value is.
    rtol : float
        How closely the answer must agree with that of the plain value.
    """

    kind: str
    value: Any
    plain: Any
    refuse: bool = False
    sure: bool = False
    rtol: float = 1e-7


def plainly(value: Any, kind: str = "plain") -> Given:
    """Return an argument that is passed as it is."""
    return Given(kind, value, value, sure=True)


# ---- the numbers ------------------------------------------------------------------------------------------------


def _one_cell(array: np.ndarray, rng: np.random.Generator, cell: float) -> np.ndarray:
    array = array.copy()
    if array.size:
        array.reshape(-1)[rng.integers(array.size)] = cell
    return array


SPELLS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "ordinary": lambda a, rng: a,
    "a NaN": lambda a, rng: _one_cell(a, rng, np.nan),
    "an infinity": lambda a, rng: _one_cell(a, rng, np.inf),
    "minus infinity": lambda a, rng: _one_cell(a, rng, -np.inf),
    "all NaN": lambda a, rng: np.full_like(a, np.nan),
    "huge": lambda a, rng: a * 10.0 ** rng.uniform(20, 307),
    "large": lambda a, rng: a * 10.0 ** rng.uniform(3, 20),
    "one huge": lambda a, rng: _one_cell(a, rng, 10.0 ** rng.uniform(20, 308)),
    "tiny": lambda a, rng: a * 10.0 ** -rng.uniform(20, 300),
    "subnormal": lambda a, rng: np.full_like(a, 5e-324),
    "zeros": lambda a, rng: np.zeros_like(a),
    "minus zeros": lambda a, rng: np.full_like(a, -0.0),
    "constant": lambda a, rng: np.full_like(a, 1.5),
    "whole": lambda a, rng: np.round(3 * a),
    "beyond 2**53": lambda a, rng: np.round(a) + 2.0**60,
}
_FREQUENT = ["ordinary"] * 20 + list(SPELLS)

# ---- the containers ---------------------------------------------------------------------------------------------

CONTAINERS: dict[str, tuple[Callable[..., Any], bool, float]] = {}


def container(name: str, sure: bool = True, rtol: float = 1e-7) -> Callable[..., Any]:
    """Register what makes of an array the same numbers in another form."""

    def register(make: Callable[..., Any]) -> Callable[..., Any]:
        CONTAINERS[name] = make, sure, rtol
        return make

    return register


def _dtype(name: str, sure: bool = True, rtol: float = 1e-7) -> None:
    def make(a: np.ndarray, rng: np.random.Generator) -> Any:
        dtype = np.dtype(name)
        if dtype.kind in "iub":
            if not np.isfinite(a).all():
                raise ValueError
            if dtype.kind != "b":
                bounds = np.iinfo(dtype)
                a = np.clip(np.round(a), max(bounds.min, -1e15), min(bounds.max, 1e15))
        with np.errstate(over="ignore"):
            return a.astype(dtype)

    container(f"array of {name}", sure, rtol)(make)


for _name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", ">f8", ">i4"):
    _dtype(_name)
_dtype("float16", rtol=1e-4)
_dtype("float32", rtol=2e-3)
_dtype(">f4", rtol=2e-3)
_dtype("longdouble")
_dtype("complex128", sure=False)
_dtype("complex64", sure=False, rtol=2e-3)

container("array")(lambda a, rng: a.copy())
container("list")(lambda a, rng: a.tolist())
container("tuple")(lambda a, rng: tuple(tuple(row) if isinstance(row, list) else row for row in a.tolist()))
container("list of arrays")(lambda a, rng: list(a))
container("Fortran order")(lambda a, rng: np.asfortranarray(a))
container("negative strides")(lambda a, rng: a[::-1].copy()[::-1])
container("slice of a wider array")(lambda a, rng: np.repeat(a, 2, axis=0)[::2])
container("broadcast")(lambda a, rng: np.broadcast_to(a[:1], a.shape))
container("array of objects")(lambda a, rng: a.astype(object))
container("matrix", sure=False)(lambda a, rng: np.asmatrix(a) if a.ndim == 2 else a.reshape(-1, 1)[:, 0])
container("subclass")(lambda a, rng: a.view(type("Quantity", (np.ndarray,), {})))
container("memoryview", sure=False)(lambda a, rng: memoryview(np.ascontiguousarray(a)))
container("masked array, nothing masked", sure=False)(lambda a, rng: np.ma.array(a))
container("masked array, mask of false", sure=False)(lambda a, rng: np.ma.array(a, mask=np.zeros(a.shape, bool)))


@container("read-only")
def _read_only(a: np.ndarray, rng: np.random.Generator) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


def _frame(a: np.ndarray, names: Any = None, index: Any = None) -> pd.DataFrame | pd.Series:
    if a.ndim == 1:
        return pd.Series(a, index=index)
    return pd.DataFrame(a, columns=names, index=index)


def _odd_index(n: int, rng: np.random.Generator) -> Any:
    return [
        pd.Index([7] * n),
        pd.date_range("2020-01-01", periods=n),
        pd.MultiIndex.from_arrays([["a"] * n, list(range(n))[::-1]]) if n else pd.Index([]),
        pd.Index([np.nan] * n),
        pd.CategoricalIndex(["x"] * n),
        pd.Index(list("abcdefghijklmnop"[:n])[::-1]),
    ][rng.integers(6)]


container("pandas")(lambda a, rng: _frame(a))
container("pandas, odd index")(lambda a, rng: _frame(a, index=_odd_index(len(a), rng)))
container("pandas of objects")(lambda a, rng: _frame(a.astype(object)))
container("pandas, nullable")(lambda a, rng: _frame(a).astype("Float64"))
container("pandas, nullable float32", rtol=2e-3)(lambda a, rng: _frame(a).astype("Float32"))
container("pandas, nullable whole")(lambda a, rng: _frame(np.clip(np.round(a), -1e15, 1e15)).astype("Int64"))
container("pandas, pyarrow")(lambda a, rng: _frame(a).astype("double[pyarrow]"))
container("pandas, pyarrow whole")(
    lambda a, rng: _frame(np.clip(np.round(a), -1e15, 1e15)).astype("int64").astype("int64[pyarrow]")
)
container("pandas, mixed dtypes")(lambda a, rng: _mixed(_frame(a)))
container("pandas, booleans")(lambda a, rng: _frame(a > 0))
container("pandas, nullable booleans")(lambda a, rng: _frame(a > 0).astype("boolean"))
container("pandas, categories", sure=False)(lambda a, rng: _frame(a).astype("category"))
container("pandas, sparse", sure=False)(lambda a, rng: _frame(a).astype(pd.SparseDtype("float64", 0.0)))
container("pandas, text of numbers", sure=False)(lambda a, rng: _frame(a).astype(str))
container("pandas Index", sure=False)(lambda a, rng: pd.Index(a if a.ndim == 1 else a[:, 0]))
container("pandas array", sure=False)(lambda a, rng: pd.array(a if a.ndim == 1 else a[:, 0]))
container("pandas, named columns", sure=False)(lambda a, rng: _frame(a, [f"c{i}" for i in range(a.shape[-1])]))
container("pandas, a column twice", sure=False)(lambda a, rng: _frame(a, ["c"] * a.shape[-1]))
container("text of numbers", sure=False)(lambda a, rng: a.astype(str))
container("bytes of numbers", sure=False)(lambda a, rng: a.astype("S32"))
container("strings of variable width", sure=False)(lambda a, rng: a.astype(np.dtypes.StringDType()))
container("list of text", sure=False)(lambda a, rng: a.astype(str).tolist())


def _mixed(frame: Any) -> Any:
    if isinstance(frame, pd.Series) or frame.shape[1] < 2:
        return frame
    frame = frame.copy()
    frame[frame.columns[0]] = frame.iloc[:, 0].astype("Float64")
    return frame


container("tensor", sure=False)(lambda a, rng: torch.from_numpy(a.copy()))
container("tensor of float32", sure=False, rtol=2e-3)(lambda a, rng: torch.from_numpy(a.copy()).float())
container("tensor with grad", sure=False)(lambda a, rng: torch.from_numpy(a.copy()).requires_grad_())
container("tensor within a graph", sure=False)(lambda a, rng: torch.from_numpy(a.copy()).requires_grad_() * 1.0)
container("tensor of halves", sure=False, rtol=1e-3)(lambda a, rng: torch.from_numpy(a.copy()).half())
container("tensor of bfloat16", sure=False, rtol=1e-3)(lambda a, rng: torch.from_numpy(a.copy()).bfloat16())
container("tensor of whole numbers", sure=False)(
    lambda a, rng: torch.from_numpy(np.clip(np.round(a), -1e15, 1e15)).long()
)
container("tensor, transposed", sure=False)(lambda a, rng: torch.from_numpy(np.asfortranarray(a)))
container("sparse tensor", sure=False)(lambda a, rng: torch.from_numpy(a.copy()).to_sparse())
container("complex tensor", sure=False)(lambda a, rng: torch.from_numpy(a.astype(complex)))
container("meta tensor", sure=False)(lambda a, rng: torch.empty(a.shape, device="meta"))
container("list of tensors", sure=False)(lambda a, rng: [torch.from_numpy(np.array(row)) for row in a])

for _format in (
    "csr_array",
    "csc_array",
    "coo_array",
    "dok_array",
    "lil_array",
    "bsr_array",
    "dia_array",
    "csr_matrix",
):
    container(f"scipy {_format}", sure=False)(lambda a, rng, form=_format: getattr(sparse, form)(np.atleast_2d(a)))


def _polars(a: np.ndarray) -> Any:
    return pl.Series("y", a) if a.ndim == 1 else pl.DataFrame(a, schema=[f"c{i}" for i in range(a.shape[1])])


container("polars", sure=False)(lambda a, rng: _polars(a))
container("polars float32", sure=False, rtol=2e-3)(lambda a, rng: _polars(a.astype(np.float32)))
container("polars whole", sure=False)(lambda a, rng: _polars(np.clip(np.round(a), -1e15, 1e15).astype(int)))
container("polars lazy", sure=False)(lambda a, rng: _polars(a.reshape(len(a), -1)).lazy())
container("pyarrow", sure=False)(
    lambda a, rng: pa.array(a) if a.ndim == 1 else pa.table({f"c{i}": column for i, column in enumerate(a.T)})
)
container("pyarrow chunks", sure=False)(lambda a, rng: pa.chunked_array([a[:1], a[1:]]))
if importlib.util.find_spec("xarray"):
    import xarray

    container("xarray", sure=False)(lambda a, rng: xarray.DataArray(a))

# what nobody can read as numbers: a kind, and a function of the array
NOT_NUMBERS: dict[str, Callable[[np.ndarray, np.random.Generator], Any]] = {
    "None": lambda a, rng: None,
    "a word": lambda a, rng: "abc",
    "bytes": lambda a, rng: b"abc",
    "a dict": lambda a, rng: {"a": a},
    "an empty dict": lambda a, rng: {},
    "a set": lambda a, rng: set(a.ravel().tolist()),
    "a generator": lambda a, rng: (row for row in a),
    "an object": lambda a, rng: object(),
    "a type": lambda a, rng: int,
    "a function": lambda a, rng: lambda: a,
    "pd.NA": lambda a, rng: pd.NA,
    "pd.NaT": lambda a, rng: pd.NaT,
    "np.ma.masked": lambda a, rng: np.ma.masked,
    "a date": lambda a, rng: datetime.datetime(2020, 1, 1),
    "Ellipsis": lambda a, rng: Ellipsis,
    "dates": lambda a, rng: a.astype("datetime64[s]"),
    "durations": lambda a, rng: a.astype("timedelta64[m]"),
    "structured": lambda a, rng: a.astype([("a", float), ("b", float)]),
    "raw bytes": lambda a, rng: a.view("V8"),
    "words": lambda a, rng: np.full(a.shape, "abc"),
    "complex": lambda a, rng: a + 1j,
    "masked array": lambda a, rng: np.ma.array(a, mask=_first_true(a, rng)),
    "masked whole numbers": lambda a, rng: np.ma.array(np.round(a).astype(int), mask=_first_true(a, rng)),
    "masked objects": lambda a, rng: np.ma.array(a.astype(object), mask=_first_true(a, rng)),
    "masked float32": lambda a, rng: np.ma.array(a.astype(np.float32), mask=_first_true(a, rng)),
    "wholly masked": lambda a, rng: np.ma.masked_all(a.shape),
    "a list of masked rows": lambda a, rng: list(np.ma.array(a, mask=_first_true(a, rng))),
    "pandas with NA": lambda a, rng: _frame(a).astype("Float64").mask(pd.DataFrame(_first_true(a, rng)) if a.ndim > 1 else _first_true(a, rng)),
    "pandas whole with NA": lambda a, rng: _frame(np.round(a)).astype("Int64").mask(_first_true(a, rng)),
    "pandas pyarrow with null": lambda a, rng: _frame(a).astype("double[pyarrow]").mask(_first_true(a, rng)),
    "pandas dates": lambda a, rng: _frame(a.astype("datetime64[s]")),
    "pandas dates with a zone": lambda a, rng: _frame(a.astype("datetime64[s]")).apply(lambda c: c.dt.tz_localize("UTC")),
    "pandas durations": lambda a, rng: _frame(a.astype("timedelta64[s]")),
    "pandas periods": lambda a, rng: pd.DataFrame({0: pd.period_range("2020", periods=len(a), freq="D"), 1: 1.0}),
    "pandas words": lambda a, rng: _frame(np.full(a.shape, "abc", dtype=object)),
    "pandas string dtype": lambda a, rng: _frame(np.full(a.shape, "abc")).astype("string"),
    "pandas intervals": lambda a, rng: pd.Series(pd.interval_range(0, len(a))).to_frame() if a.ndim > 1 else pd.Series(pd.interval_range(0, len(a))),
    "polars with null": lambda a, rng: _polars(a)[::1].with_columns(pl.lit(None).cast(pl.Float64).alias("c0")) if a.ndim > 1 else pl.Series([None, *a[1:]], dtype=pl.Float64),
    "polars words": lambda a, rng: _polars(np.full(a.shape, "abc")),
    "polars dates": lambda a, rng: _polars(a.astype("datetime64[ms]")),
    "polars durations": lambda a, rng: _polars(a.astype("timedelta64[ms]")),
    "pyarrow with null": lambda a, rng: pa.array([None, *a[1:].tolist()], pa.float64()) if a.ndim == 1 else pa.table({f"c{i}": pa.array([None, *c[1:].tolist()], pa.float64()) for i, c in enumerate(a.T)}),
    "ragged": lambda a, rng: [*a.tolist(), [1.0, 2.0, 3.0, 4.0]],
    "ragged array": lambda a, rng: np.array([*a.tolist(), [1.0, 2.0, 3.0, 4.0]], dtype=object),
    "one number": lambda a, rng: 1.5,
    "the class of arrays": lambda a, rng: np.ndarray,
    "lists of nothing": lambda a, rng: [[] for _ in a],
    "a module": lambda a, rng: np,
    "an empty list of lists": lambda a, rng: [[]],
    "a list of None": lambda a, rng: [None] * len(a),
    "a list of dicts": lambda a, rng: [{"a": 1.0}] * len(a),
}  # fmt: skip


def _first_true(a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros(a.shape, dtype=bool)
    mask.reshape(-1)[rng.integers(a.size)] = True
    return mask


# one cell among ordinary ones: what it is, the cell, and the number it means (None: no number)
CELLS: list[tuple[str, Any, float | None]] = [
    ("None", None, None),
    ("pd.NA", pd.NA, None),
    ("pd.NaT", pd.NaT, None),
    ("np.ma.masked", np.ma.masked, None),
    ("a word", "abc", None),
    ("an empty word", "", None),
    ("text of a number", "1.5", 1.5),
    ("text nan", "nan", None),
    ("text inf", "inf", None),
    ("bytes", b"1.5", 1.5),
    ("a date", datetime.date(2020, 1, 1), None),
    ("a timestamp", pd.Timestamp("2020-01-01"), None),
    ("a duration", datetime.timedelta(hours=1), None),
    ("a pandas duration", pd.Timedelta("1h"), None),
    ("a numpy duration", np.timedelta64(5, "m"), None),
    ("a numpy date", np.datetime64("2020-01-01"), None),
    ("a period", pd.Period("2020"), None),
    ("a decimal", decimal.Decimal("1.5"), 1.5),
    ("a decimal NaN", decimal.Decimal("NaN"), None),
    ("a fraction", fractions.Fraction(3, 2), 1.5),
    ("a complex number", 1 + 2j, None),
    ("a real complex number", 1.5 + 0j, 1.5),
    ("true", True, 1.0),
    ("numpy's true", np.bool_(True), 1.0),
    ("a 0-d array", np.array(1.5), 1.5),
    ("an array of one", np.array([1.5]), None),
    ("a list", [1.5], None),
    ("a tuple", (1.0, 2.0), None),
    ("a dict", {}, None),
    ("a tensor", torch.tensor(1.5), 1.5),
    ("a tensor with grad", torch.tensor(1.5, requires_grad=True), 1.5),
    ("2**70", 2**70, float(2**70)),
    ("2**64 - 1", 2**64 - 1, float(2**64 - 1)),
    ("10**400", 10**400, None),
    ("an object", object(), None),
    ("a function", len, None),
    ("float16", np.float16(1.5), 1.5),
    ("longdouble", np.longdouble(1.5), 1.5),
    ("a surrogate", "\ud800", None),
]


def _with_cell(array: np.ndarray, name: str, cell: Any, number: float | None, rng: np.random.Generator) -> Given:
    where = tuple(int(rng.integers(n)) for n in array.shape)
    values = array.astype(object)
    values[where] = cell
    plain = array.copy()
    plain[where] = np.nan if number is None else number
    forms = {
        "array of objects": lambda: values,
        "list": values.tolist,
        "pandas of objects": lambda: _frame(values),
        "polars of objects": lambda: pl.Series("y", values.tolist(), strict=False) if values.ndim == 1 else pl.DataFrame(values.tolist(), orient="row", strict=False),
    }  # fmt: skip
    form = list(forms)[rng.integers(len(forms))]
    try:
        value = forms[form]()
    except (Exception, pl.exceptions.PanicException):
        form, value = "array of objects", values
    if form.startswith("polars"):  # it may have made a number of the cell, or nothing
        return Given(f"{form} with {name}", value, _read_polars(value, plain), refuse=False, rtol=1e-6)
    return Given(f"{form} with {name}", value, plain, refuse=number is None)


def _read_polars(value: Any, plain: np.ndarray) -> np.ndarray:
    try:
        numbers = np.asarray(value.to_numpy(), dtype=object)
        return np.array([[np.nan if c is None else float(c) for c in np.atleast_1d(row)] for row in numbers]).reshape(
            plain.shape
        )
    except Exception:
        return np.full_like(plain, np.nan)


# ---- shapes -----------------------------------------------------------------------------------------------------

SHAPES_2D: dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]] = {
    "no rows": (lambda a: a[:0], False),
    "a row less": (lambda a: a[:-1], False),
    "a row more": (lambda a: np.concatenate([a, a[:1]]), False),
    "a column more": (lambda a: np.column_stack([a, a[:, 0]]), True),
    "a column less": (lambda a: a[:, :-1], True),
    "no columns": (lambda a: a[:, :0], True),
    "one dimension": (lambda a: a[:, 0], True),
    "three dimensions": (lambda a: a[:, :, None], True),
    "four dimensions": (lambda a: a[:, :, None, None], True),
    "no dimension": (lambda a: np.array(a.sum()), True),
    "transposed": (lambda a: a.T, False),
    "nothing": (lambda a: np.empty(0), False),
    "no rows, three dimensions": (lambda a: np.empty((0, 2, 2)), False),
}
SHAPES_1D: dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]] = {
    "no rows": (lambda a: a[:0], False),
    "a row less": (lambda a: a[:-1], False),
    "a row more": (lambda a: np.concatenate([a, a[:1]]), False),
    "a column": (lambda a: a[:, None], False),
    "a row": (lambda a: a[None], False),
    "two columns": (lambda a: np.column_stack([a, a]), True),
    "no columns": (lambda a: a[:, None][:, :0], True),
    "three dimensions": (lambda a: a[:, None, None], True),
    "no dimension": (lambda a: np.array(a.sum()), True),
}


@st.composite
def numbers(draw: st.DrawFn, array: np.ndarray, *, fixed: bool = True, spells: bool = True) -> Given:
    """Draw hostile numbers that begin as this float64 array of one or two dimensions.

    Parameters
    ----------
    array : ndarray of shape (n_rows,) or (n_rows, n_columns)
    fixed : bool
        Whether another number of columns or dimensions has to be refused.
    spells : bool
        Whether the numbers themselves may be changed.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    what = draw(st.sampled_from(["container"] * 4 + ["not numbers"] * 2 + ["cell"] * 2 + ["shape"]))
    if what == "not numbers":
        name = draw(st.sampled_from(list(NOT_NUMBERS)))
        try:
            value = NOT_NUMBERS[name](array, rng)
        except (Exception, pl.exceptions.PanicException):  # the form has no such shape
            value = None
        return Given(name, value, np.full_like(array, np.nan), refuse=True)
    if what == "cell" and array.size:
        return _with_cell(array, *draw(st.sampled_from(CELLS)), rng)
    kind, refuse, plain = "", False, array
    if spells:
        spell = draw(st.sampled_from(_FREQUENT))
        plain = SPELLS[spell](plain, rng)
        kind += f"{spell}, " * (spell != "ordinary")
    if what == "shape":
        shapes = SHAPES_1D if array.ndim == 1 else SHAPES_2D
        shape = draw(st.sampled_from(list(shapes)))
        change, refuse = shapes[shape]
        plain = change(plain)
        kind += f"{shape}, "
        refuse &= fixed
    name = draw(st.sampled_from(list(CONTAINERS)))
    make, sure, rtol = CONTAINERS[name]
    try:
        value = make(plain, rng)
        plain = as_plain(value, plain)
    except Exception:  # the form has no such numbers or shape
        name, value, sure, rtol = "array", plain.copy(), True, 1e-7
    if "meta" in name or ("twice" in name and plain.ndim == 2 and plain.shape[1] > 1):
        refuse = True
    if array.ndim == plain.ndim == 1:  # the form has one dimension, whatever the shape
        refuse &= "meta" in name
    refuse |= not np.isfinite(plain).all()
    sure &= bool((np.abs(plain) < ORDINARY).all()) and what != "shape"
    return Given(kind + name, value, plain, refuse, sure, rtol)


def as_plain(value: Any, plain: np.ndarray) -> np.ndarray:
    """Return what a container holds as float64: its dtype may have rounded the numbers, its form changed the shape."""
    if isinstance(value, torch.Tensor):
        if value.device.type == "meta":
            return np.full_like(plain, np.nan)
        value = value.detach().to_dense().resolve_conj()
        return (value.real if value.is_complex() else value).double().numpy()
    if isinstance(value, pl.LazyFrame):
        value = value.collect()
    if sparse.issparse(value):
        return value.toarray().astype(float)
    if isinstance(value, (pa.Table, pd.DataFrame, pl.DataFrame)):
        frame = value if isinstance(value, pd.DataFrame) else value.to_pandas()
        return np.column_stack(
            [np.asarray(frame.iloc[:, i].to_numpy(na_value=np.nan), dtype=np.float64) for i in range(frame.shape[1])]
        ).reshape(len(frame), -1)
    if isinstance(value, (list, tuple)) and len(value) and isinstance(value[0], torch.Tensor):
        return plain
    array = np.asarray(value)
    if array.dtype.kind == "c":
        array = array.real
    return array.astype(np.float64)


# ---- settings ---------------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None, True, False, 0, 1, 2, 3, -1, 0.0, 0.5, 0.9, -0.5, 1.0, 1.5, float("nan"), float("inf"), -float("inf"), 10**30,
    10**400, 5e-324, "", "x", "auto", "all", "first", "random", "conformal", "posterior", "nul\0", "\ud800", b"x", [], [0],
    [1, 2], ["x"], [None], (), (1, 2), (2, 1), (0, 10**6), {}, {"a": 1}, {1}, object(), np.int64(2), np.int8(-3),
    np.uint64(2**63), np.float32(0.5), np.float64("nan"), np.bool_(True), np.array(1), np.array(0.5), np.array([1, 2]),
    np.array([]), np.array("x"), np.array([[0.5]]), np.ma.masked, pd.NA, pd.NaT, decimal.Decimal(1),
    fractions.Fraction(1, 2), 1 + 0j, range(3), range(0), range(5, 1), len, int, torch.tensor(1), torch.tensor([0.5]),
    datetime.timedelta(1), np.datetime64("2020-01-01"), pd.Timestamp("2020"), pd.Series([1]), Ellipsis, NotImplemented,
    float, np.random.default_rng(0), np.random.RandomState(0), np.timedelta64(2, "m"), np.timedelta64(2, "ns"),
]  # fmt: skip


def brief(value: Any) -> str:
    """Return a short text of a value, for the report."""
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return (text[:40] + "...") if len(text) > 43 else text


def setting(valid: Callable[[Any], bool | None], name: str) -> st.SearchStrategy[Given]:
    """Draw values for a setting; `valid` says of each whether it may be used (None: either way)."""

    def given(value: Any) -> Given:
        verdict = None
        try:
            # a duration is no number, though numpy derives its class from that of whole numbers
            verdict = False if isinstance(value, np.timedelta64) and valid(2) is not None else valid(value)
        except Exception:
            verdict = False
        return Given(f"{name}={brief(value)}", value, value, refuse=verdict is False, sure=verdict is True)

    return st.sampled_from(ODD).map(given)
