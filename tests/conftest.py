"""Fixtures: small tasks and small budgets that keep the suite quick."""

import os

import pytest
import torch

import machine_code
from metaest import MAMLRegressor
from metaest.jit.llvm import compile as llvm
from problems import ragged_tasks

# results are promised bit for bit on one thread; TEST_THREADS=2 tries the tolerances of everything else
torch.set_num_threads(int(os.environ.get("TEST_THREADS", "1")))

# machine code that is soon there, in all tests but those that ask for `optimised`
llvm.OPTIMISATION = machine_code.LITTLE

# scripts that time things, and code that tests load themselves
collect_ignore_glob = ["benchmarks/*", "skeletons/*"]


@pytest.fixture
def optimised():
    """The machine code that users run."""
    with machine_code.optimised():
        yield


@pytest.fixture
def tasks():
    return ragged_tasks()


@pytest.fixture(scope="session")
def model():
    """A small fitted model; tests must leave it as it is."""
    return MAMLRegressor(hidden_layer_sizes=(8,), max_iter=40, random_state=0).fit(ragged_tasks())
