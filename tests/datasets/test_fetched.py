"""Data of others: how raw curves are reduced, and what the files hold, where a cache has them."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf

from metaest_datasets import (
    fetch_bainite,
    fetch_nh4cl_tga,
    fetch_omniglot_runs,
    fetch_omniglot_small,
    fetch_perovskite_labels,
    fetch_perovskite_table,
    fetch_polymer_crystallisation,
    fetch_steel_tempering,
    make_avrami_tasks,
    relative_crystallinity,
)
from metaest_datasets.cache import fetch_file

HOME = os.environ.get("METAEST_DATA_HOME", "")


def cached(folder):
    there = bool(HOME) and (Path(HOME) / folder).is_dir()
    return pytest.mark.skipif(not there, reason=f"METAEST_DATA_HOME holds no {folder}")


def heat_flow(t, transient=1.4, center=90.0, width=25.0):
    return transient * np.exp(-((t / 12) ** 2)) + np.exp(-(((t - center) / width) ** 2))


@pytest.mark.parametrize("transient", [0.0, 0.5, 1.4, 5.0])
@pytest.mark.parametrize("level", [0.0, 0.3, -2.0])
def test_crystallinity_is_the_area_of_the_peak_alone(transient, level):
    t = np.arange(600.0)
    found = relative_crystallinity(t, level + 2 * heat_flow(t, transient))
    assert found.baseline == pytest.approx(level, abs=1e-6)
    assert found.heat == pytest.approx(2 * 25 * np.sqrt(np.pi), rel=0.01)
    assert found.time[0] == 0
    assert found.crystallinity[0] == 0
    assert found.crystallinity[-1] == 1
    expected = 0.5 * (1 + erf((found.time + found.cut - 90) / 25))
    np.testing.assert_allclose(found.crystallinity, expected, atol=0.01)


def test_a_peak_on_the_shoulder_of_the_transient_is_found():
    t = np.arange(600.0)
    found = relative_crystallinity(t, heat_flow(t, 1.4, center=30.0, width=8.0))
    assert 15 < found.cut < 25


@pytest.mark.parametrize(
    ("time", "flow", "message"),
    [
        (np.arange(100.0), np.exp(-np.arange(100.0) / 10), "there is no peak after the transient"),
        (np.arange(100.0), heat_flow(np.arange(100.0)), "the peak is in the rows of the baseline"),
        (np.arange(600.0), heat_flow(np.arange(600.0), center=550.0), "is not over before them"),
        (np.arange(600.0), heat_flow(np.arange(600.0), center=300.0, width=180.0), "is not over before them"),
        (np.arange(600.0), -heat_flow(np.arange(600.0), 1.4, 300.0, 60.0), "exothermal upwards"),
        (
            np.arange(600.0),
            heat_flow(np.arange(600.0)) + 0.001 * np.arange(600.0),
            "exothermal upwards, and its baseline",
        ),
        (np.arange(0, 1200, 30.0), heat_flow(np.arange(0, 1200, 30.0)), "baseline=20 contains 1 rows"),
        (np.arange(3.0), np.arange(3.0), "the same number of values, at least 5"),
        (np.zeros(10), np.arange(10.0), "time must rise"),
        (np.arange(10.0), np.full(10, np.nan), "must be finite"),
    ],
)
def test_curves_without_crystallisation(time, flow, message):
    with pytest.raises(ValueError, match=message):
        relative_crystallinity(time, flow)


def test_two_peaks_both_count_and_are_told():
    t = np.arange(600.0)
    flow = 1.4 * np.exp(-t / 5) + 0.7 * np.exp(-(((t - 80) / 20) ** 2)) + np.exp(-(((t - 180) / 25) ** 2))
    with pytest.warns(UserWarning, match="peaks at 80, 180; everything after .* counts as crystallisation"):
        found = relative_crystallinity(t, flow)
    assert found.heat == pytest.approx((0.7 * 20 + 25) * np.sqrt(np.pi), rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_noise_does_not_make_a_finished_curve_unfinished(seed):
    t = np.arange(0, 900.0, 3.0)
    noise = 0.003 * np.random.default_rng(seed).standard_normal(len(t))
    found = relative_crystallinity(t, heat_flow(t) + noise, baseline=60.0)
    assert found.heat == pytest.approx(25 * np.sqrt(np.pi), rel=0.1)


def test_a_cut_that_noise_decides_is_told():
    t = np.arange(900.0)
    rng = np.random.default_rng(0)
    late = np.exp(-(((t - 400) / 40) ** 2)) + np.exp(-((t / 12) ** 2)) + 0.01 * rng.standard_normal(900)
    with pytest.warns(UserWarning, match="flat within its noise"):
        relative_crystallinity(t, late)


def test_avrami_tasks_have_the_constants_they_tell():
    tasks, constants = make_avrami_tasks(2000, 3, noise=0.0, correlation=0.5, random_state=0)
    logs = np.log(constants.to_numpy())
    np.testing.assert_allclose(logs.mean(axis=0), np.log([1.0, 2.0]), atol=0.03)
    np.testing.assert_allclose(logs.std(axis=0), [0.3, 0.2], rtol=0.05)
    assert np.corrcoef(logs.T)[0, 1] == pytest.approx(0.5, abs=0.05)
    k, n = constants.iloc[7]
    np.testing.assert_allclose(tasks[7].y, 1 - np.exp(-((k * tasks[7].X[:, 0]) ** n)))


@cached("polymer_dsc")
def test_polymer():
    tasks = fetch_polymer_crystallisation()
    assert len(tasks) == len(set(tasks.names.tolist())) == 45
    assert sorted(set(tasks.X[:, 2])) == [0.1, 0.5, 1.0, 3.0, 5.0]
    np.testing.assert_allclose(sorted(set(tasks.X[:, 1])), np.array([42, 43, 44, 45, 46, 46.5, 47, 47.5, 48]) + 273.15)
    assert (tasks.y > 0).all()
    assert (tasks.y < 1.01).all()
    for task in tasks:
        assert 0.02 < task.y[0] < 0.1
        assert (np.diff(task.X[:, 0]) == 1).all()
    whole = fetch_polymer_crystallisation(part=None)
    assert all(task.y[-1] == 1 and task.y[0] == 0 for task in whole)
    # hotter is slower: crystallisation at small undercooling
    half = {
        name: task.X[np.searchsorted(task.y, 0.5), 0] for name, task in zip(whole.names.tolist(), whole, strict=True)
    }
    assert half["48 C, 1 %"] > 2 * half["44 C, 1 %"]


@cached("steel_tempering")
def test_tempering():
    tasks = fetch_steel_tempering()
    assert len(tasks) == 37
    assert len(tasks.X) == 1466
    assert tasks.X.shape[1] == 13
    for task in tasks:
        assert (np.ptp(task.X[:, 2:], axis=0) == 0).all()
    assert tasks.X[:, 0].min() >= 10 / 3600 - 1e-9
    assert tasks.X[:, 1].min() > 370
    assert 0 < tasks.y.min() < tasks.y.max() < 70
    assert not any("," in name or name != name.strip() for name in tasks.names.tolist())


@cached("bainite_dilatometry")
def test_bainite():
    tasks = fetch_bainite()
    assert tasks.sizes.tolist() == [2401, 3589]
    assert tasks.y.max() == pytest.approx(0.6975, abs=1e-3)


@cached("nh4cl_tga")
def test_nh4cl():
    tasks = fetch_nh4cl_tga()
    assert tasks.names.tolist() == ["3 K/min", "5 K/min", "10 K/min"]
    for task in tasks:
        np.testing.assert_allclose(task.X[:, 1], task.X[:, 2] + task.X[:, 3] * task.X[:, 0])
        assert task.y[-1] == 1


def test_a_file_that_is_nowhere(monkeypatch, tmp_path):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setenv("METAEST_DATA_HOME", str(tmp_path))

    def refuse(self, name, **_):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch.Pooch, "fetch", refuse)
    with pytest.raises(OSError, match="is not in the cache .* set METAEST_DATA_HOME"):
        fetch_file("nh4cl_tga/NH4_parse_TGA.csv")


def test_a_file_that_was_changed(monkeypatch, tmp_path):
    pooch = pytest.importorskip("pooch")
    monkeypatch.setenv("METAEST_DATA_HOME", str(tmp_path))
    (tmp_path / "nh4cl_tga").mkdir()
    (tmp_path / "nh4cl_tga" / "NH4_parse_TGA.csv").write_text("temperature,rate_5\n")

    def wrong(url, path, *_args, **_kwargs):
        Path(path).write_text("other")

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda *_, **__: wrong)
    with pytest.raises(ValueError, match="hash"):
        fetch_file("nh4cl_tga/NH4_parse_TGA.csv")


@cached("omniglot")
def test_omniglot():
    one = fetch_omniglot_small(1)
    two = fetch_omniglot_small(2, size=20)
    assert [len(np.unique(task.y)) for task in one] == [24, 22, 24, 40, 26]
    assert sum(len(np.unique(task.y)) for task in two) == 156
    assert one.X.shape == (2720, 1, 28, 28)
    assert two.X.shape[2:] == (20, 20)
    assert (one.X.min(), one.X.max()) == (0.0, 1.0)
    assert 0.02 < one.X.mean() < 0.15  # ink is little
    turned = fetch_omniglot_small(1, rotations=True)
    assert len(np.unique(turned.y)) == 4 * 136
    first = turned[0]
    np.testing.assert_array_equal(first.X[480], np.rot90(first.X[0], axes=(1, 2)))
    assert first.y[480] == first.y[0] + "/90"


@cached("omniglot")
def test_one_shot_runs():
    runs = fetch_omniglot_runs()
    assert len(runs) == 20
    for run in runs:
        assert sorted(run.y[:20]) == sorted(run.y[20:]) == list(range(1, 21))
        assert run.support.tolist() == list(range(20))


@cached("perovskite_tau")
def test_perovskites():
    tasks = fetch_perovskite_labels()
    table = fetch_perovskite_table()
    counts = {task.name: (len(task), int((task.y == "perovskite").sum())) for task in tasks}
    assert counts == {"O": (369, 232), "Cl": (71, 18), "F": (66, 51), "I": (43, 7), "Br": (27, 5)}
    assert table.notna().all(axis=None)
    assert table["is_train"].sum() == 460
    assert round(100 * (table["t_predicts"] == table["perovskite"]).mean(), 1) == 73.8
    assert round(100 * (table["tau_predicts"] == table["perovskite"]).mean(), 1) == 91.7
