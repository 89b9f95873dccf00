"""The head in closed form: normal equations, Bayes' rule, order, and its meta-gradients."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from episodes import episodes, numeric_gradient, relative_error
from metaest.functional import (
    MLP,
    Episodes,
    HeadForward,
    LinearHead,
    ModuleForward,
    Rows,
    looped,
    mapped,
    repeat_for_tasks,
    split_head,
    squared_error,
)
from metaest.functional.modules.head import HEAD

torch.manual_seed(0)
# support and query rows of tasks: fewer support rows than the four features and the constant one, and as many
FEW, MANY = ((3, 4), (1, 6), (4, 2), (0, 3)), ((3, 4), (1, 6), (5, 2), (0, 3))
PROBES = torch.randn(8, 2, dtype=torch.float64)


@pytest.fixture
def network():
    torch.manual_seed(1)
    return MLP(2, 1, [5, 4], "tanh").double()


@pytest.fixture
def forward(network):
    body, n_hidden = split_head(network, PROBES)
    return HeadForward(body, 1, n_hidden)


def learned(head, seed=2):
    generator = torch.Generator().manual_seed(seed)
    meta = head.meta_parameters(torch.zeros((), dtype=torch.float64))
    return {n: 0.5 * torch.randn(v.shape, generator=generator, dtype=torch.float64) for n, v in meta.items()}


def start_of(forward, head, meta, n_tasks=4):
    return repeat_for_tasks({**forward.parameters(), **head.start(meta)}, n_tasks)


def features(forward, X):
    features = ModuleForward(forward.module, forward.n_hidden)
    phi = features(features.parameters(), X)
    return torch.cat([phi, torch.ones(len(X), 1, dtype=phi.dtype)], dim=1)


def test_the_last_layer_is_split_off(network):
    body, n_hidden = split_head(network, PROBES)
    assert n_hidden == 4
    X = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(network.layers[-1](body(X)), network(X))
    whole = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh()).double()
    with pytest.raises(ValueError, match="something comes after"):
        split_head(whole, PROBES)
    with pytest.raises(ValueError, match="one linear layer"):
        split_head(nn.Linear(2, 1).double(), PROBES)
    with pytest.raises(ValueError, match="LayerNorm"):
        split_head(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)).double(), PROBES)


@pytest.mark.parametrize("batch", [mapped, looped])
def test_the_ridge_head_is_ridge_regression(forward, batch):
    head, support = LinearHead(False, 4, 1), episodes().support
    meta = learned(head)
    weights = head.condition(batch(forward), start_of(forward, head, meta), support)[HEAD]
    for t, n in enumerate((3, 1, 5)):
        phi = features(forward, support.X[t, :n]).detach().numpy()
        ridge = Ridge(alpha=float(meta["head:strength"].exp()), fit_intercept=False, solver="cholesky")
        expected = ridge.fit(phi, support.y[t, :n, 0].numpy()).coef_
        np.testing.assert_allclose(weights[t, :, 0].detach(), expected, rtol=1e-9)
    assert not weights[3].any()  # a task without rows: the prior mean


def test_the_bayesian_head_is_bayes_rule(forward):
    head, data = LinearHead(True, 4, 1), episodes()
    meta = learned(head)
    before = start_of(forward, head, meta)
    after = head.condition(mapped(forward), before, data.support)
    mean, variance = mapped(forward)(after, data.query), head.variance(mapped(forward), after, data.query)
    root, noise = before["head:precision"][0], meta["head:noise"].mul(2).exp()
    phi, new = features(forward, data.support.X[0, :3]), features(forward, data.query.X[0])
    # the joint normal of old and new observations, conditioned: no precision, no posterior of weights
    weights = torch.linalg.inv(root @ root.T)
    gain = new @ weights @ phi.T @ torch.linalg.inv(phi @ weights @ phi.T + torch.eye(3))
    away = data.support.y[0, :3] - phi @ meta["head:mean"]
    torch.testing.assert_close(mean[0], new @ meta["head:mean"] + gain @ away, rtol=1e-9, atol=1e-12)
    covariance = new @ weights @ new.T + torch.eye(len(new)) - gain @ phi @ weights @ new.T
    torch.testing.assert_close(variance[0, :, 0], noise * covariance.diagonal(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", [FEW, MANY])
@pytest.mark.parametrize("bayesian", [False, True])
@pytest.mark.parametrize("n_targets", [1, 3])
def test_answers_of_the_system_of_rows_and_of_that_of_features_are_those_of_the_posterior(
    network, bayesian, sizes, n_targets
):
    body, n_hidden = split_head(network, PROBES)
    forward, head, data = HeadForward(body, n_targets, n_hidden), LinearHead(bayesian, 4, n_targets), episodes(3, sizes)
    data = Episodes(*(rows._replace(y=rows.y[..., :n_targets]) for rows in data))
    start = start_of(forward, head, learned(head))
    prediction, variance = head.answers(mapped(forward), start, data)
    after = head.condition(mapped(forward), start, data.support)
    torch.testing.assert_close(prediction, mapped(forward)(after, data.query), rtol=1e-10, atol=1e-12)
    assert (variance is None) == (not bayesian)
    if bayesian:
        expected = head.variance(mapped(forward), after, data.query)
        torch.testing.assert_close(variance, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sizes", [FEW, MANY])
def test_answers_whose_pivots_are_lost_in_rounding_are_not_numbers(forward, sizes):
    head, data = LinearHead(True, 4, 1), episodes(sizes=sizes)
    meta = learned(head)
    meta["head:root"] = torch.diag(torch.full((5,), -20.0, dtype=torch.float64))
    start = start_of(forward, head, meta)
    data.support.X[:] = data.support.X[:, :1]
    prediction, _ = head.answers(mapped(forward), start, data)
    assert prediction[0].isnan().all()
    assert prediction[3].isfinite().all()  # a task without rows


def test_a_variance_that_is_the_rounding_of_a_difference_is_not_a_number(forward):
    head, data = LinearHead(True, 4, 1), episodes(sizes=FEW)
    data.query.X[0, :3] = data.support.X[0, :3]
    for size, close in ((-8.0, 1e-3), (-20.0, None)):
        meta = learned(head)
        meta["head:root"] = torch.diag(torch.full((5,), size, dtype=torch.float64))
        _, variance = head.answers(mapped(forward), start_of(forward, head, meta), data)
        # rows of the support are known but for the noise of theirs and of the new ones
        expected = torch.full((3, 1), 2.0, dtype=torch.float64) * meta["head:noise"].mul(2).exp()
        torch.testing.assert_close(
            variance[0, :3],
            expected if close else torch.full_like(expected, torch.nan),
            rtol=close or 0,
            atol=0,
            equal_nan=True,
        )


@pytest.mark.parametrize("sizes", [FEW, MANY])
@pytest.mark.parametrize("bayesian", [False, True])
def test_meta_gradients_equal_finite_differences(forward, bayesian, sizes):
    head, data = LinearHead(bayesian, 4, 1), episodes(sizes=sizes)
    everything = {n: v.requires_grad_() for n, v in {**forward.parameters(), **learned(head)}.items()}

    def loss():
        network = {n: v for n, v in everything.items() if not n.startswith("head:")}
        start = repeat_for_tasks({**network, **head.start(everything)}, 4)
        return head.losses(mapped(forward), start, data).mean()

    analytic = torch.autograd.grad(loss(), list(everything.values()), materialize_grads=True)
    assert relative_error(dict(zip(everything, analytic, strict=True)), numeric_gradient(loss, everything)) < 1e-6


def test_order_parts_and_padding_of_the_rows_change_nothing(forward):
    head, support = LinearHead(True, 4, 1), episodes().support
    start = start_of(forward, head, learned(head))
    base = head.condition(mapped(forward), start, support)
    padded = Rows(*(torch.cat([part, part[:, :1]], dim=1) for part in support))
    padded.mask[:, -1] = 0
    parts = Rows(*(part[:, :2] for part in support)), Rows(*(part[:, 2:] for part in support))
    one_after_the_other = head.condition(mapped(forward), head.condition(mapped(forward), start, parts[0]), parts[1])
    turned = head.condition(mapped(forward), start, Rows(*(part.flip(1) for part in support)))
    for other in (turned, head.condition(mapped(forward), start, padded), one_after_the_other):
        for name in (HEAD, "head:precision"):
            torch.testing.assert_close(other[name], base[name], rtol=1e-10, atol=1e-12)


def test_losses_are_of_the_query(forward):
    head, data = LinearHead(False, 4, 1), episodes()
    start = start_of(forward, head, learned(head))
    after = head.condition(mapped(forward), start, data.support)
    expected = squared_error(mapped(forward)(after, data.query), data.query.y, data.query.mask)
    torch.testing.assert_close(head.losses(mapped(forward), start, data), expected)
