"""Fixtures: small tasks and small budgets that keep the suite quick."""

import pytest
import torch

from metaest import MAMLRegressor
from problems import ragged_tasks

torch.set_num_threads(1)  # results are promised bit for bit on one thread

# scripts that time things, not tests
collect_ignore_glob = ["benchmarks/*"]


@pytest.fixture
def tasks():
    return ragged_tasks()


@pytest.fixture(scope="session")
def model():
    """A small fitted model; tests must leave it as it is."""
    return MAMLRegressor(hidden_layer_sizes=(8,), max_iter=40, random_state=0).fit(ragged_tasks())
