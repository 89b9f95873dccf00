from pathlib import Path

import numpy as np
import pytest

from metaest_datasets import load_orange, load_reference, load_sleepstudy, load_theophylline

LOADERS = {
    "theophylline": lambda: load_theophylline(exclude_time_zero=True),
    "orange": load_orange,
    "sleepstudy": load_sleepstudy,
}

# root of the mean over tasks and repetitions of the reference's squared errors, as its authors print them
PRINTED = {
    ("theophylline", "nlme_mse"): {0: 1.652, 1: 1.475, 2: 1.475, 3: 1.293, 5: 1.236},
    ("theophylline", "pooled_mse"): {0: 1.605, 1: 1.562, 2: 1.643, 3: 1.579, 5: 1.652},
    ("orange", "nlme_mse"): {0: 27.56, 1: 16.49, 2: 11.42, 3: 9.44, 5: 7.28},
    ("orange", "pooled_mse"): {0: 27.57, 1: 27.29, 2: 28.29, 3: 28.14, 5: 23.39},
    ("sleepstudy", "lme4_mse"): {0: 49.6, 1: 40.0, 2: 36.8, 3: 31.7, 5: 32.9},
}


def test_shapes():
    assert repr(load_theophylline()).startswith("TaskSet(12 tasks, 132 rows (11 a task)")
    assert repr(load_theophylline(exclude_time_zero=True)).startswith("TaskSet(12 tasks, 120 rows (10 a task)")
    assert repr(load_orange()).startswith("TaskSet(5 tasks, 35 rows (7 a task)")
    assert repr(load_sleepstudy()).startswith("TaskSet(18 tasks, 180 rows (10 a task)")


def test_columns_are_constant_within_a_patient():
    for patient in load_theophylline():
        assert np.ptp(patient.X[:, 1:], axis=0).tolist() == [0, 0]
        assert (np.diff(patient.X[:, 0]) > 0).all()


def test_published_moments():
    """The pooled least-squares line of the sleep study (lme4's fixed effects), and two numbers of the others."""
    tasks = load_sleepstudy()
    slope, intercept = np.polyfit(tasks.X[:, 0], tasks.y, 1)
    assert (intercept, slope) == (pytest.approx(251.405104848485), pytest.approx(10.467285959595))
    residual = tasks.y - intercept - slope * tasks.X[:, 0]
    assert np.sqrt(residual @ residual / 178) == pytest.approx(47.71, abs=0.01)
    assert load_theophylline().y.mean() == pytest.approx(4.96, abs=0.005)
    assert load_orange().y.mean() == pytest.approx(115.857, abs=0.001)


@pytest.mark.parametrize(("name", "column"), PRINTED)
def test_reference_errors_are_those_printed_with_them(name, column):
    reference = load_reference(name)
    means = np.sqrt(reference[reference["scheme"] == "random"].groupby("k")[column].mean())
    for k, value in PRINTED[name, column].items():
        assert means[k] == pytest.approx(value, abs=0.06 if value > 30 else 0.006)


@pytest.mark.parametrize("name", LOADERS)
def test_support_rows_are_rows_of_their_task(name):
    tasks = LOADERS[name]()
    for row in load_reference(name).itertuples():
        assert len(row.support) == row.k
        assert all(0 <= number < len(tasks.task(row.task)) for number in row.support)


def test_unknown_reference():
    with pytest.raises(ValueError, match="not for 'iris'"):
        load_reference("iris")


def test_every_table_has_a_card():
    data = Path(__file__).parents[2] / "datasets/metaest_datasets/data"
    tables = [path for path in data.glob("*.csv") if not path.stem.endswith("_reference")]
    assert {path.stem for path in tables} == {"theophylline", "orange", "sleepstudy"}
    for path in tables:
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        for column in path.read_text(encoding="utf-8").splitlines()[0].split(","):
            assert f"`{column}`" in card
