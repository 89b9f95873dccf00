"""What a frame says is heeded, or refused: generated from the tables of what the readers read.

Changing any cell that a table says is read changes the answer or raises; a column that no table lists is named in a
warning or an error.
"""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest

from metaest import TaskSet
from metaest.tasks.frames import FRAME_COLUMNS
from metaest_domains.kinetics import read_curve_files, read_curves
from metaest_domains.kinetics.readers import CURVE_COLUMNS
from metaest_domains.physiology import OneCompartmentRegressor, Regimen, insulin_rows, read_patients
from metaest_domains.physiology.record_columns import OCCASIONS, PATIENT_COLUMNS


def patients():
    """Doses, observations and a covariate, under names of the user's own."""
    return pd.DataFrame({
        "who": ["A"] * 4 + ["B"] * 3, "when": [0.0, 2, 12, 14, 0, 3, 20], "amount": [320, None, 320, None, 200, None, None],
        "level": [None, 7.1, None, 9.8, None, 5.0, 3.0], "hours": [1.0, None, 2, None, 0, None, None],
        "kg": [70.0] * 4 + [80] * 3,
    })  # fmt: skip


PATIENTS = {"patient": "who", "time": "when", "dose": "amount", "target": "level", "duration": "hours",
            "covariates": ["kg"]}  # fmt: skip


def flagged(name):
    """The same with a column of a reserved name, and those without which it says nothing."""
    given = patients()["amount"].notna()
    dose = given.astype(float)
    of_doses, of_others = (dict.fromkeys(names.split(), values) for names, values in (
        ("evid mdv addl adm", dose), ("dvid ytype obsid", 1 - dose),
    ))  # fmt: skip
    words = {"route": ("oral", None), "doseu": ("mg", None), "pcspec": (None, "plasma"), "avalu": (None, "mg/L"),
             "paramcd": ("DOSE", "CONC"), "frltu": ("h", "h"), "blqfl": ("N", "N"), "visit": ("day 1", "day 1"),
             "dtype": (None, None), "c": (".", "."), "l1": (None, None), "l2": (None, None)}  # fmt: skip
    numbers = {"ii": 24 * dose, "cmt": 2 - dose, "lloq": 0.5, "alloq": 0.5, "pclloq": 0.5, "uloq": 50.0, "auloq": 50.0,
               **dict.fromkeys(["date", "dat1", "dat2", "dat3", *OCCASIONS], 1.0), **of_doses, **of_others}  # fmt: skip
    beside = {"addl": ["ii"], "ii": ["addl"], "ss": ["addl", "ii"]}.get(name, [])
    frame = patients()
    if name == "limit":
        frame["cens"] = [0.0, 1, 0, 1, 0, 1, 1]
    if name in ("dur", "duration", "tinf", "dosedur"):
        frame = frame.drop(columns="hours")
    for column in (name, *beside):
        if column in words:
            frame[column] = np.where(given, *(np.full(len(frame), word, dtype=object) for word in words[column]))
        else:
            frame[column] = numbers.get(column, 0.0)
    return frame


def reserved(read):
    """Read a frame that may lack the column of durations."""

    def answer(frame, arguments):
        lasting = {} if "hours" in frame else {"duration": None}
        return read(frame, {**arguments, **lasting})

    return answer


def one(frame, arguments):
    others = {name: column for name, column in arguments.items() if name != "patient"}
    regimen, X, y = Regimen.read(frame[frame["who"] == frame["who"].iloc[0]], patient=arguments["patient"], **others)
    return [regimen.time, regimen.amount, regimen.duration, list(regimen.covariates.values()), X.to_numpy(), y]


def many(read):
    def answer(frame, arguments):
        tasks = read(frame, **arguments)
        return [tasks.X, tasks.y, tasks.names, tasks.offsets, tasks.sample_weight]

    return answer


def curves():
    return pd.DataFrame({"curve": ["A", "A", "B", "B"], "time": [1.0, 2, 1, 2], "T": [600.0, 600, 610, 610],
                         "fraction": [0.1, 0.4, 0.2, 0.5]})  # fmt: skip


def weighed():
    return curves().assign(weight=[1.0, 2.0, 1.0, 4.0], batch=[0.0, 0.0, 1.0, 1.0])


CURVES = {"curve": "curve", "inputs": ["time", "T"], "target": "fraction"}
FRAME = {
    "task": "curve",
    "features": ["time", "T"],
    "target": "fraction",
    "sample_weight": "weight",
    "levels": ["batch"],
}

# reader: table, example frame, arguments, answer
READERS = {
    "read_patients": (PATIENT_COLUMNS, patients, PATIENTS, many(read_patients)),
    "Regimen.read": (PATIENT_COLUMNS, patients, PATIENTS, one),
    **{f"{reader}, {name}, reserved": (PATIENT_COLUMNS, partial(flagged, name), PATIENTS, reserved(answer))
       for name in PATIENT_COLUMNS.reserved for reader, answer in (("read_patients", many(read_patients)),
                                                                    ("Regimen.read", one))},
    "read_curves": (CURVE_COLUMNS, curves, CURVES, many(read_curves)),
    "TaskSet.from_frame": (FRAME_COLUMNS, weighed, FRAME, many(TaskSet.from_frame)),
    "TaskSet.from_frame, reserved": (
        FRAME_COLUMNS, lambda: weighed().assign(**dict.fromkeys(FRAME_COLUMNS.reserved, 0)), FRAME,
        many(TaskSet.from_frame),
    ),
}  # fmt: skip


def cells():
    """Every cell of every column that a table lists; those of arguments in frames without flags."""
    for reader, (table, frame, arguments, _) in READERS.items():
        is_reserved = reader.endswith("reserved")
        named = [column for name in table.arguments for column in np.atleast_1d(arguments[name])]
        for column in [reader.split(", ")[1]] if reader.count(",") == 2 else table.reserved if is_reserved else named:
            rows = np.arange(4) if reader.startswith("Regimen") else np.arange(len(frame()))
            meaning = table.reserved.get(column, "")
            if table is PATIENT_COLUMNS and "ignored" in meaning:
                doses = frame()["amount"].notna().to_numpy()[rows]
                rows = rows[doses == ("ignored in observations" in meaning)]  # the table says that it is not read there
            yield from ((reader, column, int(row)) for row in rows)


def other(value):
    if value is None or isinstance(value, str):
        return "Z"
    return 7.5 if np.isnan(value) else value + 1


@pytest.mark.parametrize("reader", READERS)
def test_tables_describe_their_examples(reader):
    table, frame, arguments, answer = READERS[reader]
    assert set(table.arguments) == set(arguments)
    answer(frame(), arguments)


@pytest.mark.parametrize(("reader", "column", "row"), list(cells()))
def test_changing_what_is_read_changes_the_answer_or_raises(reader, column, row):
    _, make, arguments, answer = READERS[reader]
    before, frame = answer(make(), arguments), make()
    frame.loc[row, column] = other(frame.loc[row, column])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            after = answer(frame, arguments)
        except (ValueError, UserWarning):
            return
    same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not same, f"{reader} does not read {column!r} in row {row}"


@pytest.mark.parametrize("reader", [name for name in READERS if not name.startswith("TaskSet")])
def test_columns_that_are_not_read_are_named(reader):
    # TaskSet.from_frame is told by its arguments which columns to take, and has no others to find
    _, make, arguments, answer = READERS[reader]
    with pytest.warns(UserWarning, match="column 'zzz' was not read"):
        answer(make().assign(zzz=1.0), arguments)


def test_files_and_models_read_as_the_readers_do(tmp_path):
    (tmp_path / "A.csv").write_text("time,fraction,zzz\n1,0.1,3\n2,0.4,3\n")
    with pytest.warns(UserWarning, match="column 'zzz' was not read"):
        read_curve_files([tmp_path / "A.csv"])
    plain = patients().drop(columns=["hours", "kg"])
    names = {"time": "when", "dose": "amount", "target": "level"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = OneCompartmentRegressor(route="iv", fixed={"volume": 40.0}, random=["clearance"], max_iter=5).fit(
            read_patients(plain, patient="who", **names)
        )
    with pytest.warns(UserWarning, match="column 'zzz' was not read"):
        model.read(plain[:4].assign(zzz=1.0), patient="who", **names)


@pytest.mark.parametrize("name", ["times", "insulin_times", "insulin", "basal_glucose", "basal_insulin"])
def test_insulin_rows_read_every_argument(name):
    given = {"times": [2.0, 10.0], "insulin_times": [0.0, 4.0, 20.0], "insulin": [10.0, 80.0, 30.0],
             "basal_glucose": 90.0, "basal_insulin": 10.0}  # fmt: skip
    before = insulin_rows(**given).to_numpy()
    for place in range(len(np.atleast_1d(given[name]))):
        changed = np.array(given[name], dtype=float)
        changed[place if changed.ndim else ()] += 1
        assert not np.array_equal(insulin_rows(**{**given, name: changed}), before)
