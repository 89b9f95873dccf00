"""Losses of a regression: what minimises them, their slopes, and meta-gradients through them."""

import pickle

import pytest
import torch

from episodes import episodes, numeric_gradient, relative_error, start
from metaest.functional import (
    MLP,
    REGRESSION_LOSSES,
    GradientDescent,
    Huber,
    ModuleForward,
    Poisson,
    Quantile,
    RowLoss,
    Scaling,
    SquaredError,
    as_regression_loss,
    looped,
    mapped,
    squared_error,
    task_losses,
)


def log_cosh(prediction, target):
    return torch.log(torch.cosh(prediction - target)).mean(dim=-1)


LOSSES = {
    "squared error": SquaredError(),
    "huber": Huber(0.7),
    "poisson": Poisson(),
    "quantile": Quantile(0.8),
    "function": RowLoss(log_cosh),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def counts(generator, *shape):
    return torch.poisson(torch.full(shape, 3.0, dtype=torch.float64), generator)


def data_for(loss, n_targets=1):
    """Ragged episodes; with counts where the loss wants them."""
    data = episodes(n_targets)
    if loss.lowest_target < 0:
        return data
    generator = torch.Generator().manual_seed(0)
    return type(data)(*(rows._replace(y=counts(generator, *rows.y.shape)) for rows in data))


def test_a_task_s_loss_is_the_mean_of_its_rows_and_ignores_padding(loss):
    rows = data_for(loss, 2).support
    prediction = rows.y + 0.3
    per_row = loss.per_row(prediction, rows.y)
    assert per_row.shape == rows.mask.shape
    for task, n in enumerate(rows.mask.sum(dim=1).long().tolist()):
        mean = per_row[task, :n].mean() if n else torch.zeros((), dtype=torch.float64)
        torch.testing.assert_close(loss(prediction, rows.y, rows.mask)[task], mean)
    elsewhere = torch.where(rows.mask[..., None] > 0, prediction, 50.0)
    assert torch.equal(loss(elsewhere, rows.y, rows.mask), loss(prediction, rows.y, rows.mask))


@pytest.mark.parametrize("batch", [mapped, looped])
@pytest.mark.parametrize("kind", ["exact", "first-order"])
def test_meta_gradients_through_every_loss_equal_finite_differences(loss, kind, batch):
    torch.manual_seed(1)
    forward = ModuleForward(MLP(2, 1, [5], "tanh").double(), 1)
    data, params, solver = data_for(loss), start(forward), GradientDescent(2, 0.05)
    meta_loss = task_losses(batch(forward), loss, solver, params, data, kind).mean()
    analytic = dict(zip(params, torch.autograd.grad(meta_loss, list(params.values())), strict=True))
    if kind == "exact":
        numeric = numeric_gradient(lambda: task_losses(batch(forward), loss, solver, params, data).mean(), params)
    else:  # the adapted parameters move with the shared ones
        shared = {name: value.detach().expand(4, *value.shape) for name, value in params.items()}
        adapted = solver.solve(batch(forward), loss, shared, data.support)
        moves = {name: adapted[name].detach() - value for name, value in shared.items()}

        def shifted():
            there = {name: value + moves[name] for name, value in params.items()}
            return loss(batch(forward)(there, data.query), data.query.y, data.query.mask).mean()

        numeric = numeric_gradient(shifted, params)
    assert relative_error(analytic, numeric) < 1e-6


def minimiser(loss, targets):
    """Return the constant output that minimises the mean loss of some targets."""
    outputs = torch.linspace(-4, 6, 100_001, dtype=torch.float64)
    target = targets[None, :, None].expand(len(outputs), -1, 1)
    prediction = outputs[:, None, None].expand_as(target)
    return outputs[loss(prediction, target, torch.ones_like(target[..., 0])).argmin()]


def test_each_loss_is_minimised_by_what_it_estimates():
    targets = torch.tensor([0.0, 1.0, 1.0, 2.0, 2.5, 3.0, 4.0], dtype=torch.float64)
    mean, median = targets.mean(), targets.median()
    assert abs(minimiser(SquaredError(), targets) - mean) < 1e-4
    assert abs(minimiser(Huber(100.0), targets) - mean) < 1e-4
    assert abs(minimiser(Huber(1e-3), targets) - median) < 1e-2
    assert abs(minimiser(Quantile(), targets) - median) < 1e-4
    assert abs(minimiser(Quantile(0.95), targets) - targets.max()) < 1e-4
    poisson = Poisson()
    assert abs(poisson.inverse_link(minimiser(poisson, targets)) - mean) < 1e-3


def test_an_outlier_pulls_huber_s_estimate_no_further_than_its_threshold_allows():
    near = torch.zeros(9, dtype=torch.float64)
    for far in (5.0, 500.0):
        estimate = minimiser(Huber(0.9), torch.cat([near, near.new_tensor([far])]))
        assert abs(estimate - 0.1) < 1e-4  # 9 rows pull with 2 x, one with 2 * 0.9


def test_the_squared_error_keeps_its_bits_and_huber_has_them_below_its_threshold():
    rows = episodes(3).support
    prediction = torch.randn(rows.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain = squared_error(prediction, rows.y, rows.mask)
    assert torch.equal(SquaredError()(prediction, rows.y, rows.mask), plain)
    assert torch.equal(Huber(1e3)(prediction, rows.y, rows.mask), plain)


def test_huber_is_smooth_at_its_threshold():
    threshold, step = 0.7, 1e-7
    at, beside = (torch.tensor([[[threshold + shift]]], dtype=torch.float64) for shift in (-step, step))
    for size in (at, beside):
        size.requires_grad_()
    zero = torch.zeros_like(at)
    slopes = [torch.autograd.grad(Huber(threshold).per_row(size, zero).sum(), size)[0] for size in (at, beside)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-6, atol=0)


def test_targets_of_counts_are_scaled_and_not_centred():
    counted = torch.tensor([[0.0], [2.0], [10.0]])
    scaling = Scaling.learn(counted, centred=Poisson().centred)
    torch.testing.assert_close(scaling.apply(counted).mean(), torch.tensor(1.0))
    assert float(scaling.apply(counted).min()) == 0
    assert torch.equal(scaling.undo(Poisson().inverse_link(torch.zeros(1, 1))), counted.mean().reshape(1, 1))
    unscaled = Scaling.learn(torch.zeros(3, 1), centred=False)
    assert float(unscaled.scale) == 1


def test_names_objects_and_functions_are_accepted_and_anything_else_is_told():
    for name, loss in REGRESSION_LOSSES.items():
        assert as_regression_loss(name) == loss
        assert loss.name == name
        assert pickle.loads(pickle.dumps(loss)) == loss
    assert as_regression_loss(Huber(3)) == Huber(3)
    assert as_regression_loss(log_cosh).name == "log_cosh"
    with pytest.raises(ValueError, match=r"'squared_error', 'huber', 'poisson', 'quantile', a RegressionLoss .* 'mse'"):
        as_regression_loss("mse")
    for wrong, got in ((3, "int"), (Huber, "the class Huber")):
        with pytest.raises(TypeError, match=f"'huber'.*got {got}"):
            as_regression_loss(wrong)
    for threshold in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="threshold must be finite and above 0"):
            Huber(threshold)
    for q in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="q must lie between 0 and 1"):
            Quantile(q)


def test_a_function_that_returns_no_loss_for_each_row_is_told():
    rows = episodes(2).support
    wrong = {
        "one number": lambda prediction, target: (prediction - target).square().mean(),
        "each target": lambda prediction, target: (prediction - target).square(),
    }
    for function in wrong.values():
        with pytest.raises(ValueError, match=r"for 20 rows of 2 targets; one loss for each row, of shape \(20,\)"):
            RowLoss(function)(rows.y, rows.y, rows.mask)
    with pytest.raises(TypeError, match="returned ndarray; a tensor of torch is wanted"):
        RowLoss(lambda prediction, target: prediction.numpy())(rows.y, rows.y, rows.mask)
