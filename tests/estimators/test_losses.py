"""Losses of a regression: laws of each, their meta-gradients, and predictions in the user's units."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from episodes import numeric_gradient, relative_error
from metaest import MAMLRegressor, TaskError, load, save
from metaest.estimators.networks.settings import Settings
from metaest.estimators.networks.training import meta_train
from metaest.functional import Huber, Quantile, QueryLoss, RegressionLoss, mapped

SMALL = {"hidden_layer_sizes": (4, 3), "inner_steps": 2, "dtype": "float64", "random_state": 0, "compile": False}
NAMED = [{"loss": "huber", "huber_threshold": 0.7}, {"loss": "poisson"}, {"loss": "quantile", "quantile": 0.8}]


def log_cosh(prediction, target):
    return torch.log(torch.cosh(prediction - target)).mean(dim=-1)


def half_absolute_error(prediction, target):
    return (prediction - target).abs().mean(dim=-1) / 2


class Intercept(nn.Module):
    """One number for every row."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(1))

    def forward(self, X):
        return self.value.expand(len(X), 1)


def count_tasks(n_tasks=8, n_rows=12, seed=0):
    """Counts whose mean falls or rises with x, from task to task."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n_tasks, n_rows, 1))
    rate = np.exp(1 + rng.standard_normal((n_tasks, 1)) * X[..., 0])
    return list(zip(X, rng.poisson(rate).astype(float), strict=True))


def fit(tasks, **settings):
    return MAMLRegressor(**{**SMALL, "max_iter": 20, **settings}).fit(tasks)


def same_weights(one, other, tolerance):
    return all(torch.allclose(value, other._params[name], rtol=tolerance) for name, value in one._params.items())


def test_a_far_huber_threshold_is_the_squared_error():
    tasks = count_tasks()
    assert same_weights(fit(tasks), fit(tasks, loss=Huber(1e6)), 1e-9)
    assert not same_weights(fit(tasks), fit(tasks, loss="huber", huber_threshold=0.1), 1e-9)


def test_the_median_minimises_half_the_absolute_error():
    tasks = count_tasks()
    median = fit(tasks, loss="quantile")
    assert same_weights(median, fit(tasks, loss=half_absolute_error), 1e-9)
    assert same_weights(median, fit(tasks, loss=Quantile(0.5)), 0.0)


@pytest.mark.parametrize("settings", [{"loss": "poisson"}, {"loss": "quantile", "quantile": 0.9}])
def test_an_intercept_alone_recovers_the_mean_or_the_quantile(settings):
    tasks = count_tasks(20, 50)
    y = np.concatenate([y for _, y in tasks])
    alone = {
        "module": lambda *_: Intercept(),
        "inner_steps": 0,
        "alpha": 0.0,
        "meta_lr": 0.05,
        "max_iter": 300,
        "support_size": 0,
    }
    model = fit(tasks, **alone, **settings)
    predicted = model.predict([[0.0]])[0]
    if settings["loss"] == "poisson":
        np.testing.assert_allclose(predicted, y.mean(), rtol=1e-3)
    else:
        assert np.mean(y < predicted + 0.1) >= 0.88
        assert np.mean(y < predicted - 1.1) <= 0.92


@pytest.mark.parametrize("settings", [*NAMED, {"loss": log_cosh}])
def test_units_of_targets_change_nothing(settings):
    tasks = count_tasks()
    X, y = tasks[0]
    one, other = fit(tasks, **settings), fit([(X, 1024 * y) for X, y in tasks], **settings)
    adapted, scaled = one.adapt(X[:4], y[:4]), other.adapt(X[:4], 1024 * y[:4])
    np.testing.assert_allclose(scaled.predict(X), 1024 * adapted.predict(X), rtol=1e-9)
    np.testing.assert_allclose(other.predict(X), 1024 * one.predict(X), rtol=1e-9)


@pytest.mark.parametrize("settings", [*NAMED, {"loss": log_cosh}])
def test_meta_gradients_equal_finite_differences(settings):
    tasks = count_tasks(4)
    model = MAMLRegressor(**SMALL, max_iter=2, **settings)
    read, kind = Settings.read(model._values()), model.kind
    network, params, *_ = meta_train(kind, read, kind.read(tasks, None, None), seed=0)
    adaptation = kind.adaptation(read.inner, read.meta, network)
    sampler = kind.sampler(network, kind.read(tasks, None, None), adaptation, np.random.default_rng(0), training=True)
    episodes = sampler.episodes(np.arange(4))
    meta = {name: value.detach().clone().requires_grad_() for name, value in params.items()}

    def loss():
        return adaptation.losses(mapped(network.forward), network.loss, meta, episodes, (QueryLoss(), None)).mean()

    values = torch.autograd.grad(loss(), list(meta.values()), materialize_grads=True)
    numeric = numeric_gradient(loss, meta, h=1e-6)
    assert relative_error(dict(zip(meta, values, strict=True)), numeric) < 1e-6


@pytest.mark.parametrize("settings", NAMED)
def test_compiled_steps_are_those_of_torch(settings):
    tasks = count_tasks()
    eager, compiled = (fit(tasks, **{**settings, "compile": way, "max_iter": 5}) for way in (False, True))
    assert compiled.compiled_, compiled.compiled_reason_
    for name, value in eager._params.items():
        torch.testing.assert_close(compiled._params[name], value, rtol=1e-7, atol=1e-9)


def test_predictions_of_counts_are_positive_everywhere(tmp_path):
    tasks = count_tasks(12, 14)
    model = fit(tasks[:8], loss="poisson").calibrate(tasks[8:], support_size=5)
    X, y = tasks[8]
    adapted = model.adapt(X[:5], y[:5], guard=True)
    many = model.adapt_many([(X[:5], y[:5])])
    for prediction in (model.predict(X), adapted.predict(X), many.predict(X)[0]):
        assert (prediction > 0).all()
    np.testing.assert_allclose(many.predict(X)[0], model.adapt(X[:5], y[:5]).predict(X), rtol=1e-9)
    interval = model.adapt(X[:5], y[:5]).predict_interval(X, level=0.5)
    center = model.adapt(X[:5], y[:5]).predict(X)
    np.testing.assert_allclose((interval.lower + interval.upper) / 2, center, rtol=1e-9)
    assert np.isfinite(model.score(tasks[8:]))
    save(model, tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.adapt(X[:5], y[:5]).predict(X), center)
    assert clone(model).get_params()["loss"] == "poisson"


def test_counts_below_zero_are_refused():
    tasks = count_tasks()
    tasks[2][1][3] = -1
    with pytest.raises(TaskError, match=r"task 2, row 3: y is -1; loss='poisson' needs targets of at least 0"):
        fit(tasks, loss="poisson")
    model = fit(count_tasks(), loss="poisson", max_iter=1)
    with pytest.raises(TaskError, match="row 1: y is -2"):
        model.adapt([[0.0], [1.0]], [1.0, -2.0])


def test_closed_forms_have_one_loss():
    with pytest.raises(ValueError, match="a head in closed form minimises the squared error; loss='huber' needs"):
        fit(count_tasks(), loss="huber", inner_solver="ridge")


@pytest.mark.parametrize("settings", [{"loss": "hubber"}, {"loss": 3}, {"quantile": 1.0}, {"huber_threshold": 0}])
def test_losses_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=f"'{next(iter(settings))}' parameter"):
        fit(count_tasks(), **settings)


def test_a_loss_is_not_changed_after_the_fit():
    model = fit(count_tasks(), max_iter=1)
    with pytest.raises(ValueError, match="loss='huber' was set after the fit, which had 'squared_error'"):
        model.set_params(loss="huber").adapt([[0.0]], [1.0])
    with pytest.raises(ValueError, match="loss='huber' was set after the fit"):
        model.set_params(warm_start=True).fit(count_tasks())


class Weighted:
    """An absolute error with a weight."""

    def __init__(self, weight):
        self.weight = weight

    def __call__(self, prediction, target):
        return self.weight * (prediction - target).abs().mean(dim=-1)


def test_a_loss_that_was_changed_after_the_fit_is_refused():
    loss = Weighted(1.0)
    model = fit(count_tasks(), max_iter=2, loss=loss)
    before = model.adapt([[0.0]], [1.0]).predict([[0.5]])
    loss.weight = 2.0
    for call in (
        lambda: model.adapt([[0.0]], [1.0]),
        lambda: model.predict([[0.0]]),
        lambda: model.score(count_tasks()),
    ):
        with pytest.raises(ValueError, match="loss=Weighted: the object was changed after the fit"):
            call()
    loss.weight = 1.0
    np.testing.assert_array_equal(model.adapt([[0.0]], [1.0]).predict([[0.5]]), before)
    loss.weight = 2.0
    fit(count_tasks(), max_iter=2, loss=loss).adapt([[0.0]], [1.0])


@pytest.mark.parametrize("loss", [half_absolute_error, Weighted(0.5)])
def test_absolute_errors_of_the_users_are_compiled_to_the_same_weights(loss):
    one, other = (fit(count_tasks(), loss=loss, compile=setting) for setting in (True, False))
    assert one.compiled_
    assert same_weights(one, other, 1e-6)


def test_a_loss_that_cannot_be_pickled_is_told_at_the_fit():
    with pytest.warns(UserWarning, match=r"loss=.*<lambda> cannot be pickled.*at the top level of a module"):
        fit(count_tasks(), max_iter=1, loss=lambda prediction, target: (prediction - target).square().mean(dim=-1))


def of_logarithms(prediction, target):
    return (prediction - torch.log(target)).square().mean(dim=-1)


def infinite_at_the_last_target(prediction, target):
    return (prediction - target).square().mean(dim=-1) / (target < 2.0).all(dim=-1)


@pytest.mark.parametrize(
    ("loss", "value"), [(of_logarithms, "nan"), (infinite_at_the_last_target, "inf"), (Weighted(np.inf), "inf")]
)
def test_a_loss_that_is_not_finite_before_the_fit_is_named(loss, value):
    name = getattr(loss, "__name__", "Weighted")
    with pytest.raises(
        ValueError, match=rf"loss: {name} is {value} before the fit, at a prediction of .* and a target"
    ):
        fit(count_tasks(), loss=loss)


def unshaped(prediction, target):
    return (prediction - target).abs()


def test_a_loss_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="one loss for each row"):
        fit(count_tasks(), loss=unshaped)


def no_slope(prediction, target):
    return (prediction - target).detach().abs().mean(dim=-1)


def among_others(prediction, target):
    error = prediction - target
    return (error - error.mean()).square().mean(dim=-1)


def counted(prediction, target):
    return ((prediction - target).mean(dim=-1) > 0).long()


class MeanOverAll(RegressionLoss):
    def per_row(self, prediction, target):
        return (prediction - target).square().mean()


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (no_slope, ValueError, "no_slope returned does not depend on the predictions"),
        (among_others, ValueError, "the loss of a row must not depend on other rows"),
        (counted, TypeError, r"counted returned torch\.int64; a tensor of torch with floats"),
        (MeanOverAll(), ValueError, r"MeanOverAll returned shape \(\); one loss for each row"),
    ],
)
def test_losses_that_a_fit_would_misread_are_refused(loss, error, message):
    with pytest.raises(error, match=message):
        fit(count_tasks(), loss=loss)


def drawn(prediction, target):
    return (prediction - target).square().mean(dim=-1) * torch.rand(len(target)).to(target)


def test_a_loss_that_draws_is_taken():
    fit(count_tasks(), max_iter=2, loss=drawn)


def test_another_setting_of_the_loss_after_the_fit_is_named():
    model = fit(count_tasks(), max_iter=2, loss="quantile").set_params(quantile=0.9)
    with pytest.raises(
        ValueError, match=r"'quantile' \(q=0\.9\) was set after the fit, which had 'quantile' \(q=0\.5\)"
    ):
        model.predict([[0.0]])


@pytest.mark.parametrize("method", ["adapt_many", "calibrate", "score"])
def test_a_target_below_the_range_of_the_loss_is_named_by_its_task(method):
    model = fit(count_tasks(), max_iter=2, loss="poisson")
    tasks = {"fine": ([[0.0], [0.5], [1.0]], [1, 2, 3]), "bad": ([[0.0], [0.5], [1.0]], [1, 2, -3])}
    with pytest.raises(TaskError, match="task 'bad', row 2: y is -3"):
        getattr(model, method)(tasks)


class Times(RegressionLoss):
    """No dataclass: what it is made with is no field."""

    def __init__(self, factor):
        object.__setattr__(self, "factor", factor)

    def per_row(self, prediction, target):
        return self.factor * (prediction - target).square().mean(dim=-1)


def test_losses_that_are_no_dataclasses_are_told_apart():
    model = fit(count_tasks(), max_iter=2, loss=Times(1.0))
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict([[0.0]]), model.predict([[0.0]]))
    with pytest.raises(ValueError, match="was set after the fit"):
        model.set_params(loss=Times(50.0)).predict([[0.0]])
