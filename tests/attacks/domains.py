"""The public names of the domains and the data sets, and hostile calls of each of them."""

import functools
import inspect
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from hypothesis import strategies as st

import metaest_datasets
from attacks.arguments import count, flag, one_of, sequences
from attacks.hostile import Given, numbers, plainly, setting
from attacks.models import once
from attacks.populations import one_at_a_time, text
from attacks.run import EntryPoint
from metaest import Task, TaskSet
from metaest_domains import kinetics, physiology, trading

MODULES = {"kinetics": kinetics, "physiology": physiology, "trading": trading, "datasets": metaest_datasets}
ENTRIES: list[EntryPoint] = []

# public names that are not attacked, and why
EXCLUDED = {
    "datasets.fetch_bainite": "takes no argument", "datasets.fetch_hall2018": "takes no argument",
    "datasets.fetch_nh4cl_tga": "takes no argument", "datasets.fetch_perovskite_labels": "takes no argument",
    "datasets.fetch_perovskite_table": "takes no argument", "datasets.fetch_steel_tempering": "takes no argument",
    "datasets.load_index_prices": "takes no argument", "datasets.load_orange": "takes no argument",
    "datasets.load_sleepstudy": "takes no argument", "datasets.load_sp500_prices": "takes no argument",
    "physiology.list_published": "takes no argument", "kinetics.list_published": "takes no argument",
    "datasets.AvramiTasks": "a tuple that make_avrami_tasks returns",
    "physiology.Dose": "a tuple that dose_for returns",
    "trading.Difference": "a tuple of three numbers that difference returns",
    "trading.AdaptedTrader": "made by adapt", "physiology.AdaptedForecaster": "made by adapt",
    "trading.Backtest.summary": "takes no argument", "trading.Backtest.to_skfolio": "takes no argument",
    "trading.PriceFeatures.get_feature_names_out": "reads no argument",
    "kinetics.KineticRegressor": "the base of the catalogue", "kinetics.AlongHistory": "the base of equations of histories",
    "physiology.CompartmentRegressor": "the base of the compartment models",
}  # fmt: skip
# for those who write a class of their own, called with checked rows
HOOKS = {
    "guess", "formula", "inverse", "shape", "examine", "equation_class", "tasks_of", "episodes", "fit_from", "see",
    "problem", "change", "shared_parts", "learn_guard", "equation_for", "settings_of_population",
    "settings_of_fit", "columns_of_population", "padded",
}  # fmt: skip


def public_names() -> list[str]:
    """Return every public function and class of the domains and data sets, and the methods that are theirs."""
    names = []
    for prefix, module in MODULES.items():
        for name in module.__all__:
            thing = getattr(module, name)
            names.append(f"{prefix}.{name}")
            if not inspect.isclass(thing):
                continue
            for method in dir(thing):
                owner = next(cls for cls in thing.__mro__ if method in vars(cls))
                hidden = method.startswith("_") or method in HOOKS or method.endswith("_request")
                if not hidden and owner.__module__.startswith("metaest_") and callable(getattr(thing, method)):
                    names.append(f"{prefix}.{name}.{method}")
    return names


def entry(name: str, call: Callable[..., Any], arguments: Any, **options: Any) -> None:
    """Add an entry point."""
    ENTRIES.append(EntryPoint(name, call, arguments, **options))


# ---- arguments --------------------------------------------------------------------------------------------------

_WRONG_SHAPES = ("two columns", "no columns", "three dimensions", "four dimensions", "no dimension", "meta", "twice")


def _read(given: Given) -> np.ndarray | None:
    """Return the numbers of a container, NaN where one is missing; None where it holds something else."""
    value = given.value
    try:
        if isinstance(value, np.ma.MaskedArray):
            return np.ma.filled(value.astype(object), np.nan).astype(np.float64)
        if hasattr(value, "to_pylist"):
            value = pd.Series(value.to_pylist(), dtype="Float64")
        if type(value).__module__.startswith("polars"):
            value = pd.Series(value.to_list(), dtype="Float64")
        if isinstance(value, pd.Series) and pd.api.types.is_numeric_dtype(value.dtype):
            return value.to_numpy(dtype=np.float64, na_value=np.nan)
        if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:
            value = value.float()  # which numpy reads
        cells = np.asarray(value, dtype=object)
        if all(
            cell is None or cell is pd.NA or cell is np.ma.masked or isinstance(cell, (Real, Decimal))
            for cell in cells.ravel()
        ):
            plain = [
                np.nan if cell is None or cell is np.ma.masked or cell is pd.NA else float(cell)
                for cell in cells.ravel()
            ]
            return np.array(plain).reshape(cells.shape)
    except Exception:
        return None
    return None


def vector(
    array: np.ndarray, *, missing: bool = False, infinite: bool = False, spells: bool = True, dates: bool = False
) -> Any:
    """Return a strategy: hostile numbers of one row; where they may be missing, masked ones count as NaN."""

    def reinterpreted(given: Given) -> Given:
        kind = given.kind
        if "bool" in kind or "odd index" in kind or "matrix" in kind:
            given = replace(given, sure=False)
        if "twice" in kind and isinstance(given.value, pd.Series) and not missing:
            given = replace(given, refuse=not np.isfinite(np.asarray(given.plain, dtype=float)).all())
        frame = type(given.value).__name__ in ("DataFrame", "Table") and np.shape(given.value)[1:] == (1,)
        if frame and np.ndim(given.plain) == 2:
            given = replace(given, plain=np.asarray(given.plain)[:, 0])  # one column is one row of numbers
        if kind == "one number" or "no dimension" in kind or ("matrix" in kind and np.ndim(given.value) == 1):
            return Given(kind, given.value, given.value)  # one number may stand for all
        if dates and re.search("dates|durations", kind):
            return Given(kind, given.value, given.value)  # times may be dates
        if not missing or any(word in kind for word in _WRONG_SHAPES):
            return given
        if kind == "None" or "dates" in kind or "durations" in kind:
            return Given(kind, given.value, given.value)  # no returns at all; dates may be the index, or times
        read = _read(given)
        if read is None or read.ndim != 1 or not (np.isnan(read).any() or given.refuse):
            return given
        return replace(given, plain=read, refuse=bool(np.isinf(read).any()) and not infinite, sure=False)

    return numbers(array, spells=spells).map(reinterpreted)


def drawn(plain: Mapping[str, Any], hostile: Mapping[str, Any]) -> Any:
    """Return a strategy: arguments as they are, but for one or two that are drawn."""

    @st.composite
    def draw_all(draw: st.DrawFn) -> dict[str, Given]:
        names = {draw(st.sampled_from(list(hostile)))}
        if draw(st.integers(0, 3)) == 0:
            names.add(draw(st.sampled_from(list(hostile))))
        given = {name: plainly(value) for name, value in plain.items()}
        return {**given, **{name: draw(hostile[name]) for name in sorted(names)}}

    return draw_all()


def unsure(given: dict[str, Given]) -> dict[str, Given]:
    """Return arguments of which none has to be accepted: their rows may be in no unit, or have no names."""
    unique = {
        name: one.refuse and not getattr(getattr(one.value, "columns", None), "is_unique", False)
        for name, one in given.items()
    }
    return {
        name: replace(one, sure=False, refuse=unique[name] if "twice" in one.kind else one.refuse)
        for name, one in given.items()
    }


def with_missing_readings(given: dict[str, Given]) -> dict[str, Given]:
    """Return arguments of which targets may be missing, as readings of glucose may."""
    return {
        name: replace(one, refuse=False)
        if one.kind.startswith("y of") and any(word in one.kind for word in ("null", "NaN", "missing", "masked"))
        else one
        for name, one in given.items()
    }


def made(*models: Callable[[], Any]) -> Callable[[], Any]:
    """Return a state that makes models before a call is watched, since a fit is slow and not what is attacked."""
    return lambda: bool([model() for model in models])


def real(name: str, low: float = -np.inf, high: float = np.inf, *, none: bool = False, ends: bool = True) -> Any:
    """Return a strategy: values for a number between two ends."""

    def valid(value: Any) -> bool | None:
        if value is None:
            return none
        if isinstance(value, (bool, np.bool_)):
            return None
        if isinstance(value, (int, float, np.integer, np.floating)):
            inside = low <= value <= high if ends else low < value < high
            if not inside or value != value or abs(value) == np.inf or abs(value) > 1e308:
                return False
            return None  # it may be in conflict with another argument
        return None if np.ndim(value) == 0 and isinstance(value, (np.ndarray, Real)) else (
            None if hasattr(value, "layout") or type(value).__name__ == "Decimal" else False
        )  # fmt: skip

    return setting(valid, name)


def goal(name: str, most: float = np.inf) -> Any:
    """Return a strategy: values for a number above 0, or for a range of two."""

    def valid(value: Any) -> bool | None:
        if value is None or (isinstance(value, (list, tuple)) and len(value) == 2):
            return None
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, (bool, np.bool_)):
            return None if 0 < value <= min(most, 1e308) else False
        return None if np.ndim(value) == 0 and isinstance(value, (bool, np.ndarray, Real, np.bool_)) else (
            None if hasattr(value, "layout") or type(value).__name__ == "Decimal" else False
        )  # fmt: skip

    return setting(valid, name)


def anything(name: str, *, either: Callable[[Any], bool] = lambda v: False) -> Any:
    """Return a strategy: odd values of which none is right, but for those of which `either` is true."""
    return setting(lambda v: None if either(v) else False, name)


def derived(answer: Any) -> list[float]:
    """Return the numbers of a derived quantity."""
    return [float(answer.value), float(answer.lower), float(answer.upper)]


LEVEL = {"level": real("level", 0, 1, ends=False)}

# ---- physiology -------------------------------------------------------------------------------------------------

TIME, AMOUNT, DURATION = (
    np.array([0.0, 12.0, 24.0, 30.0]),
    np.array([320.0, 160.0, 80.0, 40.0]),
    np.array([0.0, 1.0, 0.0, 2.0]),
)
DOSES = {"time": TIME, "amount": AMOUNT, "duration": DURATION}
DOSE_ARGUMENTS = {name: vector(value) for name, value in DOSES.items()} | {
    "covariates": anything("covariates", either=lambda v: isinstance(v, dict))
}


def _doses(made: Any) -> list[Any]:
    return [made.time, made.amount, made.duration]


def _rows(frame: Any) -> Any:
    return frame.to_numpy()


def _path(**arguments: Any) -> Any:
    made = physiology.TimeVarying(**arguments)
    return [made.time, made.value]


def _regimen(**arguments: Any) -> Any:
    return _doses(physiology.Regimen(**arguments))


def _sorted(**arguments: Any) -> Any:
    return _doses(physiology.Regimen.sorted(**arguments))


entry("physiology.Regimen", _regimen, drawn(DOSES, DOSE_ARGUMENTS))
entry("physiology.TimeVarying", _path, drawn({"time": TIME, "value": AMOUNT}, {"time": vector(TIME), "value": vector(AMOUNT)}))  # fmt: skip
entry("physiology.Regimen.sorted", _sorted, drawn(DOSES, {**DOSE_ARGUMENTS, "covariates": anything("covariates", either=lambda v: v is None or isinstance(v, dict))}))  # fmt: skip
entry(
    "physiology.Regimen.repeated",
    lambda **a: _doses(physiology.Regimen.repeated(**a)),
    drawn(
        {"amount": 320.0, "interval": 12.0, "n": 2},
        {
            "amount": real("amount", 0, ends=False), "interval": real("interval", 0, ends=False), "n": count(1, 5),
            "duration": real("duration", 0), "weight": real("weight"),
        },
    ),
)  # fmt: skip
REGIMEN = physiology.Regimen(TIME, AMOUNT, DURATION)
BOLUS = physiology.Regimen([0.0, 8.0, 16.0], 300.0)
entry("physiology.Regimen.rows", lambda times, **a: _rows(REGIMEN.rows(times, **a)), drawn({"times": TIME}, {"times": vector(TIME), "n_doses": count(4, 9, none=True)}))  # fmt: skip
entry("physiology.Regimen.scaled", lambda factor: _doses(REGIMEN.scaled(factor)), real("factor", 0, ends=False).map(lambda g: {"factor": g}))  # fmt: skip
entry("physiology.dose_columns", lambda n: len(physiology.dose_columns(n)), count(1, 9).map(lambda g: {"n": g}))
entry(
    "physiology.Regimen.completed",
    lambda columns=(), patient=None: list(REGIMEN.completed(columns, patient).covariates.values()),
    st.one_of(
        anything("columns", either=lambda v: hasattr(v, "__len__") and len(v) == 0).map(lambda g: {"columns": g}),
        anything("patient", either=lambda v: v is None or isinstance(v, dict)).map(lambda g: {"patient": g}),
    ),
)

RECORDS = {
    "patient": np.array([1.0, 1, 1, 1, 2, 2, 2]), "time": np.array([0.0, 2, 12, 14, 0, 3, 7]),
    "dose": np.array([320.0, np.nan, 160, np.nan, 250, np.nan, np.nan]),
    "concentration": np.array([np.nan, 7.1, np.nan, 9.8, np.nan, 5.0, 2.5]), "weight": np.array([60.0] * 4 + [70.0] * 3),
}  # fmt: skip


def table(
    columns: Mapping[str, np.ndarray], hostile: list[str], missing: tuple[str, ...], settings: Mapping[str, Any]
) -> Any:
    """Return a strategy: a data frame of which one column is hostile, or odd settings."""

    @st.composite
    def draw_all(draw: st.DrawFn) -> dict[str, Given]:
        name = draw(st.sampled_from([*hostile, *settings]))
        plain = pd.DataFrame(columns)
        if name in settings:
            return {"frame": plainly(plain), name: draw(settings[name])}
        given = draw(vector(columns[name], missing=name in missing))
        try:
            frame, right = pd.DataFrame({**columns, name: given.value}), pd.DataFrame({**columns, name: given.plain})
        except Exception:
            return {"frame": draw(anything("frame"))}
        # pandas may have made other numbers of it
        held = frame[name]
        if held.dtype.kind in "iuf" and pd.api.types.is_numeric_dtype(held.dtype):
            right = pd.DataFrame({**columns, name: held.to_numpy(dtype=np.float64, na_value=np.nan)})
            return {"frame": Given(f"{name}: {given.kind}", frame, right, False, False, given.rtol)}
        return {"frame": Given(f"{name}: {given.kind}", frame, frame)}

    return draw_all()


def _contents(tasks: TaskSet) -> Any:
    return [tasks.X, tasks.y, tasks.offsets]


COLUMN = {name: anything(name, either=lambda v: v is None) for name in ("time", "dose", "target", "patient")}
entry(
    "physiology.read_patients",
    lambda frame, **a: _contents(physiology.read_patients(frame, **{"covariates": ["weight"], **a})),
    table(RECORDS, ["patient", "time", "dose", "concentration", "weight"], ("dose", "concentration"), {
        **COLUMN, "n_doses": count(2, 9, none=True), "duration": anything("duration", either=lambda v: v is None or np.size(v) == 0),
        "covariates": anything("covariates", either=lambda v: np.size(v) == 0 or not hasattr(v, "__len__") or isinstance(v, dict)),
        "time_unit": anything("time_unit"), "frame": anything("frame"),
    }),
)  # fmt: skip
ONE = {name: values[:4] for name, values in RECORDS.items()}


def _one(frame: Any, **arguments: Any) -> Any:
    regimen, X, y = physiology.Regimen.read(frame, **{"covariates": ["weight"], **arguments})
    return [*_doses(regimen), _rows(X), y]


entry(
    "physiology.Regimen.read",
    _one,
    table(ONE, ["time", "dose", "concentration", "weight"], ("dose", "concentration"), {
        "time": COLUMN["time"], "dose": COLUMN["dose"], "target": COLUMN["target"], "n_doses": count(2, 9, none=True),
        "time_unit": anything("time_unit"), "frame": anything("frame"),
    }),
)  # fmt: skip

GLUCOSE = np.array([100.0, 70, 150, 250, 90, 180])
FORECAST = np.array([110.0, 60, 140, 300, 95, 170])
UNITS = {"unit": one_of("unit", "mg/dL", "mmol/L"), "check_plausibility": flag("check_plausibility")}
PAIRS = drawn(
    {"reference": GLUCOSE, "prediction": FORECAST},
    {"reference": vector(GLUCOSE), "prediction": vector(FORECAST), "unit": UNITS["unit"]},
)
entry("physiology.clarke_zones", lambda **a: physiology.clarke_zones(**a), PAIRS)
entry("physiology.glucose_errors", lambda **a: physiology.glucose_errors(**a), PAIRS)


def _drawn_lines(ax: Any) -> Any:
    return [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines if np.size(line.get_ydata())]


@functools.cache
def _canvas() -> Any:
    from matplotlib.figure import Figure

    return Figure()


def _axes() -> Any:
    """Return empty axes; those that a refused call left empty are used again, since new ones take longer than a call."""
    figure = _canvas()
    if len(figure.axes) != 1 or figure.axes[0].has_data() or figure.axes[0].texts:
        figure.clear()
        return figure.subplots()
    return figure.axes[0]


entry("physiology.plot_clarke", lambda **a: _drawn_lines(physiology.plot_clarke(ax=_axes(), **a)), PAIRS, fits=True)  # fmt: skip
MINUTES = np.arange(0.0, 200, 5)
READINGS = 120 + 30 * np.sin(MINUTES / 40)
entry(
    "physiology.glucose_windows",
    lambda **a: (lambda w: [w.end, w.history, np.nan_to_num(w.ahead), w.row])(physiology.glucose_windows(**a)),
    drawn(
        {"time": MINUTES, "glucose": READINGS, "n_readings": 6},
        {
            "time": vector(MINUTES, dates=True), "glucose": vector(READINGS, missing=True), "n_readings": count(1, 30),
            "horizons": vector(np.array([30.0, 60.0])), "step": real("step", 0, ends=False),
            "greatest_gap": real("greatest_gap", 0, ends=False), "complete": flag("complete"),
        },
    ),
)  # fmt: skip
WINDOWS = physiology.glucose_windows(MINUTES, READINGS, n_readings=6)
PARTS = {name: np.array(getattr(WINDOWS, name)) for name in ("end", "history", "ahead", "row")}
entry(
    "physiology.Windows",
    lambda **a: (lambda w: [w.end, w.history, w.ahead, w.row])(physiology.Windows(**a)),
    drawn(PARTS, {"end": vector(PARTS["end"]), "row": vector(PARTS["row"].astype(float)), "history": anything("history"), "ahead": anything("ahead")}),
)  # fmt: skip
entry(
    "physiology.Windows.take",
    lambda rows: WINDOWS.take(rows).end,
    anything("rows", either=lambda v: True).map(lambda g: {"rows": g}),
    kinds=(IndexError,),
)
INSULIN = {
    "times": np.array([0.0, 5, 20, 60]), "insulin_times": np.array([0.0, 10, 30, 120]),
    "insulin": np.array([10.0, 80, 40, 12]), "basal_glucose": 90.0, "basal_insulin": 8.0,
}  # fmt: skip
entry(
    "physiology.insulin_rows",
    lambda **a: _rows(physiology.insulin_rows(**a)),
    drawn(INSULIN, {
        **{name: vector(INSULIN[name]) for name in ("times", "insulin_times", "insulin")},
        "basal_glucose": real("basal_glucose", 0), "basal_insulin": real("basal_insulin", 0),
    }),
)  # fmt: skip


def people(n: int = 5, days: int = 3) -> TaskSet:
    """Return readings of some people, every five minutes."""
    time, tasks = np.arange(0.0, days * 1440, 5), []
    for i in range(n):
        tasks.append(Task(f"person {i}", time[:, None], 120 + (20 + 5 * i) * np.sin(2 * np.pi * time / (200 + 10 * i))))
    return TaskSet(tasks)


SMALL_FORECASTER = {
    "max_iter": 3,
    "n_readings": 6,
    "n_days": 1,
    "hidden_layer_sizes": (4,),
    "inner_steps": 1,
    "random_state": 0,
}
forecaster = once(lambda: physiology.GlucoseForecaster(**SMALL_FORECASTER).fit(people()))
DAY = np.arange(0.0, 1440, 5)
DAY_GLUCOSE = 120 + 25 * np.sin(DAY / 35)
SOON = DAY[:30]
SERIES = drawn({"X": DAY, "y": DAY_GLUCOSE}, {"X": vector(DAY, missing=True), "y": vector(DAY_GLUCOSE, missing=True)})
SHORT = drawn(
    {"X": SOON, "y": DAY_GLUCOSE[:30]}, {"X": vector(SOON, missing=True), "y": vector(DAY_GLUCOSE[:30], missing=True)}
)
adapted_forecaster = once(lambda: forecaster().adapt(DAY, DAY_GLUCOSE, guard=False))
entry("physiology.GlucoseForecaster", lambda **a: physiology.GlucoseForecaster(**{**SMALL_FORECASTER, **a}).fit(people(2)).mean_glucose_, drawn({}, {"n_readings": count(1, 30), "horizons": vector(np.array([30.0, 60.0])).map(lambda one: replace(one, sure=False)), "n_days": count(1, 3), **UNITS}), fits=True, compare=False)  # fmt: skip
entry("physiology.GlucoseForecaster.fit", lambda tasks: physiology.GlucoseForecaster(**SMALL_FORECASTER).fit(tasks).mean_glucose_, sequences(people(2)).map(unsure).map(with_missing_readings), fits=True, compare=False)  # fmt: skip
entry("physiology.GlucoseForecaster.score", lambda tasks: forecaster().score(tasks), sequences(people(2)).map(unsure).map(with_missing_readings), fits=True, compare=False, state=made(forecaster))  # fmt: skip
entry("physiology.GlucoseForecaster.adapt", lambda X, y: forecaster().adapt(X, y, guard=False).predict(SOON, DAY_GLUCOSE[:30]), SERIES, state=made(forecaster))  # fmt: skip
for _name in ("predict", "truth"):
    entry(f"physiology.GlucoseForecaster.{_name}", lambda X, y, _name=_name: np.nan_to_num(getattr(forecaster(), _name)(X, y)), SHORT, state=made(forecaster))  # fmt: skip
    entry(f"physiology.AdaptedForecaster.{_name}", lambda X, y, _name=_name: np.nan_to_num(getattr(adapted_forecaster(), _name)(X, y)), SHORT, state=made(adapted_forecaster))  # fmt: skip


def patients(make: Callable[[np.ndarray, np.random.Generator], np.ndarray], regimen: Any, n: int = 8) -> TaskSet:
    """Return simulated patients under one regimen."""
    rng, tasks = np.random.default_rng(0), []
    for i in range(n):
        times = np.sort(rng.uniform(0.5, 30, 6))
        X = regimen.rows(times).to_numpy()
        tasks.append(Task(f"P{i}", X, make(times, rng), feature_names=tuple(regimen.rows(times).columns)))
    return TaskSet(tasks)


def _superposed(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    volume, rate = 30 * np.exp(0.2 * rng.standard_normal()), 0.1 * np.exp(0.2 * rng.standard_normal())
    since = times[:, None] - BOLUS.time
    curve = (np.where(since >= 0, BOLUS.amount / volume * np.exp(-rate * np.maximum(since, 0)), 0.0)).sum(axis=1)
    return curve * np.exp(0.05 * rng.standard_normal(len(times)))


FEW = {"max_iter": 20, "random_state": 0, "noise": "proportional", "compile": False}
STUDY = patients(_superposed, BOLUS)
one_compartment = once(lambda: physiology.OneCompartmentRegressor(route="iv", **FEW).fit(STUDY))
oral = once(lambda: physiology.OneCompartmentRegressor(**{**FEW, "random": ["clearance"], "max_iter": 2}).fit(STUDY))
patient = once(lambda: one_compartment().adapt(STUDY[0].X[:3], STUDY[0].y[:3], guard=False))
NEEDS_PATIENT = {
    "patient": anything("patient"),
    **LEVEL,
    "covariates": anything("covariates", either=lambda v: v is None or v == {} or np.size(v) == 0),
}


def _asked(question: Callable[..., Any], **arguments: Any) -> Any:
    return question(arguments.pop("patient", None) if "patient" in arguments else patient(), **arguments)


for _name in ("clearance", "volume", "half_life"):
    entry(
        f"physiology.{_name}",
        lambda _name=_name, **a: derived(_asked(getattr(physiology, _name), **a)),
        drawn({}, NEEDS_PATIENT),
        state=made(patient),
    )
entry("physiology.absorption_rate", lambda **a: derived(physiology.absorption_rate(a.pop("patient") if "patient" in a else oral(), **a)), drawn({}, NEEDS_PATIENT), state=made(oral))  # fmt: skip
GIVEN = {"given": anything("given", either=lambda v: v is None)}
REGIMENS = {"regimen": anything("regimen"), **GIVEN, **LEVEL}
PROBABLY = {
    "probability": real("probability", 0, 1, none=True, ends=False),
    "step": real("step", 0, none=True, ends=False),
}
entry("physiology.auc", lambda dose=BOLUS, **a: derived(_asked(physiology.auc, dose=dose, **a)), drawn({}, {"dose": real("dose", 0, ends=False), "start": real("start", 0, none=True), "end": setting(lambda v: None, "end"), **GIVEN, **LEVEL}), state=made(patient))  # fmt: skip
entry("physiology.peak", lambda regimen=BOLUS, **a: _asked(physiology.peak, regimen=regimen, **a), drawn({}, {"until": real("until", none=True), **REGIMENS}), state=made(patient))  # fmt: skip
entry("physiology.trough", lambda regimen=BOLUS, **a: derived(_asked(physiology.trough, regimen=regimen, **a)), drawn({}, {"time": real("time", none=True), **REGIMENS}), state=made(patient))  # fmt: skip
entry("physiology.time_above", lambda regimen=BOLUS, **a: derived(_asked(physiology.time_above, regimen=regimen, **{"concentration": 5.0, "until": 40.0, **a})), drawn({}, {"concentration": real("concentration", 0), "until": real("until"), "start": real("start", 0, none=True), **REGIMENS}), state=made(patient))  # fmt: skip
entry("physiology.dose_for", lambda regimen=BOLUS, **a: derived(_asked(physiology.dose_for, regimen=regimen, **{"target_trough": 5.0, **a})), drawn({}, {"target_trough": goal("target_trough"), "target_peak": goal("target_peak"), "time": real("time", none=True), **PROBABLY, **REGIMENS}), state=made(patient))  # fmt: skip
entry("physiology.dose_for (area)", lambda regimen=BOLUS, **a: derived(_asked(physiology.dose_for, regimen=regimen, **{"target_auc": 500.0, "start": 0.0, **a})), drawn({}, {"target_auc": goal("target_auc"), "start": real("start", 0), "time": real("time", none=True), **PROBABLY, **REGIMENS}), state=made(patient))  # fmt: skip
entry("physiology.dose_for (time above)", lambda regimen=BOLUS, **a: derived(_asked(physiology.dose_for, regimen=regimen, **{"target_time_above": 0.5, "concentration": 5.0, "start": 0.0, **a})), drawn({}, {"target_time_above": goal("target_time_above", 1.0), "concentration": real("concentration", 0, ends=False), "start": real("start", 0), **PROBABLY, **REGIMENS}), state=made(patient))  # fmt: skip
entry("physiology.attainment", lambda regimen=BOLUS, doses=(100.0, 200.0), **a: _asked(physiology.attainment, regimen=regimen, doses=doses, **{"target_trough": 5.0, **a}), drawn({}, {"doses": vector(np.array([100.0, 200.0])), "target_trough": goal("target_trough"), "time": real("time", none=True), **REGIMENS}), state=made(patient))  # fmt: skip
entry("physiology.next_sample", lambda regimen=BOLUS, **a: _asked(physiology.next_sample, regimen=regimen, **{"times": TIME, **a}), drawn({}, {"times": vector(TIME), "n": count(1, 4), "target": one_of("target", None, "clearance", "volume"), "regimen": REGIMENS["regimen"], **GIVEN}), state=made(patient))  # fmt: skip

entry("kinetics.load_published", lambda **a: kinetics.load_published(**{"material": "pmma", "name": "macfp-2021", **a}).typical()["E"], drawn({}, {"material": one_of("material", "pmma"), "name": one_of("name", "macfp-2021")}))  # fmt: skip
entry("kinetics.published_model", lambda **a: kinetics.published_model(**{"material": "pmma", "name": "macfp-2021", **a}).predict([[1980.0, 300.0, 1 / 6]]), drawn({}, {"material": one_of("material", "pmma"), "name": one_of("name", "macfp-2021")}))  # fmt: skip
entry("physiology.load_published", lambda **a: physiology.load_published(**{"drug": "vancomycin", "name": "adane-2015", **a}).typical({"crcl": 125.0, "bsa": 1.73, "weight": 100.0})["volume"], drawn({}, {"drug": one_of("drug", "vancomycin"), "name": one_of("name", "adane-2015")}))  # fmt: skip
BODY = {"weight": 80.0, "height": 180.0, "sex": "male", "age": 60.0, "creatinine": 1.0, "unit": "mg/dL"}
HOSTILE_BODY = {"weight": real("weight", 0.2, 700), "height": real("height", 20, 280), "sex": one_of("sex", "male", "female"), "age": real("age", 0, 130), "creatinine": real("creatinine", 0.05, 2700), "unit": one_of("unit", "mg/dL", "umol/L")}  # fmt: skip
for _name, _reads in {
    "body_mass_index": ("weight", "height"),
    "body_surface_area": ("weight", "height"),
    "fat_free_mass": ("weight", "height", "sex"),
    "creatinine_clearance": ("age", "weight", "creatinine", "sex", "unit"),
}.items():
    entry(
        f"physiology.{_name}",
        lambda _name=_name, _reads=_reads, **a: getattr(physiology, _name)(**{k: BODY[k] for k in _reads} | a),
        drawn({}, {k: HOSTILE_BODY[k] for k in _reads}),
    )

entry("physiology.published_model", lambda **a: physiology.published_model(**{"drug": "vancomycin", "name": "buelga-2005", "random_state": 0, **a}).n_features_in_, drawn({}, {"drug": one_of("drug", "vancomycin"), "name": one_of("name", "buelga-2005"), "n_doses": count(1, none=True, name="n_doses")}))  # fmt: skip
LEAN = once(lambda: physiology.published_model("vancomycin", "hughes-2024", random_state=0))
entry("physiology.patient_covariates", lambda **a: list(physiology.patient_covariates(LEAN(), **{**BODY, **a}).values()), drawn({}, HOSTILE_BODY))  # fmt: skip
entry("physiology.patient_covariates (model)", lambda **a: list(physiology.patient_covariates(**{**BODY, **a}).values()), drawn({}, {"model": anything("model")}))  # fmt: skip
entry("physiology.patient_covariates (others)", lambda **a: list(physiology.patient_covariates(LEAN(), **BODY, **a).values()), drawn({}, {"ffm": real("ffm"), "rase": anything("rase")}))  # fmt: skip

MODELS = {
    "physiology.OneCompartmentRegressor": (lambda: physiology.OneCompartmentRegressor(route="iv", **FEW), STUDY),
    "physiology.TwoCompartmentRegressor": (lambda: physiology.TwoCompartmentRegressor(route="iv", random=["clearance"], **{**FEW, "max_iter": 3}), STUDY),
    "physiology.LinearCompartmentRegressor": (lambda: physiology.LinearCompartmentRegressor(route="iv", random=["clearance"], **{**FEW, "max_iter": 3}), STUDY),
    "physiology.MichaelisMentenRegressor": (lambda: physiology.MichaelisMentenRegressor(route="iv", random=["volume"], **{**FEW, "max_iter": 1}), STUDY),
}  # fmt: skip


def _hill(
    formula: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    X: Callable[[np.random.Generator], np.ndarray],
    n: int = 8,
) -> TaskSet:
    rng, tasks = np.random.default_rng(0), []
    for i in range(n):
        rows = X(rng)
        tasks.append(Task(f"curve {i}", rows, formula(rows, rng)))
    return TaskSet(tasks)


def _times(rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.uniform(0.2, 2.5, 6))[:, None]


def _isothermal(rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([np.sort(rng.uniform(0.2, 2.5, 6)), np.full(6, rng.choice([600.0, 620.0, 640.0]))])


def _ramp(rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([np.sort(rng.uniform(0.2, 2.5, 6)), np.full(6, 500.0), np.full(6, 60.0)])


def _risen(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(
        1 - np.exp(-((np.exp(0.2 * rng.standard_normal()) * X[:, 0]) ** 2)) + 0.01 * rng.standard_normal(len(X)), 0, 1
    )


def _hardness(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (
        40
        + 3 * rng.standard_normal()
        - 5 * (X[:, 1] * (20 + np.log10(X[:, 0])) - 620 * 20) / 1000
        + 0.3 * rng.standard_normal(len(X))
    )


CURVES, RAMPS, HOLDS = _hill(_risen, _times), _hill(_risen, _ramp), _hill(_risen, _isothermal)
BRIEF = {"max_iter": 3, "random_state": 0, "compile": False}
HISTORY = {1: (np.array([0.0, 1.0, 5.0]), np.array([500.0, 560.0, 560.0]))}
NUMBERED = TaskSet([Task(task.name, np.column_stack([task.X[:, 0], np.ones(len(task.X))]), task.y) for task in CURVES])
for _name, _tasks, _settings in (
    ("JMAKRegressor", CURVES, {}), ("AustinRickettRegressor", CURVES, {}), ("ParallelJMAKRegressor", CURVES, {"random": ["k"]}),
    ("JMAKArrheniusRegressor", HOLDS, {"random": ["k_ref"]}), ("LogisticGrowthRegressor", CURVES, {}),
    ("FirstOrderConversionRegressor", RAMPS, {"random": ["k_ref"]}), ("NthOrderConversionRegressor", RAMPS, {"random": ["k_ref"]}),
    ("NonIsothermalJMAKRegressor", NUMBERED, {"random": ["k_ref"], "histories": HISTORY}),
    ("MichaelisMentenRegressor", CURVES, {}), ("HollomonJaffeRegressor", _hill(_hardness, _isothermal), {"random": ["a"], "fixed": {"C": 20.0}}),
):  # fmt: skip
    MODELS[f"kinetics.{_name}"] = (
        (lambda _name=_name, _settings=_settings: getattr(kinetics, _name)(**BRIEF, **_settings)),
        _tasks,
    )  # type: ignore[assignment]


def _minimal() -> TaskSet:
    rng, tasks = np.random.default_rng(0), []
    for i in range(4):
        times = np.array([2.0, 5, 10, 20, 40, 80])
        X = physiology.insulin_rows(times, [0.0, 10, 30, 120], [10.0, 80, 40, 12], 90.0, 8.0)
        y = 90 + 200 * np.exp(-0.03 * np.exp(0.1 * rng.standard_normal()) * times)
        tasks.append(Task(f"test {i}", X.to_numpy(), y, feature_names=tuple(X.columns)))
    return TaskSet(tasks)


MODELS["physiology.MinimalModelRegressor"] = (
    (lambda: physiology.MinimalModelRegressor(random=["effectiveness"], max_iter=1, random_state=0)),
    _minimal(),
)
FITTED = {name: once(lambda make=make, tasks=tasks: make().fit(tasks)) for name, (make, tasks) in MODELS.items()}
for _name, (_make, _tasks) in MODELS.items():
    entry(
        _name,
        lambda tasks, _make=_make, _X=_tasks[0].X: _make().fit(tasks).predict(_X),
        sequences(_tasks).map(unsure),
        fits=True,
        compare=False,
    )
    _X, _y = np.array(_tasks[0].X), np.array(_tasks[0].y)

    @st.composite
    def _support(draw: st.DrawFn, X: np.ndarray = _X, y: np.ndarray = _y) -> dict[str, Given]:
        if draw(st.booleans()):
            return {"X": draw(numbers(X)), "y": plainly(y)}
        return {"X": plainly(X), "y": draw(numbers(y))}

    entry(f"{_name} (adapt)", lambda X, y, _name=_name, _X=_X: FITTED[_name]().adapt(X, y, guard=False).predict(_X), _support().map(unsure), compare=False, state=made(FITTED[_name]), fits="physiology.Mi" in _name)  # fmt: skip
    entry(f"{_name} (predict)", lambda X, _name=_name: FITTED[_name]().predict(X), numbers(_X).map(lambda g: unsure({"X": g})), compare=False, state=made(FITTED[_name]))  # fmt: skip
for _name in ("OneCompartmentRegressor", "TwoCompartmentRegressor", "LinearCompartmentRegressor", "MichaelisMentenRegressor", "CompartmentRegressor"):  # fmt: skip
    _model = FITTED[
        f"physiology.{_name.replace('CompartmentRegressor', 'OneCompartmentRegressor') if _name == 'CompartmentRegressor' else _name}"
    ]
    entry(f"physiology.{_name}.rows", lambda times=TIME, regimen=BOLUS, _model=_model: _rows(_model().rows(regimen, times)), drawn({}, {"times": vector(TIME), "regimen": anything("regimen")}), state=made(_model))  # fmt: skip
    entry(f"physiology.{_name}.read", lambda frame, _model=_model, **a: (lambda read: [_rows(read[0]), read[1]])(_model().read(frame, **a)), table({k: v for k, v in ONE.items() if k != "weight"}, ["time", "dose", "concentration"], ("dose", "concentration"), {"frame": anything("frame"), "time_unit": anything("time_unit")}), compare=False, state=made(_model))  # fmt: skip

    entry(f"physiology.{_name}.to_population", lambda _model=_model, **a: list(_model().to_population(**a).typical().values()), one_at_a_time(columns=lambda v: None if v is None else False, target=text, provenance=lambda v: None if v is None else False), state=made(_model))  # fmt: skip

PLOT = {"time_unit": setting(lambda v: None, "time_unit"), **LEVEL}
entry("physiology.plot_patient", lambda regimen=BOLUS, **a: _drawn_lines(physiology.plot_patient(a.pop("patient") if "patient" in a else patient(), regimen, ax=_axes(), **a)), drawn({}, {"times": vector(TIME), "patient": anything("patient"), "regimen": anything("regimen", either=lambda v: v is None or np.ndim(v) == 2), **GIVEN, **LEVEL}), state=made(patient, one_compartment), fits=True)  # fmt: skip
entry("physiology.plot_population", lambda regimen=BOLUS, **a: _drawn_lines(physiology.plot_population(a.pop("model") if "model" in a else one_compartment(), STUDY, regimen, ax=_axes(), **a)), drawn({}, {"times": vector(TIME), "model": anything("model"), "regimen": anything("regimen", either=lambda v: v is None or np.ndim(v) == 2), **LEVEL}), state=made(one_compartment), fits=True)  # fmt: skip
entry("physiology.plot_predictions", lambda model=None, patients=STUDY: _drawn_lines(physiology.plot_predictions(one_compartment() if model is None else model, patients, ax=_axes())), st.one_of(anything("model", either=lambda v: v is None).map(lambda g: {"model": g}), anything("patients").map(lambda g: {"patients": g})), state=made(one_compartment))  # fmt: skip
entry("physiology.plot_predictive_check", lambda model=None, patients=STUDY, **a: len(physiology.plot_predictive_check(one_compartment() if model is None else model, patients, ax=_axes(), **{"n": 20, "random_state": 0, **a}).lines), drawn({}, {"model": anything("model", either=lambda v: v is None), "patients": anything("patients"), "n": count(1, 50), "n_bins": count(1, 9)}), state=made(one_compartment))  # fmt: skip
entry(
    "physiology.plot_shrinkage",
    lambda model: len(physiology.plot_shrinkage(model, ax=_axes()).lines),
    anything("model").map(lambda g: {"model": g}),
)

# ---- kinetics ---------------------------------------------------------------------------------------------------

curve = once(lambda: FITTED["kinetics.JMAKRegressor"]().adapt(CURVES[0].X, CURVES[0].y, guard=False))
hold = once(lambda: FITTED["kinetics.JMAKArrheniusRegressor"]().adapt(HOLDS[0].X, HOLDS[0].y, guard=False))
KELVINS = np.array([600.0, 620.0, 640.0])
ADAPTED = {"adapted": anything("adapted"), **LEVEL}


def _of(make: Callable[[], Any], question: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return question(arguments.pop("adapted") if "adapted" in arguments else make(), **arguments)


for _name in ("activation_energy", "pre_exponential"):
    entry(f"kinetics.{_name}", lambda _name=_name, **a: derived(_of(hold, getattr(kinetics, _name), a)), drawn({}, ADAPTED), state=made(hold))  # fmt: skip
entry("kinetics.time_to", lambda **a: derived(_of(hold, kinetics.time_to, {"fraction": 0.5, "temperature": 620.0, **a})), drawn({}, {"fraction": real("fraction", 0, 1, ends=False), "temperature": real("temperature", 200), **ADAPTED}), state=made(hold))  # fmt: skip
entry("kinetics.half_transformation_time", lambda **a: derived(_of(hold, kinetics.half_transformation_time, {"temperature": 620.0, **a})), drawn({}, {"temperature": real("temperature", 200), **ADAPTED}), state=made(hold))  # fmt: skip
entry("kinetics.ttt_curve", lambda **a: _rows(_of(hold, kinetics.ttt_curve, {"temperatures": KELVINS, "fractions": [0.5], **a})), drawn({}, {"temperatures": vector(KELVINS), "fractions": vector(np.array([0.1, 0.5])), **ADAPTED}), state=made(hold))  # fmt: skip
entry("kinetics.plot_ttt", lambda **a: _drawn_lines(_of(hold, kinetics.plot_ttt, {"temperatures": KELVINS, "fractions": [0.5], "ax": _axes(), **a})), drawn({}, {"temperatures": vector(KELVINS), "fractions": vector(np.array([0.1, 0.5])), **ADAPTED}), state=made(hold), fits=True)  # fmt: skip
entry("kinetics.plot_curve", lambda rows=CURVES[0].X, **a: _drawn_lines(_of(curve, kinetics.plot_curve, {"rows": rows, "ax": _axes(), **a})), drawn({}, {"rows": numbers(np.array(CURVES[0].X)), **ADAPTED}), state=made(curve), fits=True)  # fmt: skip
entry("kinetics.plot_constants", lambda tasks=None, constant="k", x=None: len(kinetics.plot_constants([curve(), curve()] if tasks is None else tasks, constant, [1.0, 2.0] if x is None else x, ax=_axes()).lines), drawn({}, {"tasks": anything("tasks", either=lambda v: v is None), "constant": anything("constant"), "x": vector(np.array([1.0, 2.0]))}), kinds=(KeyError,), state=made(curve), fits=True)  # fmt: skip
ERRORS = pd.DataFrame({"k": [1, 2, 1, 2], "method": ["a", "a", "b", "b"], "error": [1.0, 0.5, 2.0, 1.0]})
entry(
    "kinetics.plot_errors",
    lambda errors: len(kinetics.plot_errors(errors, ax=_axes()).lines),
    anything("errors").map(lambda g: {"errors": g}),
)
TABLE = {
    "curve": np.array([1.0, 1, 1, 2, 2, 2]),
    "time": np.array([1.0, 2, 3, 1, 2, 3]),
    "fraction": np.array([0.1, 0.4, 0.7, 0.2, 0.5, 0.6]),
}
entry(
    "kinetics.read_curves",
    lambda frame, **a: _contents(kinetics.read_curves(frame, **a)),
    table(TABLE, ["curve", "time", "fraction"], (), {
        "frame": anything("frame"), "curve": anything("curve"), "target": anything("target"), "inputs": anything("inputs", either=lambda v: np.size(v) == 0),
    }),
    kinds=(OSError,),
)  # fmt: skip
FOLDER = Path(tempfile.mkdtemp())
(FOLDER / "good.csv").write_text("time,fraction\n1,0.1\n2,0.4\n")


@st.composite
def _files(draw: st.DrawFn) -> dict[str, Given]:
    """Draw the bytes of a file: a good one, cut, with bytes changed, in another encoding, or random."""
    good = "time,fraction\n" + "".join(f"{i},{0.1 * i:.1f}\n" for i in range(1, 8))
    how = draw(st.sampled_from(["cut", "changed", "encoding", "random", "separator", "text", "arguments"]))
    content = good.encode()
    if how == "arguments":
        return {"files": draw(anything("files", either=lambda v: np.size(v) == 0))}
    if how == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif how == "changed":
        place = draw(st.integers(0, len(content) - 1))
        content = content[:place] + draw(st.binary(min_size=0, max_size=3)) + content[place + 1 :]
    elif how == "encoding":
        content = good.replace("time", "t\u00b0").encode(draw(st.sampled_from(["latin-1", "utf-16", "utf-16-le", "utf-32", "cp1252", "utf-8-sig", "cp037"])))  # fmt: skip
    elif how == "random":
        content = draw(st.binary(max_size=80))
    elif how == "separator":
        content = good.replace(",", draw(st.sampled_from([";", "\t", "|", " ", ",,", '","']))).encode()
    else:
        content = draw(st.text(max_size=60)).encode("utf-8", "replace")
    return {"files": Given(f"{how}: {content[:40]!r}", content, content)}


def _curve_files(files: Any) -> Any:
    if not isinstance(files, bytes):
        return _contents(kinetics.read_curve_files(files))
    path = FOLDER / "hostile.csv"
    path.write_bytes(files)
    try:
        return _contents(kinetics.read_curve_files([FOLDER / "good.csv", path]))
    except (ValueError, OSError, TypeError) as error:
        if "hostile" not in str(error):
            raise AssertionError(f"no file named: {error}") from error
        raise


entry("kinetics.read_curve_files", _curve_files, _files(), kinds=(OSError,), compare=False)
for _name in (
    "AlongHistory",
    "FirstOrderConversionRegressor",
    "NonIsothermalJMAKRegressor",
    "NthOrderConversionRegressor",
):
    entry(
        f"kinetics.{_name}.with_histories",
        lambda time=HISTORY[1][0], temperature=HISTORY[1][1], **a: FITTED["kinetics.NonIsothermalJMAKRegressor"]().with_histories(a.get("histories", {2: (time, temperature)})).predict([[1.0, 2.0]] if "histories" not in a else [[1.0, 1.0]]),
        st.one_of(
            drawn({}, {"time": vector(HISTORY[1][0]), "temperature": vector(HISTORY[1][1])}),
            anything("histories", either=lambda v: isinstance(v, dict) and not v).map(lambda g: {"histories": g}),
        ),
        fits=True,
    )  # fmt: skip

# ---- trading ----------------------------------------------------------------------------------------------------

RETURNS = np.array([0.01, -0.02, 0.015, 0.0, -0.005, 0.02, 0.001])
PERIODS = {"periods_per_year": real("periods_per_year", 0, none=True, ends=False)}
MEASURED = drawn({"returns": RETURNS, "periods_per_year": 12}, {"returns": vector(RETURNS, missing=True), **PERIODS})
for _name in ("sharpe", "sortino"):
    entry(f"trading.{_name}", lambda _name=_name, **a: np.clip(getattr(trading, _name)(**a), -1e9, 1e9), MEASURED)
entry(
    "trading.drawdown",
    lambda returns: trading.drawdown(returns),
    vector(RETURNS, missing=True).map(lambda g: {"returns": g}),
)
entry("trading.deflated_sharpe", lambda **a: trading.deflated_sharpe(**a), drawn({"returns": RETURNS, "trials": np.array([0.5, 1.0]), "periods_per_year": 12}, {"returns": vector(RETURNS, missing=True), "trials": vector(np.array([0.5, 1.0])), **PERIODS}))  # fmt: skip
entry("trading.difference", lambda **a: trading.difference(**{"n": 5, **a}), drawn({"ours": RETURNS, "theirs": RETURNS[::-1].copy(), "periods_per_year": 12}, {"ours": vector(RETURNS, missing=True), "theirs": vector(RETURNS, missing=True), "measure": anything("measure", either=callable), "block": real("block", 1), "n": count(1, 9), "random_state": setting(lambda v: None, "random_state"), **LEVEL, **PERIODS}))  # fmt: skip

N_DAYS = 40
DAYS = pd.bdate_range("2020-01-01", periods=N_DAYS)
ONE_PRICE = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_normal(N_DAYS)))
TWO_PRICES = np.column_stack([ONE_PRICE, ONE_PRICE[::-1]])


def _prices_read(given: Given) -> Given:
    """Let prices be missing at the ends, which days without a listing are."""
    given = replace(given, sure=False)
    if "twice" in given.kind and isinstance(given.value, pd.Series):
        return Given(given.kind, given.value, given.value)
    two = re.search("two columns|no dimension", given.kind) and np.ndim(given.value) == 2  # rows of two assets, or one
    if given.value is None or (any(word in given.kind for word in _WRONG_SHAPES) and not two):
        return given
    cells = _read(given)
    if cells is None and isinstance(given.value, (np.ma.MaskedArray, pd.DataFrame)):
        return Given(given.kind, given.value, given.value)
    return Given(given.kind, given.value, cells if cells is not None else given.value, False, False, given.rtol)


PRICES = st.one_of(numbers(TWO_PRICES), numbers(ONE_PRICE)).map(_prices_read)
SWITCHES = {"check_plausibility": flag("check_plausibility"), "volatility_target": real("volatility_target", 0, none=True, ends=False), "window": count(1, 20), "max_leverage": real("max_leverage", 0, ends=False)}  # fmt: skip


def _positions(frame: Any) -> Any:
    return np.nan_to_num(frame.to_numpy(), nan=-7.0)


entry("trading.buy_and_hold", lambda **a: _positions(trading.buy_and_hold(**{"periods_per_year": 252, "check_plausibility": False, **a})), drawn({"prices": TWO_PRICES}, {"prices": PRICES, **SWITCHES, **PERIODS}), compare=False)  # fmt: skip
entry("trading.momentum", lambda **a: _positions(trading.momentum(**{"periods_per_year": 252, "horizon": 5, "check_plausibility": False, **a})), drawn({"prices": TWO_PRICES}, {"prices": PRICES, "horizon": count(1, 20), **SWITCHES, **PERIODS}), compare=False)  # fmt: skip


def _earned(**arguments: Any) -> Any:
    result = trading.earn(**{"periods_per_year": 252, "check_plausibility": False, **arguments})
    return _positions(result.returns)


LEVELS = np.clip(np.random.default_rng(1).standard_normal((N_DAYS, 2)), -1, 1)
entry("trading.earn", _earned, drawn({"positions": LEVELS, "prices": TWO_PRICES}, {"positions": numbers(LEVELS).map(_prices_read), "prices": PRICES, "lag": count(0, 9), "cost": real("cost", 0, 1), **PERIODS}), compare=False)  # fmt: skip
BACKTEST = trading.earn(
    pd.DataFrame(LEVELS, index=DAYS, columns=["A", "B"]),
    pd.DataFrame(TWO_PRICES, index=DAYS, columns=["A", "B"]),
    cost=0.001,
)
entry("trading.Backtest", lambda **a: trading.Backtest(**{"positions": BACKTEST.positions, "returns": BACKTEST.returns, "lag": 1, "cost": 0.001, "periods_per_year": 252.0, **a}).summary().fillna(-7.0), drawn({}, {"positions": anything("positions"), "returns": anything("returns"), "lag": count(0, 9), "cost": real("cost", 0, 1), **PERIODS}))  # fmt: skip
entry("trading.Backtest.between", lambda **a: _positions(BACKTEST.between(**a).returns), drawn({}, {"first": setting(lambda v: None, "first"), "last": setting(lambda v: None, "last")}))  # fmt: skip
entry("trading.PriceFeatures", lambda **a: np.nan_to_num(trading.PriceFeatures(**a).fit_transform(ONE_PRICE)), drawn({}, {"horizons": vector(np.array([1.0, 5.0])).map(lambda g: replace(g, sure=False)), "window": count(4, 20), "check_plausibility": flag("check_plausibility")}), compare=False)  # fmt: skip
for _name in ("fit", "transform"):
    entry(f"trading.PriceFeatures.{_name}", lambda X: np.nan_to_num(trading.PriceFeatures(check_plausibility=False).fit(X).transform(X)), PRICES.map(lambda g: {"X": g}), compare=False)  # fmt: skip
POLICY_PRICES = pd.DataFrame(
    {f"A{i}": 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(i).standard_normal(120))) for i in range(6)},
    index=pd.bdate_range("2020-01-01", periods=120),
)


def _new_policy(**settings: Any) -> Any:
    from metaest import MAMLPolicy

    learner = MAMLPolicy(
        support_size=20,
        query_size=20,
        max_iter=2,
        hidden_layer_sizes=(4,),
        inner_steps=1,
        random_state=0,
        compile=False,
    )
    return trading.TradingPolicy(learner, trading.PriceFeatures((1, 2), 5), **{"check_plausibility": False, **settings})


trader_model = once(lambda: _new_policy().fit(POLICY_PRICES))
trader = once(lambda: trader_model().adapt(POLICY_PRICES["A0"]))
entry("trading.TradingPolicy", lambda **a: _positions(_new_policy(**a).fit(POLICY_PRICES).positions(POLICY_PRICES)), drawn({}, {"lag": count(0, 5), "volatility_target": SWITCHES["volatility_target"], "max_leverage": SWITCHES["max_leverage"], "check_plausibility": flag("check_plausibility"), **PERIODS}), fits=True, compare=False)  # fmt: skip
entry(
    "trading.TradingPolicy.fit",
    lambda prices: _positions(_new_policy().fit(prices).positions(POLICY_PRICES)),
    PRICES.map(lambda g: {"prices": g}),
    fits=True,
    compare=False,
)
for _name in ("adapt", "positions", "tasks"):
    entry(f"trading.TradingPolicy.{_name}", lambda prices, _name=_name: (lambda r: _contents(r) if isinstance(r, TaskSet) else _positions(r) if hasattr(r, "to_numpy") else None)(getattr(trader_model(), _name)(prices)), PRICES.map(lambda g: {"prices": g}), compare=False, state=made(trader_model))  # fmt: skip
entry("trading.AdaptedTrader.positions", lambda prices: _positions(trader().positions(prices)), PRICES.map(lambda g: {"prices": g}), compare=False, state=made(trader))  # fmt: skip
entry("trading.walk_forward", lambda **a: _positions(trading.walk_forward(**{"policy": trader_model(), "prices": POLICY_PRICES, "adapt_window": 30, "check_plausibility": False, **a}).returns), drawn({}, {"policy": anything("policy"), "prices": PRICES, "adapt_window": count(1, 50), "readapt_every": count(1, 50), "lag": count(0, 5), "cost": real("cost", 0, 1, none=True), "start": setting(lambda v: None, "start"), **PERIODS}), fits=True, compare=False, state=made(trader_model))  # fmt: skip
for _name in ("plot_equity", "plot_drawdown"):
    entry(f"trading.{_name}", lambda backtests=BACKTEST, _name=_name, **a: _drawn_lines(getattr(trading, _name)(backtests, ax=_axes(), **a)), drawn({}, {"backtests": anything("backtests"), "volatility": real("volatility", 0, none=True, ends=False)}))  # fmt: skip
entry("trading.plot_positions", lambda positions=BACKTEST.positions, asset="A": _drawn_lines(trading.plot_positions(positions, asset=asset, ax=_axes())), drawn({}, {"positions": anything("positions", either=lambda v: np.size(v) > 0), "asset": anything("asset", either=lambda v: v is None)}), kinds=(KeyError,))  # fmt: skip
entry(
    "trading.plot_sharpe",
    lambda ratios: _drawn_lines(trading.plot_sharpe(ratios, ax=_axes())),
    anything("ratios").map(lambda g: {"ratios": g}),
)

# ---- data sets --------------------------------------------------------------------------------------------------

FEW_TASKS = {"n_tasks": count(1, 9), "n_rows": count(1, 9), "random_state": setting(lambda v: None, "random_state")}
SMALL_SETS = {"n_tasks": 3, "n_rows": 4, "random_state": 0}
SPREAD = {"noise": real("noise", 0)}


def _range(name: str) -> Any:
    return anything(name, either=lambda v: np.size(v) == 2 or isinstance(v, range))


entry("datasets.make_sinusoids", lambda **a: _contents(metaest_datasets.make_sinusoids(**{**SMALL_SETS, **a})), drawn({}, {**FEW_TASKS, **SPREAD, **{name: _range(name) for name in ("amplitude", "phase", "x_range")}, "frequency": setting(lambda v: None, "frequency")}), compare=False)  # fmt: skip
entry("datasets.make_linear_tasks", lambda **a: _contents(metaest_datasets.make_linear_tasks(**{**SMALL_SETS, **a})[0]), drawn({}, {**FEW_TASKS, **SPREAD, "n_features": count(1, 9), "between_task_sd": real("between_task_sd", 0)}), compare=False)  # fmt: skip
entry("datasets.make_avrami_tasks", lambda **a: _contents(metaest_datasets.make_avrami_tasks(**{**SMALL_SETS, **a}).tasks), drawn({}, {**FEW_TASKS, **SPREAD, "k": real("k", 0, ends=False), "n": real("n", 0, ends=False), "sd": _range("sd"), "correlation": real("correlation", -1, 1)}), compare=False)  # fmt: skip
entry("datasets.make_market", lambda **a: metaest_datasets.make_market(**{"n_assets": 3, "n_days": 10, "random_state": 0, **a})[0], drawn({}, {"n_assets": count(1, 9), "n_days": count(1, 9), "personalities": anything("personalities"), "strength": real("strength", 0, 1), "volatility": real("volatility", 0, ends=False), "random_state": FEW_TASKS["random_state"]}), compare=False)  # fmt: skip
entry(
    "datasets.load_reference",
    lambda name: metaest_datasets.load_reference(name)["k"],
    anything("name").map(lambda g: {"name": g}),
)
entry("datasets.load_theophylline", lambda exclude_time_zero: _contents(metaest_datasets.load_theophylline(exclude_time_zero=exclude_time_zero)), flag("exclude_time_zero").map(lambda g: {"exclude_time_zero": g}))  # fmt: skip


def _unfetched(fetch: Callable[..., Any], arguments: dict[str, Any]) -> float:
    """Check settings alone: the file is not there."""
    try:
        with mock.patch.object(sys.modules[fetch.__module__], "fetch_file", side_effect=OSError):
            fetch(**arguments)
    except OSError:
        return 1.0
    raise AssertionError("the file was not asked for")


for _name, _options in (
    ("fetch_omniglot_small", {"part": anything("part", either=lambda v: v in (1, 2)), "size": count(1, 105), "rotations": flag("rotations")}),
    ("fetch_omniglot_runs", {"size": count(1, 105)}),
    ("fetch_polymer_crystallisation", {"part": anything("part", either=lambda v: v is None or np.size(v) == 2 or isinstance(v, range))}),
):  # fmt: skip
    # good settings end at the file, which is not there
    entry(f"datasets.{_name}", lambda _name=_name, **a: _unfetched(getattr(metaest_datasets, _name), a), drawn({}, _options))  # fmt: skip
SECONDS = np.arange(0.0, 300, 5)
FLOW = 1.4 * np.exp(-((SECONDS / 15) ** 2)) + np.exp(-(((SECONDS - 90) / 25) ** 2))
entry("datasets.relative_crystallinity", lambda **a: (lambda c: [c.time, c.crystallinity, c.cut, c.heat, c.baseline])(metaest_datasets.relative_crystallinity(**a)), drawn({"time": SECONDS, "heat_flow": FLOW}, {"time": vector(SECONDS), "heat_flow": vector(FLOW), "baseline": real("baseline", 0, ends=False)}))  # fmt: skip
entry("datasets.Crystallinity", lambda **a: (lambda c: [c.time, c.crystallinity])(metaest_datasets.Crystallinity(**a)), drawn({"time": TIME, "crystallinity": np.linspace(0, 1, 4), "cut": 1.0, "heat": 2.0, "baseline": 0.0}, {"time": vector(TIME), "crystallinity": vector(np.linspace(0, 1, 4)), "cut": real("cut"), "heat": real("heat"), "baseline": real("baseline")}))  # fmt: skip
POPULATION = {"mean": np.zeros(3), "covariance": np.eye(3), "noise": 0.3, "coefficients": np.ones((4, 3))}
POP = metaest_datasets.LinearPopulation(**POPULATION)
entry("datasets.LinearPopulation", lambda **a: (lambda p: [p.mean, p.covariance, p.noise, p.coefficients])(metaest_datasets.LinearPopulation(**a)), drawn(POPULATION, {"mean": vector(POPULATION["mean"]), "covariance": numbers(POPULATION["covariance"]), "noise": real("noise", 0), "coefficients": numbers(POPULATION["coefficients"])}).map(unsure))  # fmt: skip
ROWS, TARGETS = np.random.default_rng(0).standard_normal((4, 2)), np.arange(4.0)
entry("datasets.LinearPopulation.posterior_mean", lambda X, y: POP.posterior_mean(X, y), drawn({"X": ROWS, "y": TARGETS}, {"X": numbers(ROWS), "y": vector(TARGETS)}).map(unsure))  # fmt: skip
entry(
    "datasets.LinearPopulation.predict",
    lambda X, **a: POP.predict(ROWS, TARGETS, X),
    numbers(ROWS).map(lambda g: unsure({"X": g})),
)

# models that keep a published population
for _name in public_names():
    if _name.endswith(".from_population"):
        _prefix, _cls, _ = _name.split(".")
        _model = getattr(MODULES[_prefix], _cls)
        entry(
            _name,
            lambda _model=_model, **a: _model.from_population(**a),
            drawn({}, {"population": anything("population")}),
        )
entry(
    "physiology.OneCompartmentRegressor.from_population (doses)",
    lambda **a: (
        physiology.OneCompartmentRegressor.from_population(
            physiology.load_published("vancomycin", "buelga-2005"), random_state=0, **a
        ).n_features_in_
    ),
    drawn({}, {"n_doses": count(1, none=True, name="n_doses")}),
)
