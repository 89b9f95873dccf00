"""A model that is saved and loaded is the same model, and so is a predictor."""

import numpy as np
import pytest
import torch

from equations import wave
from metaest import EquationRegressor, MAMLRegressor, Parameter, load, model_hash, save
from metaest.exceptions import ModelFileError
from metaest_datasets import make_sinusoids


@pytest.fixture(scope="module")
def waves():
    return make_sinusoids(30, noise=0.1, random_state=0)


@pytest.fixture(scope="module")
def network(waves):
    model = MAMLRegressor(max_iter=20, random_state=0, hidden_layer_sizes=(8,)).fit(waves[:20])
    return model.calibrate(waves[20:29], support_size=4)


@pytest.fixture(scope="module")
def equation(waves):
    model = EquationRegressor(wave, {"amplitude": Parameter(2.0, lower=0, unit="V"), "phase": 1.5}).fit(waves[:20])
    return model.calibrate(waves[20:29], support_size=4)


@pytest.mark.parametrize(("name", "passed"), [("network", {}), ("equation", {"equation": wave})])
def test_a_model_and_its_patient_come_back_as_they_were(name, passed, request, waves, tmp_path):
    model, X, y = request.getfixturevalue(name), waves[29].X, waves[29].y
    patient = model.adapt(X[:4], y[:4], guard=False)
    save(model, tmp_path / "model")
    save(patient, tmp_path / "patient")
    again = load(tmp_path / "model", **passed)
    same = load(tmp_path / "patient", model=again)
    assert model_hash(model) == model_hash(again) == model_hash(patient) == model_hash(same)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(same.predict(X), patient.predict(X))
    np.testing.assert_array_equal(again.adapt(X[:4], y[:4], guard=False).predict(X), patient.predict(X))
    np.testing.assert_array_equal(
        same.partial_adapt(X[4:6], y[4:6]).predict(X), patient.partial_adapt(X[4:6], y[4:6]).predict(X)
    )
    for one, other in ((model, again), (patient, same)):
        if one is model:
            continue
        for left, right in zip(
            one.predict_interval(X, 0.8, method="conformal"),
            other.predict_interval(X, 0.8, method="conformal"),
            strict=True,
        ):
            np.testing.assert_array_equal(left, right)


def test_an_equation_has_to_be_passed_and_to_be_the_same(equation, tmp_path):
    save(equation, tmp_path / "model")

    def other(X, amplitude, phase):
        return amplitude * torch.cos(X[:, 0] + phase)

    with pytest.raises(ModelFileError, match=r"made with 'wave', whose code is in no file; pass it: load\(path, equat"):
        load(tmp_path / "model")
    with pytest.raises(ModelFileError, match="but 'test_an.*other' was passed"):
        load(tmp_path / "model", equation=other)
    other.__qualname__ = "wave"
    with pytest.raises(ModelFileError, match="its source has changed"):
        load(tmp_path / "model", equation=other)
    assert load(tmp_path / "model", equation=other, check_source=False).equation is other


def test_a_patient_of_another_model_is_refused(network, equation, waves, tmp_path):
    save(network.adapt(waves[29].X[:4], waves[29].y[:4]), tmp_path / "patient")
    with pytest.raises(ModelFileError, match="adapted from a model with the hash"):
        load(tmp_path / "patient")
    with pytest.raises(ModelFileError, match=r"pass load\("):
        load(tmp_path / "patient", model=str(tmp_path / "model"))
    with pytest.raises(ModelFileError, match="model= has"):
        load(tmp_path / "patient", model=equation)
