"""A variant says what it cannot do, and goes on where it can: no setting is wrong in silence."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from metaest import DivergenceError, FewShotRegressor, MAMLRegressor, Task, TaskSet, adapt
from metaest.diagnostics import fine_tuned, from_scratch, pooled
from metaest.estimators.networks.adaptation import Adaptation, Schedule
from metaest.estimators.networks.settings import InnerSettings, MetaSettings
from metaest.functional import MLP, ModuleForward, QueryLoss, Rows, mapped, repeat_for_tasks, squared_error
from variants import FEW, PROBLEMS, VARIANTS, fitted


class HeadFirst(nn.Module):
    def __init__(self, n_features, n_targets):
        super().__init__()
        self.head = nn.Linear(4, n_targets)
        self.body = nn.Linear(n_features, 4)

    def forward(self, X):
        return self.head(torch.tanh(self.body(X)))


@pytest.fixture(scope="module")
def tasks():
    return PROBLEMS["sinusoid"]()


def one_row_each(tasks):
    return TaskSet([Task(task.name, task.X[:1], task.y[:1]) for task in tasks])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapt_layers": "head"}, "the rest of the network would never be trained"),
        ({"adapt_layers": ["layers.1"]}, "the rest of the network would never be trained"),
        ({"context_dim": 2}, "the rest of the network would never be trained"),
        ({"inner_lr": 0.0}, "inner_lr=0 leaves nothing to learn"),
        ({"multi_step_share": 0.5}, "multi_step_share needs a meta_gradient"),
    ],
)
def test_reptile_is_refused_where_it_would_not_learn(tasks, settings, message):
    with pytest.raises(ValueError, match=message):
        MAMLRegressor(**{**FEW, "meta_gradient": "reptile", **settings}).fit(tasks)


def test_reptile_is_not_refused_where_all_parameters_are_named(tasks):
    every = fitted("Reptile", tasks, adapt_layers=[f"layers.{i}" for i in range(4)])
    np.testing.assert_array_equal(every.predict(tasks.X), fitted("Reptile", tasks).predict(tasks.X))


def test_reptile_is_judged_on_rows_it_has_not_adapted_to(tasks):
    noise = np.random.default_rng(0).standard_normal
    # of pure noise nothing can be learned: rows adapted to are below the variance of the rest
    random = TaskSet([Task(i, noise((6, 1)), noise(6)) for i in range(60)])
    model = MAMLRegressor(
        **{**FEW, "max_iter": 40, "meta_gradient": "reptile", "early_stopping": True, "validation_fraction": 0.5},
        inner_lr=0.2, inner_steps=40, alpha=0.0, meta_lr=1e-3,
    ).fit(random)  # fmt: skip
    seen, unseen = (model.history_[name].dropna().iloc[-1] for name in ("meta_loss", "validation_loss"))
    assert seen < 0.7 < 1.0 < unseen


@pytest.mark.parametrize("variant", ["R2D2", "learned rate", "Meta-SGD", "MAML++"])
def test_without_a_support_row_nothing_about_adapting_is_learned(tasks, variant):
    for data, settings in ((tasks, {"support_size": 0}), (one_row_each(tasks), {})):
        with pytest.raises(ValueError, match="no task has a support row"):
            fitted(variant, data, **settings)


@pytest.mark.parametrize(
    "setting",
    [
        {"meta_gradient": "exakt"},
        {"inner_solver": "bayesian"},
        {"adapt_layers": "haed"},
        {"inner_steps": -1},
        {"inner_lr": -0.1},
        {"learn_inner_lr": "each"},
        {"proximal": -1.0},
    ],
)
def test_a_typo_after_the_fit_is_found(tasks, setting):
    model = fitted("MAML", tasks).set_params(**setting)
    for call in (lambda: model.adapt(tasks[0].X[:3], tasks[0].y[:3]), lambda: model.predict(tasks[0].X)):
        with pytest.raises(InvalidParameterError, match=next(iter(setting))):
            call()


@pytest.mark.parametrize(("variant", "other"), [("R2D2", "bayes"), ("ALPaCA", "gradient")])
def test_another_head_after_the_fit_is_refused(tasks, variant, other):
    model = fitted(variant, tasks).set_params(inner_solver=other)
    with pytest.raises(ValueError, match="was set after the fit"):
        model.adapt(tasks[0].X[:3], tasks[0].y[:3])


def test_the_meta_gradient_may_change_after_the_fit_but_for_the_proximal_term(tasks):
    model, X, y = fitted("MAML", tasks), tasks[0].X[:3], tasks[0].y[:3]
    before = model.adapt(X, y).predict(X)
    np.testing.assert_array_equal(model.set_params(meta_gradient="first-order").adapt(X, y).predict(X), before)
    with pytest.raises(ValueError, match="meta_gradient='exact' was set after the fit"):
        fitted("iMAML", tasks).set_params(meta_gradient="exact").adapt(X, y)
    with pytest.raises(ValueError, match="meta_gradient='implicit' was set after the fit"):
        model.set_params(meta_gradient="implicit").adapt(X, y)


def test_closed_form_has_no_use_for_the_settings_of_steps(tasks):
    plain = fitted("R2D2", tasks).predict(tasks.X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in ({"meta_gradient": "implicit", "proximal": 0.0}, {"meta_gradient": "first-order"}):
            np.testing.assert_array_equal(fitted("R2D2", tasks, **settings).predict(tasks.X), plain)


def test_rows_far_off_are_an_error_or_right(tasks):
    model = fitted("ALPaCA", tasks, activation="relu", max_iter=60)
    X, y = tasks[0].X[:4], tasks[0].y[:4]
    # a network of rectifiers is linear far off, so that larger rows with larger units mean the same
    expected = model.adapt(1e3 * X, y).predict(1e3 * X)
    raised = []
    for size in 10.0 ** np.arange(4, 31):
        try:
            mean, std = model.adapt(size * X, y).predict(size * X, return_std=True)
        except DivergenceError:
            raised.append(size)
        else:
            assert (abs(mean - expected) < 0.5 * std).all(), size
    assert raised
    assert min(raised) > 1e6


@pytest.mark.parametrize("noise_sd", [0.02, 0.5])
def test_the_noise_of_a_fit_of_default_length_is_right(noise_sd):
    rng = np.random.default_rng(0)
    lines = [(rng.normal(), rng.normal(), rng.uniform(-2, 2, (12, 1))) for _ in range(200)]
    tasks = TaskSet(
        [Task(i, X, a + b * X[:, 0] + noise_sd * rng.standard_normal(12)) for i, (a, b, X) in enumerate(lines)]
    )
    settings = {**FEW, "hidden_layer_sizes": (4,), "activation": "identity", "support_size": (1, 8), "max_iter": 1000}
    model = MAMLRegressor(**settings, inner_solver="bayes", alpha=0.0).fit(tasks[:150])
    covered = []
    for task in tasks[150:]:
        mean, sd = model.adapt(task.X[:6], task.y[:6]).predict(task.X[6:], return_std=True)
        covered.append(np.abs(mean - task.y[6:]) < 1.645 * sd)
    assert 0.85 < np.mean(covered) < 0.95


def test_standard_deviations_go_the_ways_of_predictions(tasks):
    model = fitted("ALPaCA", tasks)
    X, y = tasks[0].X[:4], tasks[0].y[:4]
    expected = model.adapt(X, y).predict(X, return_std=True)
    for got, own in zip(FewShotRegressor(model).fit(X, y).predict(X, return_std=True), expected, strict=True):
        np.testing.assert_array_equal(got, own)
    pipeline = make_pipeline(StandardScaler(), MAMLRegressor(**FEW, **VARIANTS["ALPaCA"]))
    pipeline.fit(tasks.X, tasks.y, mamlregressor__groups=tasks.names.repeat(tasks.sizes))
    mean, sd = adapt(pipeline, X, y).predict(X, return_std=True)
    assert mean.shape == sd.shape == (4,)
    assert (sd > 0).all()
    # no steps: the prior's, before and after
    still = model.set_params(inner_steps=0)
    for got, own in zip(still.adapt(X, y).predict(X, return_std=True), still.predict(X, return_std=True), strict=True):
        np.testing.assert_array_equal(got, own)


def test_what_is_handed_out_is_a_copy(tasks):
    model = fitted("CAVIA", tasks)
    adapted = model.adapt(tasks[0].X[:4], tasks[0].y[:4])
    before = adapted.predict(tasks.X)
    adapted.context_[:] = 9.0
    np.testing.assert_array_equal(adapted.predict(tasks.X), before)
    model = fitted("Meta-SGD", tasks)
    before = model.adapt(tasks[0].X[:4], tasks[0].y[:4]).predict(tasks.X)
    for rate in model.inner_lr_.values():
        rate[:] = 0.0
    np.testing.assert_array_equal(model.adapt(tasks[0].X[:4], tasks[0].y[:4]).predict(tasks.X), before)


def test_the_head_of_a_module_is_what_runs_last(tasks):
    model = MAMLRegressor(**FEW, module=HeadFirst, adapt_layers="head").fit(tasks)
    then = model.module_.state_dict()
    now = model.adapt(tasks[0].X[:4], tasks[0].y[:4]).module_.state_dict()
    assert {n for n in now if not torch.equal(now[n], then[n])} == {"head.weight", "head.bias"}
    in_closed_form = MAMLRegressor(**FEW, module=HeadFirst, inner_solver="bayes").fit(tasks)
    assert in_closed_form.score(tasks) > -1


def test_a_module_without_one_last_layer_names_what_moves(tasks):
    class Sum(HeadFirst):
        def forward(self, X):
            return torch.cat([self.body(X)[:, :1] + 0 * self.head.bias, self.head(torch.tanh(self.body(X)))], dim=1)

    two = TaskSet([Task(task.name, task.X, np.column_stack([task.y, task.y])) for task in tasks])
    module = Sum(1, 1)
    with pytest.raises(ValueError, match="does not end in one layer"):
        MAMLRegressor(**FEW, module=module, adapt_layers="head").fit(two)
    assert MAMLRegressor(**FEW, module=module, adapt_layers=["head"]).fit(two).predict(two.X).shape == (len(two.X), 2)


def test_baselines_of_a_module_with_context_columns(tasks):
    torch.manual_seed(0)
    model = MAMLRegressor(**FEW, module=MLP(1 + 2, 1, [6], "tanh"), context_dim=2)
    assert np.isfinite(pooled(model, tasks).predict(tasks.X)).all()
    with pytest.raises(ValueError, match="fine_tuned moves all weights"):
        fine_tuned(model, tasks)
    adapted = from_scratch(model, tasks, max_iter=3).adapt(tasks[0].X[:4], tasks[0].y[:4])
    assert np.isfinite(adapted.predict(tasks.X)).all()


@pytest.mark.parametrize("steps", [2, 5, 8])
def test_a_warm_start_keeps_the_rates_of_steps(tasks, steps):
    model = fitted("MAML++", tasks, warm_start=True)
    before = {name: rate.copy() for name, rate in model.inner_lr_.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(inner_steps=steps, meta_lr=0.0).fit(tasks)
    for name, rate in model.inner_lr_.items():
        expected = before[name][np.minimum(np.arange(steps), 4)]
        np.testing.assert_array_equal(rate, expected)


def test_weight_decay_leaves_learned_rates_alone(tasks):
    model = fitted("Meta-SGD", tasks, alpha=1e7, meta_lr=1e-5)
    weights = np.concatenate([v.numpy().ravel() for v in model.module_.state_dict().values()])
    assert np.abs(weights).max() < 0.3
    for rate in model.inner_lr_.values():
        np.testing.assert_allclose(rate, 0.05, atol=1e-4)


def test_rates_have_gradients_where_weights_have_none():
    torch.manual_seed(0)
    forward = ModuleForward(MLP(1, 1, [4], "tanh"), 1)
    model = MAMLRegressor(learn_inner_lr="one", inner_steps=3)
    adaptation = Adaptation.of(InnerSettings.read(model._values()), MetaSettings.read(model._values()), forward)
    meta = {**adaptation.meta_parameters(forward.parameters()), "inner_lr:": torch.tensor(0.05, requires_grad=True)}
    rows = Rows(torch.randn(2, 4, 1), torch.randn(2, 4, 1), torch.ones(2, 4))
    start = repeat_for_tasks(adaptation.start(meta), 2)
    solver = adaptation.solver(meta)
    adapted = solver.solve(mapped(forward), squared_error, start, rows, differentiable=True)
    loss = squared_error(mapped(forward)(adapted, rows), rows.y, rows.mask).mean()
    slope = float(torch.autograd.grad(loss, meta["inner_lr:"])[0])
    assert slope < 0  # larger steps fit these rows better


def schedule_of(model):
    return Schedule(MetaSettings.read(model._values()), InnerSettings.read(model._values()), 100)


def test_the_schedule_is_that_of_the_paper():
    exact, first_order = QueryLoss(), QueryLoss(exact=False)
    schedule = schedule_of(MAMLRegressor(inner_steps=4, multi_step_share=0.5, first_order_share=0.2))
    assert schedule.at(0) == (first_order, [0.25] * 4)
    assert schedule.at(19)[0] == first_order
    assert schedule.at(20)[0] == exact
    _, weights = schedule.at(25)  # half of the way
    np.testing.assert_allclose(weights, [0.125, 0.125, 0.125, 0.625])
    np.testing.assert_allclose(sum(schedule.at(49)[1]), 1.0)
    assert schedule.at(50) == schedule.at(99) == schedule.end == (exact, None)
    assert schedule_of(MAMLRegressor(inner_steps=1, multi_step_share=0.5)).at(0) == (exact, None)
    assert schedule_of(MAMLRegressor(meta_gradient="reptile")).judged == (first_order, None)
