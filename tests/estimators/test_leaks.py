"""Fits leave nothing behind: no tensors, no memory."""

import gc
import sys

import pytest
import torch

from fits import FITS
from metaest import MAMLRegressor
from problems import ragged_tasks

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning"),
    pytest.mark.filterwarnings("ignore::metaest.OvershootWarning"),
]


def tensors():
    gc.collect()
    return sum(issubclass(type(own), torch.Tensor) for own in gc.get_objects())


@pytest.mark.parametrize(
    "kind",
    [
        "network", "compiled network", "module", "classifier", "policy", "equation",
        pytest.param("JMAK", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_no_tensor_outlives_its_fit(kind):
    make, tasks = FITS[kind]
    data = tasks(0)
    # what there was before is neither collected nor counted, which takes longer than the fits
    gc.freeze()
    try:
        make().fit(data)
        before = tensors()
        for _ in range(2):
            make().fit(data)
        assert tensors() == before
    finally:
        gc.unfreeze()


def test_a_module_of_the_user_keeps_no_hook():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    MAMLRegressor(module=layers, max_iter=2, random_state=0, compile=False).fit(ragged_tasks())
    for layer in layers.modules():
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks
        assert not layer._backward_hooks
    assert all(parameter.grad is None for parameter in layers.parameters())


def resident():
    """Return the resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", FITS)
def test_two_hundred_fits_take_no_more_memory_than_ten(kind):
    make, tasks = FITS[kind]
    data = tasks(0)
    for _ in range(10):
        make().fit(data)
    gc.collect()
    before = resident()
    for _ in range(190):
        make().fit(data)
    gc.collect()
    assert resident() - before < 5
