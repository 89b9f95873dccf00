"""A user's own torch module works as the built-in network does."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from metaest import MAMLRegressor, TaskError
from metaest.functional import MLP
from problems import ragged_tasks


class Recurrent(nn.Module):
    """A recurrent module, whose columns are the steps of a sequence."""

    def __init__(self, n_features, n_targets):
        super().__init__()
        self.cell = nn.LSTM(1, 4, batch_first=True)
        self.head = nn.Linear(4, n_targets)

    def forward(self, X):
        hidden, _ = self.cell(X[:, :, None])
        return self.head(hidden[:, -1])


class Branching(nn.Linear):
    """A module torch.vmap cannot map: it branches on what its rows hold."""

    def forward(self, X):
        return super().forward(X if X.sum() > 0 else -X)


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
    branching = fit(lambda d, t: Branching(d, t))
    assert branching.batching_ == "loop"
    assert "torch.vmap cannot map" in branching.batching_reason_


def test_recurrent_modules_are_mapped_and_compiled(tasks):
    """Step by step, so that a default fit takes seconds where it took minutes."""
    by_torch = fit(Recurrent, inner_steps=1)
    assert by_torch.batching_ == "vmap"
    assert isinstance(by_torch.module_.cell, nn.LSTM)
    by_loop = fit(Recurrent, inner_steps=1, vectorize=False)
    compiled = fit(Recurrent, inner_steps=1, compile=True)
    assert compiled.compiled_
    for other in (by_loop, compiled):
        np.testing.assert_allclose(other.predict(tasks.X), by_torch.predict(tasks.X), rtol=1e-3, atol=1e-3)


def test_vmap_and_loop_fit_alike(monkeypatch, tasks):
    by_vmap = fit(lambda d, t: MLP(d, t, [8], "tanh"))
    monkeypatch.setattr("metaest.estimators.networks.network.mapped", _refuse)
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

    with pytest.warns(UserWarning, match=r"writes into its buffers in training \(calls\)"):
        model, X = fit(Counting), tasks.X.astype(np.float32)
    np.testing.assert_array_equal(model.predict(X), model.predict(X))


class Two(nn.Module):
    """Two layers that a test changes something about."""

    def __init__(self, n_features, n_targets):
        super().__init__()
        self.body = nn.Linear(n_features, 4)
        self.head = nn.Linear(4, n_targets)

    def forward(self, X):
        return self.head(torch.tanh(self.body(X)))


def changed(method=None, after=None, before=None):
    """Return a module whose rows or outputs are changed, or whose parts are."""

    class Changed(Two):
        def __init__(self, n_features, n_targets):
            super().__init__(n_features, n_targets)
            if method is not None:
                method(self)

        def forward(self, X):
            output = super().forward(X if before is None else before(X))
            return output if after is None else after(output)

    return Changed


def stays_on(X):
    return nn.functional.dropout(X, 0.5, training=True)


def lazy(module):
    module.body = nn.LazyLinear(4)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (changed(after=lambda y: (y, y)), TypeError, "returned tuple"),
        (changed(after=lambda y: y.mean()), ValueError, r"returned shape \(\) for"),
        (changed(after=lambda y: y.T), ValueError, r"returned shape \(1, \d+\)"),
        (changed(after=lambda y: y.half()), TypeError, "must keep their precision"),
        (changed(after=lambda y: y.to(torch.complex64)), TypeError, "must keep their precision"),
        (changed(after=lambda y: y.detach()), ValueError, "do not depend on its trainable weights"),
        (changed(before=lambda X: X.mul_(2)), ValueError, "writes into the rows"),
        (changed(method=lazy), ValueError, "shape of 'body.weight' is not settled"),
        (Two(2, 1).to("meta"), ValueError, "'body.weight' is on the device 'meta'"),
    ],
)
def test_modules_that_cannot_be_used_say_why(module, error, message):
    with pytest.raises(error, match=message):
        fit(module)


def test_random_outputs_are_told():
    with pytest.warns(UserWarning, match="draws random numbers"):
        fit(changed(before=stays_on))


def spectral(module):
    nn.utils.parametrizations.spectral_norm(module.body)


def test_a_module_that_maps_in_evaluation_alone_is_looped_over():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "module writes into its buffers")  # where power iterations still move
        model = fit(changed(method=spectral))
    assert model.batching_ == "loop"
    assert "in training" in model.batching_reason_


def test_shared_layers_and_weights_are_one(tasks):
    class Shared(Two):
        def __init__(self, n_features, n_targets):
            super().__init__(n_features, n_targets)
            self.other = nn.Linear(n_features, 4)
            self.other.weight = self.body.weight
            self.again = self.body

        def forward(self, X):
            return self.head(torch.tanh(self.again(X)) + torch.tanh(self.other(X)) * self.body(X))

    by_map, by_loop = fit(Shared), fit(Shared, vectorize=False)
    assert by_map.batching_ == "vmap"
    assert by_map.module_.other.weight is by_map.module_.body.weight
    np.testing.assert_allclose(by_loop.predict(tasks.X), by_map.predict(tasks.X), rtol=1e-4, atol=1e-4)
    rows = torch.tensor((tasks.X - tasks.X.mean(axis=0)) / tasks.X.std(axis=0))
    with torch.no_grad():
        outputs = by_map.module_.double()(rows)[:, 0].numpy()
    np.testing.assert_allclose(outputs * tasks.y.std() + tasks.y.mean(), by_map.predict(tasks.X), rtol=1e-6)


def test_integer_parameters_in_place_activations_and_other_precisions(tasks):
    def counted(module):
        module.exponent = nn.Parameter(torch.tensor(2), requires_grad=False)

    expected = fit(changed(after=lambda y: y * 1)).predict(tasks.X)
    np.testing.assert_allclose(fit(changed(method=counted)).predict(tasks.X), expected)
    np.testing.assert_allclose(fit(changed(after=lambda y: y.double())).predict(tasks.X), expected, rtol=1e-4)
    half = Two(2, 1).half()
    assert fit(half).predict(tasks.X).dtype == np.float64
    assert half.body.weight.dtype == torch.float16
    assert np.isfinite(fit(changed(before=lambda X: torch.relu_(X + 1))).predict(tasks.X)).all()


class OnceDifferentiable(torch.autograd.Function):
    """A sine whose derivative torch takes for a constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope * x.cos()


def test_a_hidden_second_derivative_is_told():
    class Hidden(Two):
        def forward(self, X):
            return self.head(OnceDifferentiable.apply(self.body(X)))

    with pytest.warns(UserWarning, match="second derivative differs from differences"):
        fit(Hidden)
    fit(Hidden, meta_gradient="first-order")  # it needs none
    fit(changed(before=torch.sin))
