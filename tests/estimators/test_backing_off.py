"""A fit whose inner rate overshoots goes on at a lower one, and says so once; all other fits stay as they are."""

import logging

import numpy as np
import pytest

from metaest import MAMLClassifier, MAMLRegressor
from metaest.exceptions import DivergenceError, OvershootWarning
from metaest_datasets import load_orange, load_theophylline, make_sinusoids


def fit(tasks, **settings):
    return MAMLRegressor(**{"max_iter": 5, "random_state": 0, "compile": False, **settings}).fit(tasks)


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("load", [load_theophylline, load_orange])
def test_real_data_at_the_defaults_does_not_diverge(load, activation):
    tasks = load()
    with pytest.warns(OvershootWarning, match="inner_lr=0.05 overshoots on the tasks of this fit") as caught:
        model = fit(tasks, activation=activation)
    assert len(caught) == 1
    assert model.inner_lr_ < 0.05
    assert np.log2(0.05 / model.inner_lr_) == pytest.approx(round(np.log2(0.05 / model.inner_lr_)))
    assert f"used inner_lr={model.inner_lr_:.2g}" in str(caught[0].message)
    assert np.isfinite(model.history_["meta_loss"]).all()
    # setting that rate is the same fit, without a warning
    np.testing.assert_allclose(
        fit(tasks, activation=activation, inner_lr=model.inner_lr_).predict(tasks.X), model.predict(tasks.X)
    )


def test_what_does_not_overshoot_is_left_alone(monkeypatch):
    """Looking at the support losses first uses up no draw and changes no weight."""
    tasks = make_sinusoids(30, random_state=0)
    looked = fit(tasks)
    monkeypatch.setattr("metaest.estimators.networks.training.back_off", lambda plan, meta, *_: (plan, meta))
    blind = fit(tasks)
    assert looked.inner_lr_ == 0.05
    np.testing.assert_array_equal(looked.predict(tasks.X), blind.predict(tasks.X))


def test_the_lowered_rate_serves_adaptation_until_another_is_set():
    tasks = load_theophylline()
    with pytest.warns(OvershootWarning):
        model = fit(tasks, activation="relu")
    used, task = model.inner_lr_, tasks[0]
    lowered = model.adapt(task.X[:3], task.y[:3]).predict(task.X)
    np.testing.assert_allclose(
        model.set_params(inner_lr=used).adapt(task.X[:3], task.y[:3]).predict(task.X), lowered, rtol=1e-6
    )
    model.set_params(inner_lr=used / 8)
    assert not np.allclose(model.adapt(task.X[:3], task.y[:3]).predict(task.X), lowered, rtol=1e-3)


def test_another_fit_looks_anew_and_a_warm_start_goes_on():
    tasks = load_theophylline()
    with pytest.warns(OvershootWarning):
        model = fit(tasks, activation="relu")
    with pytest.warns(OvershootWarning):
        again = model.fit(tasks).inner_lr_
    assert again == model.inner_lr_
    with pytest.warns(OvershootWarning):
        still = fit(tasks, activation="relu", meta_lr=0.0)
    rate = still.inner_lr_
    assert still.set_params(warm_start=True).fit(tasks).inner_lr_ == rate  # and nothing is said twice


@pytest.mark.parametrize("learned", ["one", "per-parameter", "per-layer-and-step"])
def test_learned_rates_start_lower(learned):
    with pytest.warns(OvershootWarning, match="started from inner_lr="):
        model = fit(load_theophylline(), activation="relu", learn_inner_lr=learned, meta_lr=0.0)
    rates = model.inner_lr_.values() if isinstance(model.inner_lr_, dict) else [model.inner_lr_]
    assert all(np.max(rate) < 0.05 for rate in rates)


def test_compiled_and_eager_fits_back_off_alike():
    tasks = load_theophylline()
    with pytest.warns(OvershootWarning):
        eager = fit(tasks, activation="relu", dtype="float64")
    with pytest.warns(OvershootWarning):
        compiled = fit(tasks, activation="relu", dtype="float64", compile=True)
    assert compiled.compiled_
    assert compiled.inner_lr_ == eager.inner_lr_
    np.testing.assert_allclose(compiled.predict(tasks.X), eager.predict(tasks.X), rtol=1e-6)


def test_a_fit_that_diverges_later_is_begun_anew(caplog):
    """Deep linear networks overshoot once their weights have grown."""
    with pytest.warns(OvershootWarning) as caught, caplog.at_level(logging.INFO, logger="metaest"):
        model = fit(load_theophylline(), activation="identity", hidden_layer_sizes=(128,) * 4)
    assert len(caught) == 1
    assert "begun anew at a lower inner rate" in caplog.text
    assert np.isfinite(model.predict(load_theophylline().X)).all()


def test_what_a_lower_rate_cannot_mend_is_the_first_error():
    with pytest.raises(DivergenceError, match="in meta-step 2"):
        fit(make_sinusoids(30, random_state=0), meta_lr=1e20, max_grad_norm=None)


def test_classifiers_back_off_too():
    rng = np.random.default_rng(0)
    tasks = [(rng.standard_normal((12, 2)), rng.integers(0, 2, 12)) for _ in range(6)]
    with pytest.warns(OvershootWarning, match="tasks of this fit"):
        model = MAMLClassifier(activation="relu", inner_lr=20.0, max_iter=3, random_state=0).fit(tasks)
    assert model.inner_lr_ < 20
