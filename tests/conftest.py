"""Fixtures: small tasks and small budgets that keep the suite quick."""

import os

import pytest
import torch

from metaest import MAMLRegressor
from problems import ragged_tasks

# results are promised bit for bit on one thread; TEST_THREADS=2 tries the tolerances of everything else
torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))

# scripts that time things, and code that tests load themselves
collect_ignore_glob = ["benchmarks/*", "skeletons/*"]


@pytest.fixture
def tasks():
    return ragged_tasks()


@pytest.fixture(scope="session")
def model():
    """A small fitted model; tests must leave it as it is."""
    return MAMLRegressor(hidden_layer_sizes=(8,), max_iter=40, random_state=0).fit(ragged_tasks())
