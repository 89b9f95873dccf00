"""The skeletons that the pages for contributors point at run, and their gradients are those of finite differences."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes import episodes, meta_gradient, numeric_gradient, relative_error, start
from metaest.functional import MLP, GradientDescent, ModuleForward, RowLoss, mapped, squared_error, task_losses

PAGES = Path(__file__).parents[1] / "docs" / "contributing"
KINDS = ["inner_solver", "meta_gradient", "loss", "equation", "domain"]


def skeleton(name):
    path = Path(__file__).parent / "skeletons" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"skeleton_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def forward():
    torch.manual_seed(1)
    return ModuleForward(MLP(2, 1, [6], "tanh").double(), 1)


def assert_exact(forward, loss, solver, kind="exact"):
    data, params = episodes(), start(forward)

    def meta_loss():
        return task_losses(mapped(forward), loss, solver, params, data, kind).mean()

    gradients = torch.autograd.grad(meta_loss(), list(params.values()))
    assert relative_error(dict(zip(params, gradients, strict=True)), numeric_gradient(meta_loss, params)) < 1e-6


def test_inner_solver(forward):
    solver = skeleton("inner_solver").ClippedDescent()
    assert_exact(forward, squared_error, solver)
    assert solver.backed_off(2).rates() == solver.rates() / 2


def test_meta_gradient(forward):
    kind, solver = skeleton("meta_gradient").NearTheStart, GradientDescent(3, 0.05)
    assert_exact(forward, squared_error, solver, kind(0.5))
    data, params = episodes(), start(forward)
    exact = meta_gradient(mapped(forward), params, data, solver)
    assert relative_error(meta_gradient(mapped(forward), params, data, solver, kind(0.0)), exact) < 1e-12


def test_loss(forward):
    log_cosh = skeleton("loss").log_cosh
    assert_exact(forward, RowLoss(log_cosh), GradientDescent(3, 0.05))
    error = torch.tensor([[1e-3], [50.0]], dtype=torch.float64)
    expected = [0.5e-6, 50 - np.log(2)]
    np.testing.assert_allclose(log_cosh(error, torch.zeros_like(error)).numpy(), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_equation():
    rng, tasks = np.random.default_rng(0), []
    for rate in 0.1 * np.exp(0.2 * rng.standard_normal(12)):
        X = np.column_stack([rng.uniform(0, 30, 8), np.full(8, 90.0)])
        tasks.append((X, 21 + 69 * np.exp(-rate * X[:, 0]) + 0.2 * rng.standard_normal(8)))
    model = skeleton("equation").model().fit(tasks)
    np.testing.assert_allclose(model.population_["value"], [0.1, 21], rtol=0.1)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_domain():
    rng, t = np.random.default_rng(0), np.array([1.0, 4.0, 9.0])
    tasks = [(t[:, None], k * np.sqrt(t) + 0.01 * rng.standard_normal(3)) for k in np.exp(0.1 * rng.standard_normal(9))]
    model = skeleton("domain").ParabolicRegressor().fit(tasks)
    assert model.population_.loc["k", "value"] == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_skeleton_is_short_and_stands_on_its_page(kind):
    file = PAGES.parents[1] / "tests" / "skeletons" / f"{kind}.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) < 40
    page = (PAGES / f"new-{kind.replace('_', '-')}.md").read_text(encoding="utf-8")
    assert f"tests/skeletons/{kind}.py" in page
