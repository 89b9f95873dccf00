"""Files of every version of the format that was ever written are read, with the answers they had."""

from pathlib import Path

import numpy as np

from equations import wave
from metaest import load
from savable import module

DATA = Path(__file__).parent / "data"
X = np.array([[-1.0], [0.5], [2.0]])
EQUATION = [0.9104634472230523, 0.919831306996683, -0.7803308618964702]
PATIENT = [1.754763851186705, 2.264307877151995, -1.4344222452989677]
NETWORK = [1.1178513078476646, 0.14152246978269656, -1.3031765970509743]
ADAPTED = [1.5856937105498599, 0.9042310521611955, -0.21167612622240523]
MODULE = [0.5569510615771814, 0.2730241854688854, -0.012397772893509879]
MODULE_PATIENT = [0.3875849335606598, 0.2695384530906705, 0.09794222899273428]
HIGH = [0.7397827665823546, 0.8421252384276084]
ACTION = [0.45405022957651636]
CONCENTRATION = [6.4540635831557855, 4.572177746213858]


def test_an_equation_of_format_1():
    model = load(DATA / "equation_1.json", equation=wave)
    np.testing.assert_allclose(model.predict(X), EQUATION, rtol=1e-6)
    np.testing.assert_allclose(load(DATA / "equation_patient_1.json", model=model).predict(X), PATIENT, rtol=1e-6)
    assert model.parameters["amplitude"].unit == "V"


def test_a_network_of_format_1():
    model = load(DATA / "network_1.safetensors")
    np.testing.assert_allclose(model.predict(X), NETWORK, rtol=1e-4)
    np.testing.assert_allclose(load(DATA / "network_patient_1.bin", model=model).predict(X), ADAPTED, rtol=1e-4)


def test_a_module_of_format_1():
    model = load(DATA / "module_1.safetensors", module=module)
    np.testing.assert_allclose(model.predict(X), MODULE, rtol=1e-4)
    np.testing.assert_allclose(load(DATA / "module_patient_1.bin", model=model).predict(X), MODULE_PATIENT, rtol=1e-4)


def test_a_classifier_of_format_1():
    model = load(DATA / "classifier_1.safetensors")
    assert model.classes_.tolist() == ["high", "low"]
    np.testing.assert_allclose(model.predict_proba([[-1.0, 0.5], [1.0, 2.0]])[:, 0], HIGH, rtol=1e-4)


def test_a_policy_of_format_1():
    np.testing.assert_allclose(load(DATA / "policy_1.safetensors").predict([[1.0, 1.0]]), ACTION, rtol=1e-4)


def test_an_equation_of_a_domain_of_format_1():
    model = load(DATA / "compartments_1.json")
    np.testing.assert_allclose(model.predict([[1.0, 4.0, 70.0], [8.0, 4.0, 70.0]]), CONCENTRATION, rtol=1e-4)
