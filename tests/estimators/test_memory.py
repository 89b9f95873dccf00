"""Tasks taken in parts, or one after the other, give what all at once give; what one task takes is counted."""

import numpy as np
import pytest
import torch
from torch import nn

from metaest import MAMLClassifier, MAMLRegressor
from metaest.estimators.networks.episodes import saved_bytes, tasks_at_once
from metaest.functional.outer import AdamW, EagerSteps
from metaest_datasets import make_sinusoids

SETTINGS = {"hidden_layer_sizes": (16,), "dtype": "float64", "compile": False, "random_state": 0, "max_iter": 12}


@pytest.fixture(scope="module")
def tasks():
    return make_sinusoids(30, 12, random_state=0)


def few_classes():
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(12, 3)) + 2 * np.eye(3).repeat(4, axis=0), np.arange(3).repeat(4)) for _ in range(8)]


@pytest.mark.parametrize("setting", [{"max_batch_bytes": 1}, {"max_batch_bytes": 40_000}, {"vectorize": False}])
def test_parts_and_loops_give_what_the_whole_gives(tasks, setting):
    whole = MAMLRegressor(**SETTINGS, max_batch_bytes=None).fit(tasks)
    parts = MAMLRegressor(**SETTINGS, **setting).fit(tasks)
    np.testing.assert_allclose(parts.history_["meta_loss"], whole.history_["meta_loss"], rtol=1e-10)
    np.testing.assert_allclose(parts.predict(tasks.X), whole.predict(tasks.X), rtol=1e-9)
    assert parts.score(tasks) == pytest.approx(whole.score(tasks), rel=1e-9)
    np.testing.assert_allclose(
        parts.adapt_many(tasks).predict([[0.5]]), whole.adapt_many(tasks).predict([[0.5]]), rtol=1e-9
    )


def test_early_stopping_and_classes_go_in_parts_too(tasks):
    settings = {**SETTINGS, "early_stopping": True}
    whole, parts = (MAMLRegressor(**settings, max_batch_bytes=own).fit(tasks) for own in (None, 1))
    np.testing.assert_allclose(
        parts.history_["validation_loss"].dropna(), whole.history_["validation_loss"].dropna(), rtol=1e-10
    )
    many = few_classes()
    whole, parts = (MAMLClassifier(**SETTINGS, k_shot=2, max_batch_bytes=own).fit(many) for own in (None, 1))
    np.testing.assert_allclose(parts.history_["meta_loss"], whole.history_["meta_loss"], rtol=1e-10)
    assert parts.score(many) == whole.score(many)


class Sorted(nn.Module):
    """Its rows see each other, and torch cannot map what it does with them."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, X):
        return self.line(X) + 0.0 * float(X.sum())


def test_how_tasks_are_taken_is_what_was_asked_for(tasks):
    model = MAMLRegressor(**SETTINGS, vectorize=False).fit(tasks)
    assert (model.batching_, model.batching_reason_) == ("loop", "vectorize=False")
    with pytest.raises(ValueError, match="vectorize=True is not possible: torch.vmap cannot map the module"):
        MAMLRegressor(**SETTINGS, module=Sorted(), vectorize=True).fit(tasks)
    images = [(np.random.default_rng(i).normal(size=(8, 1, 6, 6)), np.arange(2).repeat(4)) for i in range(4)]
    settings = {**SETTINGS, "hidden_layer_sizes": (2,), "max_iter": 2}
    assert MAMLClassifier(**settings).fit(images).batching_ == "loop"
    assert MAMLClassifier(**settings, vectorize=True).fit(images).batching_ == "vmap"


@pytest.mark.parametrize("setting", [{"vectorize": "yes"}, {"max_batch_bytes": 0}, {"max_batch_bytes": 1.5}])
def test_bad_settings_are_refused(tasks, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        MAMLRegressor(**SETTINGS, **setting).fit(tasks)


def test_what_is_kept_for_the_backward_pass_is_counted_once():
    x = torch.ones(1000, requires_grad=True)
    assert saved_bytes(lambda: x.exp()) == 4000  # its result
    assert saved_bytes(lambda: x * x) == 4000  # x twice
    assert saved_bytes(lambda: x.exp().sin().cos()) == 8000  # result of one, argument of the next: once


def test_tasks_at_once_are_at_least_one():
    assert (tasks_at_once(100, 30), tasks_at_once(10, 30), tasks_at_once(None, 30)) == (3, 1, None)


@pytest.mark.filterwarnings("ignore:callbacks")
@pytest.mark.parametrize(("width", "during"), [(8, 1), (250, 2)])
def test_short_steps_take_one_thread_and_give_the_others_back(tasks, width, during):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        settings = {**SETTINGS, "hidden_layer_sizes": (width, width), "max_iter": 1, "inner_lr": 0.001}
        MAMLRegressor(**settings, callbacks=[lambda info: seen.append(torch.get_num_threads())]).fit(tasks[:20])
        with pytest.raises(RuntimeError, match="enough"):
            MAMLRegressor(**settings, callbacks=[stop]).fit(tasks)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {during}


def stop(info):
    raise RuntimeError("enough")


def test_a_bound_keeps_less(tasks):
    """The largest number of bytes that one evaluation keeps, with and without a bound."""
    params = {"w": torch.ones(50, 50, dtype=torch.float64)}
    kept = []

    def losses(own, rows):
        result = []
        kept.append(saved_bytes(lambda: result.append((torch.exp(rows @ own["w"])).mean(dim=(1, 2)))))
        return result[0]

    def parts(rows):
        return list(rows.split(2))

    reached = []
    for own in (None, parts):
        steps = EagerSteps(AdamW(5, 0.01), params, lambda: torch.ones(20, 10, 50, dtype=torch.float64), losses, own)
        steps.advance(3)
        reached.append((steps.params()["w"], max(kept)))
        kept.clear()
    torch.testing.assert_close(reached[0][0], reached[1][0])
    rows = 20 * 10 * 50 * 8  # of which all parts are views
    assert reached[1][1] - rows == 0.1 * (reached[0][1] - rows)
