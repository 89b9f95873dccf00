"""Inner solvers and meta-gradients that are passed as objects where names are."""

import copy
import pickle
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from sklearn.base import clone

from metaest import MAMLClassifier, MAMLRegressor, ModelFileError, OvershootWarning, load, save
from metaest.functional import GradientDescent, Implicit, InnerSolver, MetaGradient, QueryLoss
from metaest_datasets import make_sinusoids
from skeletons.meta_gradient import NearTheStart

SMALL = {"hidden_layer_sizes": (6,), "max_iter": 10, "dtype": "float64", "random_state": 0}


@dataclass(frozen=True)
class SignDescent(InnerSolver):
    """Steps of one length along the signs of the gradient."""

    rate: float = 0.01
    steps: int = 3

    def solve(self, forward, loss, params, support, *, differentiable=False):
        if not any(value.requires_grad for value in params.values()):
            params = {name: value.detach().requires_grad_() for name, value in params.items()}
        for _ in range(self.steps):
            total = loss(forward(params, support), support.y, support.mask).sum()
            slopes = torch.autograd.grad(total, list(params.values()), create_graph=differentiable)
            moved = zip(params.items(), slopes, strict=True)
            params = {name: value - self.rate * slope.sign() for (name, value), slope in moved}
        return params


@pytest.fixture(scope="module")
def tasks():
    return make_sinusoids(12, random_state=0)


def fit(tasks, **settings):
    return MAMLRegressor(**{**SMALL, **settings}).fit(tasks)


def params_equal(one, other):
    return all(torch.equal(value, other._params[name]) for name, value in one._params.items())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_named_objects_are_their_names(tasks):
    named = fit(tasks, inner_steps=3, inner_lr=0.02)
    assert params_equal(named, fit(tasks, inner_solver=GradientDescent(3, 0.02)))
    assert params_equal(named, fit(tasks, inner_steps=3, inner_lr=0.02, meta_gradient=QueryLoss()))
    held = fit(tasks, inner_solver=GradientDescent(3, 0.02, proximal=1.0), meta_gradient=Implicit())
    assert params_equal(held, fit(tasks, inner_steps=3, inner_lr=0.02, meta_gradient="implicit"))


def test_a_solver_of_the_users(tasks):
    model = fit(tasks[:10], inner_solver=SignDescent(), early_stopping=True, compile=True)
    assert not model.compiled_
    assert model.compiled_reason_ == "inner_solver=SignDescent cannot be compiled"
    assert model.inner_lr_ is None
    X, y = tasks[10].X[:4], tasks[10].y[:4]
    adapted = model.adapt(X, y)
    moved = [(value - model._params[name]).abs() for name, value in adapted._params.items()]
    assert 0 < max(float(value.max()) for value in moved) <= 0.03 + 1e-9
    np.testing.assert_allclose(model.adapt_many([(X, y)]).predict(X)[0], adapted.predict(X), rtol=1e-9)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.adapt(X, y).predict(X), adapted.predict(X))
    assert clone(model).inner_solver == SignDescent()
    assert np.isfinite(model.score(tasks[10:]))
    still = model.set_params(inner_steps=0).adapt(X, y)
    np.testing.assert_array_equal(still.predict(X), model.predict(X))


def test_a_solver_of_the_users_for_classes():
    X = np.random.default_rng(0).standard_normal((60, 2))
    y, groups = np.where(X[:, 0] > 0, "a", "b"), np.repeat(np.arange(6), 10)
    model = MAMLClassifier(inner_solver=SignDescent(0.05), max_iter=5, random_state=0).fit(X, y, groups=groups)
    adapted = model.adapt(X[:10], y[:10])
    assert adapted.score(X, y) > (model.predict(X) == y).mean()


def test_a_meta_gradient_of_the_users(tasks):
    free = fit(tasks, meta_gradient=NearTheStart(0.0))
    assert all(torch.allclose(value, fit(tasks)._params[name]) for name, value in free._params.items())
    held = fit(tasks, meta_gradient=NearTheStart(10.0), early_stopping=True, learn_inner_lr="one")
    assert held.inner_lr_ < free.inner_lr_  # steps cost more than they bring
    assert pickle.loads(pickle.dumps(held)).meta_gradient == NearTheStart(10.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapt_layers": "head"}, "SignDescent says itself what moves"),
        ({"context_dim": 1}, "SignDescent says itself what moves"),
        ({"learn_inner_lr": "one"}, "SignDescent says itself what moves"),
        ({"meta_gradient": "implicit"}, "needs a solver that holds parameters to their start"),
        ({"first_order_share": 0.5, "meta_gradient": NearTheStart()}, "first_order_share needs a meta_gradient"),
        ({"multi_step_share": 0.5}, "SignDescent has steps=3 and does not override path"),
        ({"inner_steps": 0, "meta_gradient": "reptile"}, "leaves nothing to learn"),
    ],
)
def test_settings_that_a_solver_contradicts_are_refused(tasks, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(tasks, inner_solver=SignDescent(), **settings)


def test_classes_in_place_of_objects_are_refused(tasks):
    for settings in ({"inner_solver": SignDescent}, {"meta_gradient": NearTheStart}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            fit(tasks, **settings)


@pytest.mark.parametrize("settings", [{"inner_solver": SignDescent()}, {"meta_gradient": NearTheStart()}])
def test_a_file_asks_for_the_class_of_an_object(tasks, settings, tmp_path):
    model, name = fit(tasks, max_iter=1, **settings), type(next(iter(settings.values())))
    save(model, tmp_path / "model")
    with pytest.raises(ModelFileError, match=rf"pass it: load\(path, objects=\[{name.__name__}\]\)"):
        load(tmp_path / "model")
    with pytest.raises(ModelFileError, match=rf"Pass the class itself: load\(path, objects=\[{name.__name__}\]\)"):
        load(tmp_path / "model", objects=list(settings.values()))
    X, y = tasks[0].X[:4], tasks[0].y[:4]
    read = load(tmp_path / "model", objects=[name])
    np.testing.assert_array_equal(read.adapt(X, y).predict(X), model.adapt(X, y).predict(X))


class Solved(InnerSolver):
    """A solver that returns what a function makes of the start."""

    def __init__(self, function, steps=1):
        self.function, self.steps = function, steps

    def solve(self, forward, loss, params, support, *, differentiable=False):
        return self.function(params)


class Judged(MetaGradient):
    """The query loss of the start, after a function."""

    def __init__(self, function):
        self.function = function

    def losses(self, forward, loss, solver, start, episodes, step_weights=None):
        query = episodes.query
        return self.function(loss(forward(start, query), query.y, query.mask))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda params: None, "solve returned NoneType; a dict with the names"),
        (lambda params: dict(list(params.items())[:1]), "solve returned the names"),
        (lambda params: {name: value[0] for name, value in params.items()}, "tasks first"),
        (lambda params: {name: value.float() for name, value in params.items()}, r"solve returned torch\.float32"),
        (lambda params: {name: value.detach().numpy() for name, value in params.items()}, "returned ndarray"),
        (lambda params: {name: value.detach() for name, value in params.items()}, "does not depend on where"),
    ],
)
def test_a_solver_that_returns_something_else_is_refused(tasks, function, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit(tasks, inner_solver=Solved(function))


@pytest.mark.parametrize("steps", [-1, 2.5, "a", None, True])
def test_steps_of_a_solver_are_a_whole_number(tasks, steps):
    with pytest.raises(ValueError, match="its steps must be a whole number of at least 0"):
        fit(tasks, inner_solver=Solved(lambda params: params, steps))


class ShortPath(SignDescent):
    """A solver whose path leaves out the states in between."""

    def path(self, forward, loss, params, support, *, differentiable=False):
        yield params
        yield self.solve(forward, loss, params, support, differentiable=differentiable)


def test_the_states_of_a_path_are_counted_where_they_are_weighted(tasks):
    with pytest.raises(ValueError, match="its path has 2 states and it has 3 steps"):
        fit(tasks, inner_solver=ShortPath(), multi_step_share=0.5)


def test_names_of_a_given_gradient_descent_are_those_of_the_network(tasks):
    for solver in (GradientDescent(1, 0.1, frozenset({"nothing"})), GradientDescent(1, {"nothing": torch.tensor(0.1)})):
        with pytest.raises(ValueError, match="no parameter 'nothing'; there are"):
            fit(tasks, inner_solver=solver)
    with pytest.raises(ValueError, match="moves none of the parameters"):
        fit(tasks, inner_solver=GradientDescent(1, 0.1, frozenset()))
    with pytest.raises(TypeError, match="inner_lr must be a number"):
        GradientDescent(1, "fast")
    with pytest.raises(TypeError, match="inner_steps must be a whole number"):
        GradientDescent(1.5, 0.1)
    assert GradientDescent(1, np.float32(0.5)).rate == 0.5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda losses: losses.mean(), r"losses returned shape \(\) for 2 tasks"),
        (lambda losses: losses.detach(), "cannot be differentiated"),
        (lambda losses: losses.detach().numpy(), "losses returned ndarray"),
    ],
)
def test_a_meta_gradient_that_returns_something_else_is_refused(tasks, function, message):
    with pytest.raises(ValueError, match=message):
        fit(tasks, meta_gradient=Judged(function))


def shaped_rates(value):
    """Return rates of the shape of every parameter of a small network of one feature."""
    model = MAMLRegressor(**SMALL).fit([(np.ones((4, 1)), np.arange(4.0))] * 3)
    return {name: torch.full_like(param, value) for name, param in model.module_.named_parameters()}


@pytest.mark.parametrize("kind", ["numbers", "tensors", "steps"])
def test_rates_of_a_given_solver_may_be_of_each_parameter(tasks, kind):
    rates = shaped_rates(0.01)
    rate = {"numbers": dict.fromkeys(rates, 0.01), "tensors": rates, "steps": [rates, rates]}[kind]
    model = fit(tasks, inner_solver=GradientDescent(2, rate))
    plain = fit(tasks, inner_solver=GradientDescent(2, 0.01))
    X, y = tasks[0].X, tasks[0].y
    np.testing.assert_allclose(model.adapt(X, y).predict(X), plain.adapt(X, y).predict(X), atol=1e-12)
    end = {"numbers": lambda shape: (), "tensors": tuple, "steps": lambda shape: (*shape, 2)}[kind]
    assert {name: np.shape(value) for name, value in model.inner_lr_.items()} == {
        name: end(value.shape) for name, value in rates.items()
    }


def test_rates_of_a_given_solver_are_lowered_and_kept_so(tasks):
    with pytest.warns(OvershootWarning, match="the fit used"):
        model = fit(tasks, inner_solver=GradientDescent(5, shaped_rates(50.0)))
    X, y = tasks[0].X, tasks[0].y
    expected = model.adapt(X, y).predict(X)
    again = model.set_params(inner_solver=GradientDescent(5, shaped_rates(50.0)))
    np.testing.assert_array_equal(again.adapt(X, y).predict(X), expected)


class Plain(MetaGradient):
    """A meta-gradient that is no dataclass, so that its repr holds an address."""

    def losses(self, forward, loss, solver, start, episodes, step_weights=None):
        return QueryLoss(exact=False).losses(forward, loss, solver, start, episodes)


def test_a_guard_is_there_after_pickling_whatever_the_object(tasks):
    model = fit(tasks, meta_gradient=Plain())
    X, y = tasks[0].X, tasks[0].y
    expected = model.adapt(X, y, guard=True).predict(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).adapt(X, y, guard=True).predict(X), expected)


@dataclass(frozen=True)
class Paced(SignDescent):
    """Steps of a length that an object says."""

    pace: dict = field(default_factory=lambda: {"rate": 0.01})

    def solve(self, forward, loss, params, support, *, differentiable=False):
        return SignDescent(self.pace["rate"], self.steps).solve(
            forward, loss, params, support, differentiable=differentiable
        )


def test_a_solver_that_was_changed_after_the_fit_is_refused(tasks, tmp_path):
    X, y = tasks[0].X, tasks[0].y
    model = fit(tasks, inner_solver=Paced())
    expected = model.adapt(X, y).predict(X)
    save(model, tmp_path / "model")
    for other in (
        model,
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        load(tmp_path / "model", objects=[Paced]),
    ):
        np.testing.assert_array_equal(other.adapt(X, y).predict(X), expected)
        other.inner_solver.pace["rate"] = 0.02
        for method, given in (("adapt", (X, y)), ("adapt_many", ([(X, y)],)), ("score", (tasks,))):
            with pytest.raises(ValueError, match="inner_solver=Paced: the object was changed after the fit"):
                getattr(other, method)(*given)
        other.inner_solver.pace["rate"] = 0.01
        np.testing.assert_array_equal(other.adapt(X, y).predict(X), expected)
    np.testing.assert_array_equal(model.set_params(inner_solver=Paced()).adapt(X, y).predict(X), expected)


@dataclass(frozen=True)
class Counting(SignDescent):
    """A solver that notes how many tasks it is given at once."""

    seen: list = field(default_factory=list, compare=False, hash=False)

    def solve(self, forward, loss, params, support, *, differentiable=False):
        self.seen.append(len(support.X))
        return super().solve(forward, loss, params, support, differentiable=differentiable)


def test_objects_are_tried_on_two_tasks(tasks):
    solver = Counting()
    fit(tasks, inner_solver=solver, max_batch_bytes=1, meta_batch_size=12)
    assert max(solver.seen) <= 2


def test_a_solver_that_notes_its_calls_adapts_again(tasks):
    model = fit(tasks, inner_solver=Counting())
    X, y = tasks[0].X, tasks[0].y
    np.testing.assert_array_equal(model.adapt(X, y).predict(X), model.adapt(X, y).predict(X))


def test_a_class_derived_from_one_of_metaest_is_tried(tasks):
    class Mean(QueryLoss):
        def losses(self, *arguments):
            return super().losses(*arguments).mean()

    with pytest.raises(ValueError, match="one loss for each task"):
        fit(tasks, meta_gradient=Mean())
