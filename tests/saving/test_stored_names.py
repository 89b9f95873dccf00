"""Files keep the names under which classes, attributes and settings were first written."""

import json

import numpy as np
import pytest

from metaest import EquationRegressor, load, model_hash, save
from metaest.saving import stored_names
from savable import WAVES, wave


@pytest.fixture(scope="module")
def model():
    return EquationRegressor(wave, {"amplitude": 2.0, "phase": 1.5}, random_state=0).fit(list(WAVES))


def test_a_renamed_attribute_keeps_its_name_in_files(model, tmp_path, monkeypatch):
    expected, X = model_hash(model), WAVES[0].X
    monkeypatch.setitem(stored_names.ATTRIBUTES, "EquationRegressor", {"history_": "course_"})
    save(model, tmp_path / "model.json")
    fields = json.loads((tmp_path / "model.json").read_text())["object"]["fields"]
    assert "course_" in fields
    assert "history_" not in fields
    loaded = load(tmp_path / "model.json", equation=wave)
    assert loaded.history_.equals(model.history_)
    assert model_hash(loaded) == expected
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_a_setting_that_older_files_lack_takes_what_they_mean(monkeypatch):
    monkeypatch.setitem(stored_names.ADDED, "EquationRegressor", {"max_iter": 7, "noise": "additive", "later_": None})
    settings = stored_names.settings_as_today(EquationRegressor, {"max_iter": 1})
    assert settings == {"max_iter": 1, "noise": "additive"}


def test_an_attribute_that_is_as_older_files_mean_it_is_not_written(monkeypatch):
    monkeypatch.setitem(stored_names.ADDED, "EquationRegressor", {"later_": None})
    assert stored_names.as_stored(EquationRegressor, {"later_": None, "n_": 1}) == {"n_": 1}
    assert stored_names.as_stored(EquationRegressor, {"later_": 2}) == {"later_": 2}
