"""Fixtures of the server: a model of patients, and a client of a server that has it."""

import pytest

from http_client import Client
from metaest.server import create_app
from metaest_datasets import load_theophylline
from metaest_domains.physiology import OneCompartmentRegressor


@pytest.fixture(scope="session")
def compartment():
    """A model of eight patients; tests must leave it as it is."""
    patients = load_theophylline(exclude_time_zero=True)
    return OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:8])


@pytest.fixture(scope="module")
def clinic(compartment):
    with Client(create_app(compartment)) as client:
        yield client
