"""inner_solver="evidence": maximum likelihood of linear tasks, and the contract of a predictor that adapts by Bayes' rule."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from metaest import IdentifiabilityWarning, MAMLRegressor, ModelFileError, Task, TaskError, TaskSet, load, save
from metaest.saving.consistency import require_sound
from metaest_datasets import make_linear_tasks, make_sinusoids

FEW = {"inner_solver": "evidence", "hidden_layer_sizes": (8, 6), "max_iter": 12, "random_state": 0}
EXACT = {**FEW, "hidden_layer_sizes": (4,), "activation": "identity", "alpha": 0.0, "dtype": "float64"}
WAVES = make_sinusoids(14, 12, noise=0.1, random_state=0)


def fitted(**settings):
    return MAMLRegressor(**{**FEW, **settings}).fit(WAVES)


def answers(model, rows=5):
    return model.adapt(WAVES[0].X[:rows], WAVES[0].y[:rows]).predict(WAVES[1].X, return_std=True)


def test_where_tasks_share_their_rows_the_fit_is_the_maximum_likelihood_in_closed_form():
    # with one design for all, means are averages of least squares, and covariances those of them less the noise's share
    rng = np.random.default_rng(0)
    X = rng.standard_normal((8, 2))
    phi = np.column_stack([X, np.ones(8)])
    root = np.array([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 0.6]])
    weights = [1.0, -2.0, 0.5] + rng.standard_normal((60, 3)) @ root.T
    y = weights @ phi.T + 0.3 * rng.standard_normal((60, 8))
    model = MAMLRegressor(**{**EXACT, "max_iter": 1500}).fit(TaskSet([Task(i, X, row) for i, row in enumerate(y)]))

    least_squares = y @ np.linalg.pinv(phi).T
    noise = np.square(y - least_squares @ phi.T).sum() / (60 * (8 - 3))
    covariance = np.cov(least_squares.T, bias=True) - noise * np.linalg.inv(phi.T @ phi)
    assert np.linalg.eigvalsh(covariance).min() > 0  # else it is no maximum
    mean, sd = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, phi @ least_squares.mean(axis=0), rtol=0, atol=0.01)
    np.testing.assert_allclose(sd**2, np.diag(phi @ covariance @ phi.T) + noise, rtol=0.01)
    assert float(model._params["head:noise"].exp()) * y.std() == pytest.approx(noise**0.5, rel=0.01)


def test_it_is_exact_on_linear_tasks():
    tasks, population = make_linear_tasks(400, 12, random_state=0)
    model = MAMLRegressor(**{**EXACT, "max_iter": 1000}).fit(tasks[:300])
    error, reference, covered = [], [], []
    for task in tasks[300:]:
        mean, sd = model.adapt(task.X[:4], task.y[:4]).predict(task.X[4:], return_std=True)
        error.append(np.square(mean - task.y[4:]).mean())
        reference.append(np.square(population.predict(task.X[:4], task.y[:4], task.X[4:]) - task.y[4:]).mean())
        covered.append(np.abs(mean - task.y[4:]) < 1.645 * sd)
    assert np.mean(error) < 1.02 * np.mean(reference)
    assert 0.87 < np.mean(covered) < 0.93


def test_rows_in_turn_are_rows_at_once():
    model = fitted(dtype="float64", rank=4)
    X, y = WAVES[0].X[:6], WAVES[0].y[:6]
    at_once = model.adapt(X, y)
    for order in (range(6), [3, 1, 5, 0, 2, 4]):
        step = model.adapt([], [])
        for row in order:
            step = step.partial_adapt(X[[row]], y[[row]])
        for got, expected in zip(step.predict(X, return_std=True), at_once.predict(X, return_std=True), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert (at_once.predict(X, return_std=True)[1] < model.predict(X, return_std=True)[1]).all()
    many = model.adapt_many(TaskSet([(X, y), (X[:2], y[:2])]))
    np.testing.assert_allclose(many[0].predict(X, return_std=True), at_once.predict(X, return_std=True), rtol=1e-9)


def test_support_size_and_split_do_not_matter_to_the_fit():
    expected = fitted()._params
    for settings in ({"support_size": 9}, {"support_size": None, "split": "first"}, {"meta_gradient": "reptile"}):
        for name, value in fitted(**settings)._params.items():
            assert torch.equal(value, expected[name])


def test_a_support_of_the_tasks_own_counts_as_its_other_rows_do():
    model = fitted(dtype="float64")
    own = TaskSet([Task(i, task.X, task.y, support=[0, 3, 5]) for i, task in enumerate(WAVES)])
    other = MAMLRegressor(**{**FEW, "dtype": "float64"}).fit(own)
    np.testing.assert_allclose(other.history_["meta_loss"], model.history_["meta_loss"], rtol=1e-10)


@pytest.mark.parametrize("settings", [{"vectorize": False, "compile": False}, {"compile": True}])
def test_the_loop_and_machine_code_give_the_numbers_of_the_map(settings):
    ragged = TaskSet(
        [(task.X[: 4 + i % 5], np.stack([task.y, task.y**2], 1)[: 4 + i % 5]) for i, task in enumerate(WAVES)]
    )
    mapped, other = (
        MAMLRegressor(**{**FEW, "dtype": "float64", "rank": 3, **how}).fit(ragged)
        for how in ({"compile": False, "vectorize": True}, settings)
    )
    assert other.compiled_ == settings["compile"], other.compiled_reason_
    for name, value in mapped._params.items():
        torch.testing.assert_close(other._params[name], value, rtol=1e-9, atol=1e-11)


def test_without_steps_everyone_gets_the_prior():
    model = fitted(inner_steps=0)
    for got, expected in zip(answers(model), fitted().predict(WAVES[1].X, return_std=True), strict=True):
        np.testing.assert_array_equal(got, expected)
    for got, expected in zip(answers(model.set_params(inner_steps=1)), answers(fitted()), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_early_stopping_judges_by_the_evidence_of_tasks_held_out():
    model = fitted(early_stopping=True, max_iter=40, validation_fraction=0.2)
    judged = model.history_["validation_loss"].dropna()
    assert len(judged) == 4
    assert judged.nunique() > 1


def test_a_rank_beyond_the_weights_is_all_of_them():
    one, other = fitted(rank=10_000), fitted(rank=8)  # a column, six features and the constant one
    assert one._params["head:loading"].shape == (8, 8)
    np.testing.assert_array_equal(answers(one), answers(other))
    with pytest.raises(ValueError, match="rank was set after the fit"):
        other.set_params(rank=2).adapt(WAVES[0].X, WAVES[0].y)
    with pytest.raises(ValueError, match="set after the fit"):
        one.set_params(inner_solver="bayes").predict(WAVES[0].X)


def test_no_more_tasks_than_directions_are_warned_of():
    with pytest.warns(IdentifiabilityWarning, match="8 tasks cannot tell how tasks differ in 8 directions"):
        MAMLRegressor(**FEW).fit(WAVES[:8])
    MAMLRegressor(**FEW, rank=7).fit(WAVES[:8])


def test_it_goes_on_from_an_earlier_fit():
    model = fitted(warm_start=True, max_iter=60)
    loss = model.history_["meta_loss"].iloc[0]
    assert model.fit(WAVES).history_["meta_loss"].iloc[0] < loss - 0.1


class Sites(nn.Module):
    def __init__(self, n_features, n_targets):
        super().__init__()
        self.sites = nn.Embedding(4, 3)
        self.linear = nn.Linear(n_features - 1 + 3, 5)
        self.head = nn.Linear(5, n_targets)

    def forward(self, X):
        return self.head(torch.tanh(self.linear(torch.cat([X[:, 1:], self.sites(X[:, 0].long())], dim=1))))


def test_codes_are_no_features_and_columns_are():
    rng = np.random.default_rng(0)
    tasks = []
    for _ in range(10):
        X = np.column_stack([rng.integers(4, size=9), rng.standard_normal((9, 2))])
        tasks.append((X, X[:, 1] + rng.standard_normal(9)))
    model = MAMLRegressor(**FEW, module=Sites, standardize=[1, 2]).fit(tasks)
    assert model._network.forward.direct == (1, 2)
    adapted = model.adapt(*tasks[0])
    with torch.no_grad():
        scaled = model._network.scale_features(tasks[1][0]).float()
        expected = model._network.in_units(adapted.module_(scaled))
    np.testing.assert_allclose(adapted.predict(tasks[1][0]), expected, rtol=1e-5, atol=1e-6)


def test_images_and_objects_reach_the_head_through_the_network_alone():
    rng = np.random.default_rng(0)
    images = [(rng.standard_normal((6, 1, 4, 4)), rng.standard_normal(6)) for _ in range(5)]
    settings = {**FEW, "rank": 2, "max_iter": 3}
    model = MAMLRegressor(**{**settings, "hidden_layer_sizes": (3,)}).fit(images)
    assert model._network.forward.direct == ()
    assert model.adapt(*images[0]).predict(images[1][0], return_std=True)[1].shape == (6,)
    words = [([("a" * int(n)) for n in rng.integers(1, 9, size=6)], rng.standard_normal(6)) for _ in range(5)]
    model = MAMLRegressor(
        **settings, module=lambda n, k: nn.Sequential(nn.Linear(n, 4), nn.Tanh(), nn.Linear(4, k)), collate_fn=lengths
    ).fit(words)
    assert model._network.forward.direct == ()
    assert model.adapt(*words[0]).predict(words[1][0]).shape == (6,)


def lengths(words):
    return torch.tensor([[float(len(word))] for word in words])


def test_batch_statistics_are_those_of_all_rows_in_the_fit_and_of_the_support_after_it():
    model = fitted(normalization="batch", support_size=1)
    assert np.isfinite(answers(model, 4)).all()
    with pytest.raises(TaskError, match="needs 2"):
        answers(model, 1)
    single = TaskSet([(task.X[:1], task.y[:1]) for task in WAVES])
    with pytest.raises(TaskError, match="support rows and needs 2"):
        MAMLRegressor(**FEW, normalization="batch").fit(single)


def test_tasks_of_one_row_are_learned_from():
    model = MAMLRegressor(**FEW).fit(TaskSet([(task.X[:1], task.y[:1]) for task in WAVES]))
    assert np.isfinite(answers(model)).all()


@pytest.mark.parametrize("far", [1e20, 1e200])
def test_rows_and_targets_far_off_are_errors_or_right(far):
    model = fitted(dtype="float64")
    X, y = WAVES[0].X[:3].copy(), WAVES[0].y[:3].copy()
    X[0] = far
    with pytest.raises((TaskError, ArithmeticError, RuntimeError), match=r"non-finite|not finite|beyond the range"):
        model.adapt(X, y).predict(WAVES[0].X)
    # a posterior mean is linear in the targets: these may be of any size
    plain = model.adapt(WAVES[0].X[:3], y)
    zero = model.adapt(WAVES[0].X[:3], 0 * y).predict(WAVES[1].X)
    large = model.adapt(WAVES[0].X[:3], 1e9 * y).predict(WAVES[1].X)
    np.testing.assert_allclose(large, zero + 1e9 * (plain.predict(WAVES[1].X) - zero), rtol=1e-6)


def test_intervals_guard_pickles_and_files(tmp_path):
    tasks = make_sinusoids(60, 12, noise=0.1, random_state=1)
    model = MAMLRegressor(**{**FEW, "max_iter": 100}).fit(tasks[:30])
    model.calibrate(tasks[30:50], support_size=4)
    guarded = model.adapt(tasks[40].X[:4], tasks[40].y[:4], guard=True)
    _, sd = guarded.predict(tasks[40].X, return_std=True)
    assert (sd > 0).all()
    lower, upper = model.adapt(tasks[50].X[:4], tasks[50].y[:4]).predict_interval(tasks[50].X)
    assert np.std(upper - lower) > 0  # as wide as standard deviations are
    save(model, tmp_path / "model.zip")
    for again in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model.zip")):
        adapted = again.adapt(tasks[40].X[:4], tasks[40].y[:4])
        for got, expected in zip(
            adapted.predict(tasks[40].X, return_std=True),
            model.adapt(tasks[40].X[:4], tasks[40].y[:4]).predict(tasks[40].X, return_std=True),
            strict=True,
        ):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("direct", [(7,), (-1,), (0.0,)])
def test_a_file_whose_head_reads_a_column_that_is_not_there_is_refused(direct):
    model = fitted(max_iter=2)
    require_sound(model)
    model._network.forward.direct = direct
    with pytest.raises(ModelFileError, match="columns that are not there"):
        require_sound(model)
