"""The head in closed form: normal equations, Bayes' rule, order, and its meta-gradients."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from episodes import episodes, numeric_gradient, relative_error
from metaest.functional import MLP, LinearHead, ModuleForward, Rows, looped, mapped, repeat_for_tasks, squared_error

torch.manual_seed(0)


@pytest.fixture
def features():
    torch.manual_seed(1)
    return ModuleForward(MLP(2, 4, [5], "tanh").double(), 4)


def learned(head, seed=2):
    generator = torch.Generator().manual_seed(seed)
    meta = head.meta_parameters(4, 1, torch.zeros((), dtype=torch.float64))
    return {n: 0.5 * torch.randn(v.shape, generator=generator, dtype=torch.float64) for n, v in meta.items()}


def solved(features, head, meta, support, batch=mapped):
    network = repeat_for_tasks(features.parameters(), support.X.shape[0])
    return head.solve(batch(features), network, meta, support)


@pytest.mark.parametrize("batch", [mapped, looped])
def test_the_ridge_head_is_ridge_regression(features, batch):
    head, support = LinearHead(bayesian=False), episodes().support
    meta = learned(head)
    found = solved(features, head, meta, support, batch)
    for t, n in enumerate((3, 1, 5)):
        phi = features(features.parameters(), support.X[t, :n]).detach().numpy()
        phi = np.column_stack([phi, np.ones(n)])
        ridge = Ridge(alpha=float(meta["head:strength"].exp()), fit_intercept=False, solver="cholesky")
        expected = ridge.fit(phi, support.y[t, :n, 0].numpy()).coef_
        np.testing.assert_allclose(found.mean[t, :, 0].detach(), expected, rtol=1e-9)
    assert not found.mean[3].any()  # a task without rows: the prior mean


def test_the_bayesian_head_is_bayes_rule(features):
    head, data = LinearHead(bayesian=True), episodes()
    meta = learned(head)
    network = repeat_for_tasks(features.parameters(), 4)
    found = head.solve(mapped(features), network, meta, data.support)
    mean, variance = head.predict(mapped(features), network, meta, found, data.query)
    prior_mean, root = head.prior(meta, 4, 1)
    noise = meta["head:noise"].mul(2).exp()
    phi, new = (
        torch.cat([features(features.parameters(), rows.X[0]), torch.ones(rows.X.shape[1], 1)], 1).detach()
        for rows in data
    )
    phi = phi[:3]
    # the joint normal of old and new observations, conditioned: no precision, no posterior of weights
    weights = torch.linalg.inv(root @ root.T)
    among = phi @ weights @ phi.T + torch.eye(3)
    across = new @ weights @ phi.T
    gain = across @ torch.linalg.inv(among)
    away = data.support.y[0, :3] - phi @ prior_mean
    torch.testing.assert_close(mean[0], new @ prior_mean + gain @ away, rtol=1e-9, atol=1e-12)
    covariance = new @ weights @ new.T + torch.eye(len(new)) - gain @ across.T
    torch.testing.assert_close(variance[0, :, 0], noise * covariance.diagonal(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bayesian", [False, True])
def test_meta_gradients_equal_finite_differences(features, bayesian):
    head, data = LinearHead(bayesian), episodes()
    everything = {n: v.requires_grad_() for n, v in {**features.parameters(), **learned(head)}.items()}

    def loss():
        network = {n: v for n, v in everything.items() if not n.startswith("head:")}
        own = {n: v for n, v in everything.items() if n.startswith("head:")}
        return head.losses(mapped(features), repeat_for_tasks(network, 4), own, data).mean()

    analytic = torch.autograd.grad(loss(), list(everything.values()), materialize_grads=True)
    assert relative_error(dict(zip(everything, analytic, strict=True)), numeric_gradient(loss, everything)) < 1e-6


def test_the_order_of_rows_and_what_pads_them_change_nothing(features):
    head, support = LinearHead(bayesian=True), episodes().support
    meta = learned(head)
    base = solved(features, head, meta, support)
    turned = solved(features, head, meta, Rows(*(part.flip(1) for part in support)))
    padded = Rows(*(torch.cat([part, part[:, :1]], dim=1) for part in support))
    padded.mask[:, -1] = 0
    for other in (turned, solved(features, head, meta, padded)):
        torch.testing.assert_close(other.mean, base.mean, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(other.root, base.root, rtol=1e-11, atol=1e-13)


def test_losses_are_of_the_query(features):
    head, data = LinearHead(bayesian=False), episodes()
    meta, network = learned(head), repeat_for_tasks(features.parameters(), 4)
    found = head.solve(mapped(features), network, meta, data.support)
    mean, _ = head.predict(mapped(features), network, meta, found, data.query)
    expected = squared_error(mean, data.query.y, data.query.mask)
    torch.testing.assert_close(head.losses(mapped(features), network, meta, data), expected)
