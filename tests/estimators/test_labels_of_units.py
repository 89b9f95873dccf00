"""Labels of units and outputs: what is the same label, what is another unit, and what is refused."""

import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from metaest import EquationRegressor, Task, TaskError, TaskSet, load, model_hash, save

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")


def line(X, a, b):
    return a + b * X[:, 0]


def visits(labels, n=15, rows=4):
    """Patients of which each has a level of its own at each visit; the labels in a column of objects."""
    rng, parts = np.random.default_rng(0), []
    for i in range(n):
        level = rng.normal()
        for label in labels:
            x = rng.uniform(0, 3, rows)
            y = 5 + level + 1.5 * rng.normal() + 1.5 * x + 0.1 * rng.normal(size=rows)
            visit = pd.Series([label] * rows, dtype=object)
            parts.append(pd.DataFrame({"patient": f"P{i}", "x": x, "visit": visit, "y": y}))
    return pd.concat(parts, ignore_index=True)


def fitted(frame):
    tasks = TaskSet.from_frame(frame, task="patient", target="y", features=["x"], levels=["visit"])
    constants = {"a": 1.0, "b": 1.0}
    return EquationRegressor(line, constants, random=["a"], levels={"visit": ["a"]}).fit(tasks), tasks


def at(*labels):
    return pd.DataFrame({"x": np.ones(len(labels)), "visit": list(labels)})


def test_numbers_among_words_are_labels_in_a_frame_of_numbers_alone():
    model, _ = fitted(visits([1, 2, "later"]))
    patient = model.adapt(at(1, 2), [7.0, 12.0])  # a column of numbers
    assert patient.units_ == [(1,), (2,)]
    words = pd.DataFrame({"x": np.ones(2), "visit": pd.Series([1, 2], dtype=object)})
    assert (patient.predict(at(1, 2)) == model.adapt(words, [7.0, 12.0]).predict(words)).all()
    moved = model.adapt(at(1), [100.0], within="P0").predict(words) - model.adapt(words[:0], [], within="P0").predict(
        words
    )
    assert moved[0] > 10 > abs(moved[1])


@pytest.mark.parametrize(
    ("labels", "other", "match"),
    [
        ([0, 1, 2], "next", "holds 'next' .a str. in row 0, and had numbers at the fit"),
        ([0, 1, 2], "1", "holds '1' .a str. in row 0, and had numbers"),
        (["a", "b"], 0, "holds 0 .a number. in row 0, and had labels such as 'a' .a str."),
        (["a", "b"], pd.Timestamp("2026-01-01"), "a datetime"),
        ([datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)], "2026-01-01", "a str"),
        (["a", "b"], True, "a bool"),
    ],
)
def test_a_label_of_another_kind_is_no_new_unit(labels, other, match):
    frame = visits(labels).infer_objects()
    model, _ = fitted(frame)
    patient = model.adapt(at(*labels[:2]), [7.0, 12.0])
    for call in (patient.predict, lambda X: patient.partial_adapt(X, [1.0]), model.predict):
        with pytest.raises(TaskError, match=match):
            call(at(other))
    theirs = frame.assign(visit=pd.Series([other] * len(frame)))
    theirs = TaskSet.from_frame(theirs, task="patient", target="y", features=["x"], levels=["visit"])
    with pytest.raises(TaskError, match="the level 'visit' has"):
        model.adapt_many(theirs)


def test_tasks_and_lists_of_them_keep_what_their_numbers_stand_for():
    model, tasks = fitted(visits(["b", "a"]))
    assert tasks[3].level_labels == {"visit": ("a", "b")}
    again = TaskSet([tasks[0], tasks[2]])
    assert again.level_labels == tasks.level_labels
    assert model.adapt_many([tasks[0]])[0].units_ == model.adapt_many(tasks)[0].units_ == [("a",), ("b",)]
    other = TaskSet.from_frame(
        visits(["c", "b"]).assign(patient=lambda frame: "Q" + frame.patient),
        task="patient", target="y", features=["x"], levels=["visit"],
    )  # fmt: skip
    with pytest.raises(TaskError, match="'QP0': its numbers of levels or outputs stand for other labels"):
        TaskSet([tasks[0], other[0]])
    with pytest.raises(TaskError, match="other labels"):
        TaskSet([tasks[0], Task("new", [[1.0, 0.0]], [1.0], feature_names=("x", "visit"), target_names=("y",))])


def test_many_frames_with_labels_are_refused_with_their_remedy():
    model, _ = fitted(visits(["b", "a"]))
    for tasks in ([(at("a"), [1.0])], {"Q": (at("a"), [1.0])}):
        with pytest.raises(TaskError, match=r"adapt_many: the level 'visit' holds labels; .* TaskSet.from_frame"):
            model.adapt_many(tasks)


@pytest.mark.parametrize("kind", [datetime.date, datetime.datetime, pd.Timestamp])
def test_dates_are_labels_in_files(tmp_path, kind):
    days = [kind(2026, 1, 2), kind(2026, 1, 1)]
    model, _ = fitted(visits(days))
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model", equation=line)
    assert model_hash(loaded) == model_hash(model)
    patient = loaded.adapt(at(*days), [7.0, 12.0])
    assert patient.units_ == [(days[1],), (days[0],)]
    assert type(patient.units_[0][0]) is type(model.adapt(at(*days), [7.0, 12.0]).units_[0][0])
    assert (patient.predict(at(*days)) == model.adapt(at(*days), [7.0, 12.0]).predict(at(*days))).all()


def test_tasks_of_one_row_are_scored_before_any_adaptation():
    frame = visits(["a", "b"], n=12)
    single = frame.groupby("patient").head(1).patient.isin(["P1", "P11"])
    frame = pd.concat([frame[~frame.patient.isin(["P1", "P11"])], frame.groupby("patient").head(1)[single]])
    model, tasks = fitted(frame)
    assert np.isfinite(model.score(tasks))
    alone = tasks[[i for i in range(len(tasks)) if len(tasks[i]) == 1]]
    error = alone.y.reshape(-1) - model.predict(pd.DataFrame({"x": alone.X[:, 0], "visit": "a"}))
    assert model.score(alone) == pytest.approx(1 - np.sum(error**2) / np.sum((alone.y - tasks.y.mean()) ** 2))


def test_outputs_in_words_are_cross_validated():
    def first(X, a, b):
        return a + b * X[:, 0]

    def second(X, a, c):
        return c * a

    frame = visits(["conc", "effect"]).rename(columns={"visit": "dvid"})
    tasks = TaskSet.from_frame(frame, task="patient", target="y", features=["x"], output="dvid")
    equations, constants = {"conc": first, "effect": second}, {"a": 1.0, "b": 1.0, "c": 1.0}
    model = EquationRegressor(equations, constants, random=["a"], output="dvid")
    assert np.isfinite(cross_val_score(clone(model), tasks, cv=3, error_score="raise")).all()
    with pytest.raises(TaskError, match="holds the number 1 in row 0, and the outputs of the fit are conc, effect"):
        model.fit(tasks).predict(pd.DataFrame({"x": [1.0], "dvid": [1]}))


def test_columns_may_have_numbers_for_names():
    frame = visits(["a", "b"]).rename(columns={"x": 0, "visit": 1})
    model = EquationRegressor(line, {"a": 1.0, "b": 1.0}, random=["a"], levels={1: ["a"]})
    model.fit(frame[[0, 1]], frame.y, groups=frame.patient)
    patient = model.adapt(pd.DataFrame({0: [1.0, 1.0], 1: ["a", "b"]}), [7.0, 12.0])
    assert patient.units_ == [("a",), ("b",)]
    given = pd.DataFrame({0: [1.0], 1: ["c"]})
    assert np.isfinite(patient.predict(given)).all()
    assert given[1].tolist() == ["c"]
