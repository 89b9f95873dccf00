"""Programs of single rows: the curve, the noise, and their derivatives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metaest.functional import Equation, HierarchicalModel, Noise, RowFunction
from metaest.functional.equations.transforms import Transforms
from metaest.jit import CompiledRows, RowData, UnsupportedError

pytest.importorskip("llvmlite")

FREE = Transforms([0.0, -np.inf, 0.5], [np.inf, np.inf, 2.0])


def wave(X, size, shift, power):
    return size * torch.sin(X[:, 0] + shift) + X[:, 1] ** power


def above_zero(X, size, shift, power):
    return torch.exp(wave(X, size, shift, power))


def model_of(noise, equation=wave):
    return HierarchicalModel(Equation(equation, ("size", "shift", "power"), "rows"), FREE, noise)


def data_of(n, weighted=False):
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, (1, n)) if weighted else None
    return RowData(rng.uniform(0.1, 2, (3, n)), rng.standard_normal((1, n)), weight)


def programs_of(model, weighted=False):
    return CompiledRows(model, torch.zeros(3).double(), torch.full((3,), 0.5).double(), weighted=weighted)


def by_torch(model, phi, noise, data):
    """Return what `second` returns, by torch's own derivatives."""
    leaf, log_sigma = torch.from_numpy(phi).requires_grad_(), torch.from_numpy(noise[:-1]).requires_grad_()
    X, y = torch.from_numpy(data.X.T.copy()), torch.from_numpy(data.y[0])
    weight = None if data.weight is None else torch.from_numpy(data.weight[0])
    curve = model.equation(list(model.transforms.constrain(leaf)), X)
    (slopes,) = torch.autograd.grad(curve.sum(), leaf, create_graph=True)
    bends = [torch.autograd.grad(slopes[k].sum(), leaf, retain_graph=True)[0][: k + 1] for k in range(len(phi))]
    height = curve.detach().requires_grad_()
    rows_of_noise = model.noise.accuracy(type("Rows", (), {"weight": weight, "X": X, "y": y}))
    parts = model.noise.terms(height, y, log_sigma, rows_of_noise)
    parts = [part.expand_as(height) for part in parts]
    in_curve, in_noise = [], []
    for part in parts:
        if part.requires_grad:
            both = torch.autograd.grad(part.sum(), [height, log_sigma], retain_graph=True, materialize_grads=True)
            in_curve.append(both[0])
        else:
            in_curve.append(torch.zeros_like(height))
        of_row = [
            torch.autograd.grad(value, log_sigma, retain_graph=True, materialize_grads=True)[0]
            if part.requires_grad
            else torch.zeros_like(log_sigma)
            for value in part
        ]
        in_noise.append(torch.stack(of_row, dim=1))
    of_noise = [in_noise[i][k] for k in range(len(log_sigma)) for i in range(3)]
    return (
        torch.stack([*parts, curve, *slopes, in_curve[1], in_curve[2], *of_noise, *torch.cat(bends)]).detach().numpy()
    )


NOISES = {
    "additive": Noise("additive"),
    "proportional": Noise("proportional", 0.2),
    "combined": Noise("combined"),
    "measured": Noise("combined", column=2),
    "power": Noise("power", 0.2),
    "combined1": Noise("combined1"),
    "lognormal": Noise("lognormal"),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NOISES)
def test_derivatives_of_a_row_are_those_of_torch(name, weighted):
    model, data = model_of(NOISES[name]), data_of(21, weighted)
    if model.noise.logarithmic:
        model, data = model_of(NOISES[name], above_zero), replace(data, y=np.exp(data.y))
    programs = programs_of(model, weighted=weighted)
    phi = np.random.default_rng(1).standard_normal((3, 21))
    noise = np.append(np.linspace(-0.4, 0.3, model.noise.n_constants), model.noise.delta)
    second, expected = programs.second(phi, noise, data), by_torch(model, phi, noise, data)
    np.testing.assert_allclose(second, expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(programs.first(phi, noise, data), expected[:7], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(programs.values(phi, data), expected[3], rtol=1e-11, atol=1e-11)


def test_the_smallest_curve_is_a_number_of_the_call():
    data, phi = data_of(9), np.zeros((3, 9))
    programs = programs_of(model_of(Noise("proportional", 0.2)))
    for delta in (0.2, 1.5):
        expected = by_torch(model_of(Noise("proportional", delta)), phi, np.array([-0.3, delta]), data)
        np.testing.assert_allclose(
            programs.second(phi, np.array([-0.3, delta]), data), expected, rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("n", [1, 3, 17])
def test_any_number_of_rows_gives_each_row_the_same(n, monkeypatch):
    programs, data = programs_of(model_of(Noise()), weighted=True), data_of(17, weighted=True)
    phi, noise = np.random.default_rng(2).standard_normal((3, 17)), np.array([-0.1, 0.0])
    whole = programs.second(phi, noise, data)
    np.testing.assert_array_equal(programs.second(phi[:, :n], noise, data.cut(0, n)), whole[:, :n])
    monkeypatch.setitem(programs._at_once, "second", 8)
    np.testing.assert_array_equal(programs.second(phi, noise, data), whole)


def test_an_equation_whose_rows_see_each_other_is_refused():
    model = HierarchicalModel(Equation(wave, ("size", "shift", "power"), "vmap"), FREE, Noise())
    with pytest.raises(UnsupportedError, match="see each other"):
        programs_of(model)


class ByNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, k):
        return torch.from_numpy(np.exp(k.detach().numpy()))

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_an_equation_that_leaves_torch_is_refused():
    def curve(X, size, shift, power):
        return ByNumpy.apply(size) * X[:, 0]

    with pytest.raises(UnsupportedError, match="not done by torch"):
        programs_of(model_of(Noise(), curve))


class Power(RowFunction):
    """base^number, by numpy."""

    def derivatives(self, number, given, orders):
        base = given[0].numpy()
        return [torch.from_numpy(base ** number.numpy() * np.log(base) ** order) for order in orders]


def powers(X, size, shift, power):
    return size * Power()(shift * power, X[:, 0]) + torch.sin(Power()(size - X[:, 2], X[:, 1] + 1))


def same_powers(X, size, shift, power):
    return size * X[:, 0] ** (shift * power) + torch.sin((X[:, 1] + 1) ** (size - X[:, 2]))


def test_row_functions_are_asked_before_the_program():
    data, phi = data_of(21), np.random.default_rng(1).standard_normal((3, 21))
    noise = np.array([-0.4, 0.0])
    programs, plain = programs_of(model_of(Noise(), powers)), model_of(Noise(), same_powers)
    expected = by_torch(plain, phi, noise, data)
    for _ in range(2):  # the second time with the columns that were kept
        np.testing.assert_allclose(programs.second(phi, noise, data), expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(programs.first(phi, noise, data), expected[:7], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(programs.values(phi, data), expected[3], rtol=1e-11, atol=1e-11)
    one = programs.second(phi[:, :1], noise, data.cut(0, 1))
    np.testing.assert_array_equal(one, programs.second(phi, noise, data)[:, :1])


def test_columns_of_a_row_function_that_depend_on_constants_are_worked_out_anew():
    def curve(X, size, shift, power):
        return Power()(X[:, 0], torch.exp(size.detach()) + X[:, 1])

    programs, data = programs_of(model_of(Noise(), curve)), data_of(5)
    for size in (0.1, 0.7):
        phi = np.full((3, 5), size)
        expected = (np.exp(np.exp(size)) + data.X[1]) ** data.X[0]
        np.testing.assert_allclose(programs.values(phi, data), expected, rtol=1e-12)


def test_a_row_function_of_what_another_answers_is_refused():
    def curve(X, size, shift, power):
        return Power()(Power()(size, X[:, 0]), X[:, 1])

    with pytest.raises(UnsupportedError, match="depends on the answer of another"):
        programs_of(model_of(Noise(), curve))


def test_programs_are_not_given_the_row_functions_of_another_equation():
    programs = programs_of(model_of(Noise(), powers))
    assert programs.with_answers(programs_of(model_of(Noise())).answers) is None
    assert programs.without_answers().with_answers(programs.answers).answers is programs.answers
