"""Labels as they come: lists, series of every kind of column, frames of one column; a missing one names its row."""

import numpy as np
import pandas as pd
import pytest

from metaest import MAMLClassifier, MAMLRegressor, Task, TaskError, TaskSet

FRAME = pd.DataFrame({"site": ["n", "n", "s", "s", "s"], "x": [0.0, 1.0, 2.0, 3.0, 4.0]})
WORDS, NUMBERS, FLAGS = ["low", "high", "low", "low", "high"], [3, 1, 3, 3, 1], [True, False, True, True, False]


@pytest.mark.parametrize("kind", [None, "string", "category", object])
def test_words_in_a_list_of_one_column_are_those_of_the_column(kind):
    frame = FRAME.assign(grade=pd.Series(WORDS, dtype=kind))
    one = TaskSet.from_frame(frame, task="site", features=["x"], target="grade")
    listed = TaskSet.from_frame(frame, task="site", features=["x"], target=["grade"])
    assert listed.y.tolist() == one.y.tolist() == WORDS
    assert listed.target_names == one.target_names == ("grade",)
    pair = Task("n", frame[["x"]], frame[["grade"]])
    assert pair.y.tolist() == WORDS


@pytest.mark.parametrize("values", [NUMBERS, FLAGS, pd.array(NUMBERS, dtype="Int64"), pd.array(FLAGS, dtype="boolean")])
def test_whole_numbers_in_a_list_of_one_column_stay_whole(values):
    listed = TaskSet.from_frame(FRAME.assign(grade=values), task="site", features=["x"], target=["grade"])
    assert listed.y.shape == (5, 1)
    assert listed.y.ravel().tolist() == list(values)


def test_a_classifier_takes_a_frame_of_one_column():
    frame = FRAME.assign(grade=WORDS)
    settings = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0, "shared_labels": True}
    one = MAMLClassifier(**settings).fit(frame[["x"]], frame["grade"], groups=frame["site"])
    listed = MAMLClassifier(**settings).fit(frame[["x"]], frame[["grade"]], groups=frame["site"])
    assert listed.classes_.tolist() == ["high", "low"]
    np.testing.assert_array_equal(one.predict_proba(frame[["x"]]), listed.predict_proba(frame[["x"]]))
    adapted = listed.adapt(frame[["x"]], frame[["grade"]])
    assert adapted.y_support_.tolist() == WORDS


def test_words_among_several_targets_say_that_labels_are_one_column():
    frame = FRAME.assign(grade=WORDS, dose=1.5)
    with pytest.raises(TaskError, match=r"y has 2 columns, and column 'grade' holds words.*give 'grade' alone"):
        TaskSet.from_frame(frame, task="site", features=["x"], target=["dose", "grade"])


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (pd.Series(["a", "b", pd.NA, "a"], dtype="string"), "label"),
        (pd.Series(["a", "b", None, "a"], dtype="category"), "label"),
        (pd.DataFrame({"y": ["a", "b", pd.NA, "a"]}, dtype="string"), "label"),
        (pd.array(["a", "b", None, "a"], dtype="string"), "label"),
        (["a", "b", pd.NA, "a"], "label"),
        (["a", "b", pd.NaT, "a"], "label"),
        ([["a"], ["b"], [pd.NA], ["a"]], "label"),
        (pd.Series([1, 0, pd.NA, 1], dtype="Int64"), "value"),
        (pd.Series([True, False, pd.NA, True], dtype="boolean"), "value"),
        (pd.Series([1, 0, None, 1], dtype="category"), "value"),
        (pd.DataFrame({"y": [1, 0, pd.NA, 1]}, dtype="Int64"), "value"),
        ([1, 0, pd.NA, 1], "value"),
        ([True, False, None, True], "value"),
        ([1.5, 0.5, pd.NA, 1.0], "value"),
    ],
)
def test_a_missing_label_names_its_row(labels, what):
    with pytest.raises(TaskError, match=f"task 'n': the {what} .*row 2 is missing"):
        Task("n", np.arange(4.0)[:, None], labels)


def test_a_missing_label_at_adaptation_names_the_call_and_the_row():
    frame = FRAME.assign(grade=WORDS)
    model = MAMLClassifier(hidden_layer_sizes=(4,), max_iter=3, random_state=0, shared_labels=True)
    model.fit(frame[["x"]], frame["grade"], groups=frame["site"])
    with pytest.raises(TaskError, match="adapt: the label of row 1 is missing"):
        model.adapt(frame[["x"]], pd.Series(["low", pd.NA, "high", "low", "low"], dtype="string"))
    with pytest.raises(TaskError, match="the label of row 3 is missing"):
        model.fit(frame[["x"]], pd.Series(["low", "high", "high", pd.NA, "low"], dtype="string"), groups=frame["site"])


def test_a_missing_nullable_target_names_its_row():
    frame = FRAME.assign(dose=pd.array([1.5, 2.5, pd.NA, 4.5, 5.5], dtype="Float64"))
    with pytest.raises(TaskError, match="task 's': column 'dose' of y holds NaN in row 0"):
        MAMLRegressor(max_iter=1).fit(frame[["x"]], frame["dose"], groups=frame["site"])


@pytest.mark.parametrize("text", ["", "  ", "nan", "<NA>"])
def test_text_of_a_missing_label_is_no_class(text):
    y = np.array(["ill", "well", text])
    for form in (y, pd.Series(y), y.astype(object), y.tolist()):
        with pytest.raises(TaskError, match=f"the label of row 2 is the text '{text}', as a missing one is written"):
            Task("a", [[0.0], [1.0], [2.0]], form)
