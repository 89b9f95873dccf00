"""Files of every version of the format that was ever written are read, with the answers they had."""

from pathlib import Path

import numpy as np
import torch

from metaest import load

DATA = Path(__file__).parent / "data"
X = np.array([[-1.0], [0.5], [2.0]])
EQUATION = [0.9104634472230523, 0.919831306996683, -0.7803308618964702]
PATIENT = [1.754763851186705, 2.264307877151995, -1.4344222452989677]
NETWORK = [1.1178513078476646, 0.14152246978269656, -1.3031765970509743]
ADAPTED = [1.5856937105498599, 0.9042310521611955, -0.21167612622240523]


def wave(X, amplitude, phase):
    return amplitude * torch.sin(X[:, 0] + phase)


def test_an_equation_of_format_1():
    model = load(DATA / "equation_1.json", equation=wave)
    np.testing.assert_allclose(model.predict(X), EQUATION, rtol=1e-6)
    np.testing.assert_allclose(load(DATA / "equation_patient_1.json", model=model).predict(X), PATIENT, rtol=1e-6)
    assert model.parameters["amplitude"].unit == "V"


def test_a_network_of_format_1():
    model = load(DATA / "network_1.safetensors")
    np.testing.assert_allclose(model.predict(X), NETWORK, rtol=1e-4)
    np.testing.assert_allclose(load(DATA / "network_patient_1.bin", model=model).predict(X), ADAPTED, rtol=1e-4)
