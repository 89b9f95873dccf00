"""Every variant on every problem keeps the laws of adaptation, and says what it cannot do."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from agreement import assert_agree
from metaest import MAMLRegressor, OvershootWarning
from metaest.diagnostics import from_scratch, pooled
from metaest_datasets import make_linear_tasks, make_sinusoids
from variants import FEW, PROBLEMS, VARIANTS, fitted


@pytest.mark.filterwarnings("ignore::metaest.OvershootWarning")
@pytest.mark.parametrize(
    ("variant", "problem"),
    [
        # steps to a minimum take long: two problems of this variant are enough
        pytest.param(variant, problem, marks=[pytest.mark.slow] * (variant == "iMAML" and i in (1, 2)))
        for variant in VARIANTS
        for i, problem in enumerate(PROBLEMS)
    ],
)
def test_the_laws_of_adaptation(variant, problem):
    tasks, drawn = PROBLEMS[problem](), torch.get_rng_state()
    model = fitted(variant, tasks)
    one, other = tasks[0], tasks[1]
    adapted = model.adapt(one.X[:4], one.y[:4])
    # torch's generator is the user's
    assert adapted.module_ is not None
    assert torch.equal(torch.get_rng_state(), drawn)
    before = adapted.predict(one.X)
    assert np.isfinite(before).all()
    assert (before != model.predict(one.X)).any()
    # same data, same seed: same bits
    np.testing.assert_array_equal(fitted(variant, tasks).adapt(one.X[:4], one.y[:4]).predict(one.X), before)
    # another patient changes nothing, nor do the order of rows and the journey of a pickle
    model.adapt(other.X[:4], other.y[:4])
    np.testing.assert_array_equal(adapted.predict(one.X), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(adapted)).predict(one.X), before)
    turned = model.adapt(one.X[:4][::-1], one.y[:4][::-1]).predict(one.X)
    np.testing.assert_allclose(turned, before, rtol=1e-3, atol=1e-3 * np.ptp(tasks.y))
    two = model.adapt(one.X[:2], one.y[:2]).partial_adapt(one.X[2:4], one.y[2:4])
    np.testing.assert_allclose(two.predict(one.X), before, rtol=1e-3, atol=1e-3 * np.ptp(tasks.y))
    # no steps: the answer for everyone
    still = model.set_params(inner_steps=0)
    np.testing.assert_array_equal(still.adapt(one.X[:4], one.y[:4]).predict(one.X), still.predict(one.X))


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"R2D2", "ALPaCA", "iMAML"}))
def test_the_support_loss_falls(variant):
    tasks = make_sinusoids(30, random_state=0)
    model = fitted(variant, tasks, max_iter=60)
    gains = []
    for task in tasks[:10]:
        adapted = model.adapt(task.X[:5], task.y[:5])
        error = [np.square(own.predict(task.X[:5]) - task.y[:5]).mean() for own in (adapted, model)]
        gains.append(error[0] < error[1])
    assert np.mean(gains) >= 0.9


def test_only_what_is_named_moves():
    tasks = PROBLEMS["sinusoid"]()
    for variant, moving in (
        ("ANIL", {"layers.3.weight", "layers.3.bias"}),
        ("BOIL", {f"layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}),
        ("some layers", {"layers.1.weight", "layers.1.bias", "layers.2.bias"}),
        ("CAVIA", set()),
    ):
        model = fitted(variant, tasks)
        own = model.adapt(tasks[0].X[:4], tasks[0].y[:4])
        now, then = own.module_.state_dict(), model.module_.state_dict()
        assert {name for name in now if not torch.equal(now[name], then[name])} == moving, variant
    assert own.context_.shape == (2,)
    assert own.context_.any()
    with pytest.raises(AttributeError, match="context_dim=0"):
        _ = fitted("MAML", tasks).adapt(tasks[0].X[:4], tasks[0].y[:4]).context_


def test_learned_rates_are_told():
    tasks = PROBLEMS["sinusoid"]()
    assert fitted("MAML", tasks).inner_lr_ == 0.05
    one = fitted("learned rate", tasks).inner_lr_
    assert isinstance(one, float)
    assert one != 0.05
    each = fitted("Meta-SGD", tasks)
    assert {n: v.shape for n, v in each.inner_lr_.items()} == {
        n: tuple(v.shape) for n, v in each.module_.named_parameters()
    }
    assert each.inner_lr_["layers.0.weight"].std() > 0
    steps = fitted("MAML++", tasks).inner_lr_
    assert all(rate.shape == (5,) and rate.std() > 0 for rate in steps.values())
    assert fitted("R2D2", tasks).inner_lr_ is None


def test_the_bayesian_head_is_exact_on_linear_tasks():
    tasks, population = make_linear_tasks(400, 12, random_state=0)
    identity = {"hidden_layer_sizes": (4,), "activation": "identity", "alpha": 0.0}
    settings = {"inner_solver": "bayes", "support_size": (1, 6), "max_iter": 1500, "random_state": 0, **identity}
    model = MAMLRegressor(dtype="float64", **settings).fit(tasks[:300])
    error, reference, covered = [], [], []
    for task in tasks[300:]:
        mean, sd = model.adapt(task.X[:4], task.y[:4]).predict(task.X[4:], return_std=True)
        error.append(np.square(mean - task.y[4:]).mean())
        reference.append(np.square(population.predict(task.X[:4], task.y[:4], task.X[4:]) - task.y[4:]).mean())
        covered.append(np.abs(mean - task.y[4:]) < 1.645 * sd)
    assert np.mean(error) < 1.03 * np.mean(reference)
    assert 0.87 < np.mean(covered) < 0.93


def test_a_bayesian_head_learns_row_by_row():
    tasks = PROBLEMS["sinusoid"]()
    model = fitted("ALPaCA", tasks, dtype="float64")
    X, y = tasks[0].X[:6], tasks[0].y[:6]
    at_once = model.adapt(X, y)
    for order in (range(6), [3, 1, 5, 0, 2, 4]):
        step = model.adapt(X[[order[0]]], y[[order[0]]])
        for row in order[1:]:
            step = step.partial_adapt(X[[row]], y[[row]])
        for got, expected in zip(step.predict(X, return_std=True), at_once.predict(X, return_std=True), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-10)
    wide = model.predict(X, return_std=True)[1]
    assert (at_once.predict(X, return_std=True)[1] < wide).all()
    with pytest.raises(ValueError, match="return_std needs a model with inner_solver='bayes'"):
        fitted("R2D2", tasks).predict(X, return_std=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapt_layers": ["layers.9"]}, "adapt_layers: no parameter or layer 'layers.9'; there are layers.0.weight"),
        ({"adapt_layers": []}, "adapt_layers is empty"),
        ({"adapt_layers": "body", "hidden_layer_sizes": ()}, "one layer with parameters only"),
        ({"context_dim": 2, "adapt_layers": "head"}, "context_dim=2 moves the context vector alone"),
        ({"meta_gradient": "reptile", "learn_inner_lr": "one"}, "'reptile' gives none for the rates"),
        ({"meta_gradient": "reptile", "inner_steps": 0}, "inner_steps=0 leaves nothing to learn"),
        ({"inner_solver": "ridge", "inner_steps": 0}, "inner_steps=0 leaves nothing to learn"),
        ({"meta_gradient": "implicit", "proximal": 0.0}, "needs proximal above 0"),
        ({"meta_gradient": "implicit", "multi_step_share": 0.5}, "multi_step_share needs a meta_gradient"),
        ({"inner_solver": "ridge", "adapt_layers": "head"}, "adapts the last layer in closed form"),
        ({"inner_solver": "ridge", "hidden_layer_sizes": ()}, "needs features to stand on"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message):
        MAMLRegressor(**{**FEW, **settings}).fit(PROBLEMS["sinusoid"]())


def test_settings_that_need_another_fit():
    tasks = PROBLEMS["sinusoid"]()
    model = fitted("MAML", tasks).set_params(context_dim=2)
    with pytest.raises(ValueError, match="context_dim=2 was set after the fit"):
        model.adapt(tasks[0].X[:3], tasks[0].y[:3])
    model.set_params(context_dim=0, learn_inner_lr="one")
    with pytest.raises(ValueError, match="learn_inner_lr='one' or adapt_layers was set after the fit"):
        model.adapt(tasks[0].X[:3], tasks[0].y[:3])
    for variant, setting in (("Meta-SGD", {"learn_inner_lr": False}), ("Meta-SGD", {"adapt_layers": "head"})):
        with pytest.raises(ValueError, match="was set after the fit, which learned other rates"):
            fitted(variant, tasks).set_params(**setting).adapt(tasks[0].X[:3], tasks[0].y[:3])
    for context_dim in (0, 3):
        with pytest.raises(ValueError, match=f"context_dim={context_dim} was set after the fit"):
            fitted("CAVIA", tasks).set_params(context_dim=context_dim).predict(tasks[0].X)
    model.set_params(learn_inner_lr=False, inner_solver="bayes")
    with pytest.raises(ValueError, match="inner_solver='bayes' was set after the fit"):
        model.predict(tasks[0].X)


def test_a_warm_start_learns_what_is_new_and_keeps_the_rest():
    tasks = PROBLEMS["sinusoid"]()
    model = fitted("MAML", tasks, warm_start=True)
    before = model.module_.state_dict()
    model.set_params(learn_inner_lr="per-parameter", max_iter=1, meta_lr=1e-9).fit(tasks)
    assert set(model.inner_lr_) == set(before)
    for name, value in model.module_.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)


def test_the_implicit_gradient_without_steps_is_joint_training():
    tasks = PROBLEMS["linear"]()
    one, other = (fitted(variant, tasks, inner_steps=0).predict(tasks.X) for variant in ("iMAML", "MAML"))
    assert_agree(one, other)


@pytest.mark.parametrize("variant", VARIANTS)
def test_baselines_do_not_depend_on_the_variant(variant):
    tasks = PROBLEMS["linear"]()
    plain, own = (MAMLRegressor(**{**FEW, **VARIANTS[name], "inner_lr": 0.05}) for name in ("MAML", variant))
    assert_agree(pooled(plain, tasks).predict(tasks.X), pooled(own, tasks).predict(tasks.X))
    one, other = (
        from_scratch(model, tasks, max_iter=5).adapt(tasks[0].X[:4], tasks[0].y[:4]) for model in (plain, own)
    )
    assert_agree(one.predict(tasks.X), other.predict(tasks.X))


def test_adaptations_far_from_their_minimum_are_told():
    with pytest.warns(ConvergenceWarning, match="of the slope is left in the median task"):
        MAMLRegressor(**FEW, meta_gradient="implicit", inner_steps=1).fit(PROBLEMS["sinusoid"]())


def test_learned_rates_that_overshoot_are_lowered():
    tasks = PROBLEMS["sinusoid"]()
    model = fitted("Meta-SGD", tasks, max_iter=1)
    # as if far larger rates had been learned
    model._params = {
        name: 60 * value if name.startswith("inner_lr:") else value for name, value in model._params.items()
    }
    with pytest.warns(OvershootWarning, match="inner_lr=as learned overshoots .* at as learned, divided by"):
        model.adapt(tasks[0].X[:5], tasks[0].y[:5])
