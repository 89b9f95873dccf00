"""A user's own torch module works as the built-in network does."""

import numpy as np
import pytest
import torch
from torch import nn

from metaest import MAMLRegressor, TaskError
from metaest.functional import MLP
from problems import ragged_tasks


class GRU(nn.Module):
    """A recurrent module torch.vmap cannot map."""

    def __init__(self, n_features, n_targets):
        super().__init__()
        self.cell = nn.LSTM(n_features, 4, batch_first=True)
        self.head = nn.Linear(4, n_targets)

    def forward(self, X):
        hidden, _ = self.cell(X[:, None, :])
        return self.head(hidden[:, 0])


class OneNumberARow(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, X):
        return X @ self.weight


def fit(module, **settings):
    return MAMLRegressor(module=module, max_iter=5, random_state=0, **settings).fit(ragged_tasks())


def test_a_copy_of_the_built_in_network_gives_the_built_in_result(tasks):
    built_in = MAMLRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0, activation="tanh").fit(tasks)
    own = MAMLRegressor(module=lambda d, t: MLP(d, t, [8], "tanh"), max_iter=20, random_state=0).fit(tasks)
    np.testing.assert_array_equal(own.predict(tasks.X), built_in.predict(tasks.X))
    np.testing.assert_array_equal(
        own.adapt(tasks[0].X, tasks[0].y).predict(tasks.X), built_in.adapt(tasks[0].X, tasks[0].y).predict(tasks.X)
    )


def test_an_instance_is_copied_and_its_weights_are_the_start(tasks):
    module = OneNumberARow()
    model = fit(module, meta_lr=0.0)
    assert torch.equal(module.weight.detach(), torch.zeros(2))
    assert torch.equal(model.module_.weight.detach(), torch.zeros(2))
    assert not torch.equal(fit(module).module_.weight.detach(), torch.zeros(2))
    assert model.predict(tasks.X).shape == (52,)


def test_a_factory_is_seeded():
    one, two = (fit(lambda d, t: nn.Linear(d, t)) for _ in range(2))
    assert torch.equal(one.module_.weight, two.module_.weight)


def test_choices_of_batching_are_recorded():
    assert fit(None).batching_ == "vmap"
    recurrent = fit(GRU)
    assert recurrent.batching_ == "loop"
    assert "torch.vmap cannot map" in recurrent.batching_reason_


def test_vmap_and_loop_fit_alike(monkeypatch, tasks):
    by_vmap = fit(lambda d, t: MLP(d, t, [8], "tanh"))
    monkeypatch.setattr("metaest.estimators.network.mapped", _refuse)
    by_loop = fit(lambda d, t: MLP(d, t, [8], "tanh"))
    assert (by_vmap.batching_, by_loop.batching_) == ("vmap", "loop")
    np.testing.assert_allclose(by_loop.predict(tasks.X), by_vmap.predict(tasks.X), rtol=1e-4, atol=1e-4)
    assert by_loop.score(tasks) == pytest.approx(by_vmap.score(tasks), abs=1e-4)


def _refuse(forward):
    raise RuntimeError("not today")


def test_a_module_that_mixes_rows_is_not_mapped_over_padding():
    """Its result depends on the other rows of the task, padding included, so only the loop is right."""

    class Centred(nn.Linear):
        def forward(self, X):
            return super().forward(X - X.mean(dim=0))

    equal_sizes = [(np.random.default_rng(i).random((4, 2)), np.arange(4.0)) for i in range(3)]
    for tasks in (ragged_tasks(), equal_sizes):
        model = MAMLRegressor(module=lambda d, t: Centred(d, t), max_iter=2, support_size=2).fit(tasks)
        assert model.batching_ == "loop"
        assert "another result" in model.batching_reason_


def test_convolutions_are_looped_over_on_a_cpu():
    class Conv(nn.Module):
        def __init__(self, n_features, n_targets):
            super().__init__()
            self.conv = nn.Conv1d(1, 2, 1)
            self.head = nn.Linear(2 * n_features, n_targets)

        def forward(self, X):
            return self.head(self.conv(X[:, None, :]).flatten(1))

    assert fit(Conv, device="cpu").batching_ == "loop"


def test_dropout_is_seeded_in_fit_and_off_afterwards(tasks):
    def module(d, t):
        return nn.Sequential(nn.Linear(d, 20), nn.Dropout(0.5), nn.Linear(20, t))

    one = fit(module)
    torch.rand(3)
    two = fit(module)
    np.testing.assert_array_equal(one.predict(tasks.X), two.predict(tasks.X))
    np.testing.assert_array_equal(one.predict(tasks.X), one.predict(tasks.X))
    assert one.score(tasks) == one.score(tasks)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (lambda d, t: nn.Sequential(nn.Linear(d, 3), nn.BatchNorm1d(3), nn.Linear(3, t)), TaskError, "needs 2, the task has 1"),
        (lambda d, t: nn.Sequential(nn.InstanceNorm1d(d, track_running_stats=True), nn.Linear(d, t)), ValueError, "InstanceNorm1d. keeps running statistics"),
        (lambda d, t: nn.Linear(d, 3), ValueError, r"returned shape \(\d+, 3\)"),
        (lambda d, t: "network", TypeError, "got str"),
        (nn.Linear(2, 1).requires_grad_(False), ValueError, "nothing to learn"),
        (nn.Linear(5, 1), ValueError, "shapes cannot be multiplied"),
    ],
)  # fmt: skip
def test_unusable_modules(module, error, message):
    with pytest.raises(error, match=message):
        fit(module)


def test_module_takes_over_from_the_built_in_network():
    assert isinstance(fit(OneNumberARow()).module_, OneNumberARow)


def test_a_module_with_float32_tensors_of_its_own_predicts_float64_rows(tasks):
    class Fourier(torch.nn.Module):
        def __init__(self, n_features, n_targets):
            super().__init__()
            self.frequencies = torch.randn(n_features, 5)  # no buffer: it does not follow the dtype
            self.head = nn.Linear(5, n_targets)

        def forward(self, X):
            return self.head(torch.sin(X @ self.frequencies))

    model = fit(Fourier)
    assert model.predict(tasks.X).dtype == np.float64
    assert np.isfinite(model.score(tasks))
    assert model.adapt(tasks[0].X, tasks[0].y).predict(tasks.X).shape == (52,)


def test_a_module_that_writes_into_its_buffers_carries_nothing_over(tasks):
    class Counting(nn.Linear):
        def __init__(self, n_features, n_targets):
            super().__init__(n_features, n_targets)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, X):
            self.calls += 1
            return super().forward(X) + self.calls

    model, X = fit(Counting), tasks.X.astype(np.float32)
    np.testing.assert_array_equal(model.predict(X), model.predict(X))
