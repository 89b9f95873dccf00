"""The head learned by the evidence of whole tasks: the joint normal density, Bayes' rule, and what must not matter."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from episodes import episodes, numeric_gradient, relative_error
from metaest.functional import MLP, EvidenceHead, HeadForward, Rows, looped, mapped, repeat_for_tasks, split_head
from metaest.functional.modules.forward import alone
from metaest.functional.modules.head import HEAD

SIZES = ((3, 4), (1, 6), (5, 2), (0, 3))
N_ROWS = [support + query for support, query in SIZES]


@pytest.fixture
def forward():
    torch.manual_seed(1)
    body, n_hidden = split_head(MLP(2, 1, [5, 4], "tanh").double(), torch.randn(8, 2, dtype=torch.float64))
    return HeadForward(body, 1, n_hidden, [0, 1])


def learned(head, seed=2):
    generator = torch.Generator().manual_seed(seed)
    meta = head.meta_parameters(torch.zeros((), dtype=torch.float64))
    return {n: 0.5 * torch.randn(v.shape, generator=generator, dtype=torch.float64) for n, v in meta.items()}


def parameters(forward, head, meta, n_tasks=1):
    return repeat_for_tasks({**forward.parameters(), **head.start(meta)}, n_tasks)


def features(forward, X):
    """Columns, features of the network, and one: unit weights show them."""
    unit = torch.eye(forward.n_features + 1, dtype=X.dtype)
    return forward({**forward.parameters(), HEAD: unit}, X)


def joint(forward, head, meta, X):
    """The normal of all rows of a task, all targets of a row after the other: mean and covariance."""
    phi, n_targets = features(forward, X), head.n_targets
    loading = meta["head:loading"].reshape(len(meta["head:mean"]), n_targets, -1)
    B = torch.einsum("np,pkr->nkr", phi, loading).reshape(len(X) * n_targets, -1)
    noise = meta["head:noise"].mul(2).exp().repeat(len(X))
    return (phi @ meta["head:mean"]).reshape(-1), B @ B.T + torch.diag(noise)


def rows_of(data, task, n_targets):
    X, y = (
        torch.cat([part[task, : int(rows.mask[task].sum())] for rows, part in zip(data, parts, strict=True)])
        for parts in ((data.support.X, data.query.X), (data.support.y, data.query.y))
    )
    return X, y[:, :n_targets]


@pytest.mark.parametrize("batch", [mapped, looped])
@pytest.mark.parametrize(("n_targets", "rank"), [(1, 1), (1, 3), (1, 7), (3, 2), (2, 12)])
def test_the_loss_is_the_density_of_a_multivariate_normal(forward, batch, n_targets, rank):
    head, data = EvidenceHead(6, n_targets, rank), episodes(n_targets, SIZES)
    meta = learned(head)
    losses = head.losses(batch(forward), parameters(forward, head, meta), data)
    for task, n_rows in enumerate(N_ROWS):
        X, y = rows_of(data, task, n_targets)
        density = MultivariateNormal(*joint(forward, head, meta, X)).log_prob(y.reshape(-1))
        torch.testing.assert_close(losses[task], -density / n_rows, rtol=1e-10, atol=0)


@pytest.mark.parametrize("n_targets", [1, 2])
def test_the_loss_is_the_sum_of_densities_of_each_row_given_those_before_in_any_order(forward, n_targets):
    head, data = EvidenceHead(6, n_targets, 3), episodes(n_targets, SIZES)
    meta = learned(head)
    losses = head.losses(mapped(forward), parameters(forward, head, meta), data)
    X, y = rows_of(data, 0, n_targets)
    for order in (range(7), [4, 0, 6, 2, 5, 1, 3]):
        params, total = parameters(forward, head, meta), 0.0
        for i in order:
            row = Rows(X[None, [i]], y[None, [i]], torch.ones(1, 1, dtype=torch.float64))
            if n_targets == 1:  # targets of a row are correlated: their joint density is not that of their variances
                sd = head.variance(mapped(forward), params, row)[0, 0].sqrt()
                total -= torch.distributions.Normal(mapped(forward)(params, row)[0, 0], sd).log_prob(y[i]).sum()
            else:
                row_loss = head.losses(mapped(forward), params, type(data)(Rows(*(p[:, :0] for p in row)), row))
                total += row_loss[0]
            params = head.condition(mapped(forward), params, row)
        torch.testing.assert_close(total / 7, losses[0], rtol=1e-10, atol=0)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_gradients_equal_finite_differences(forward, n_targets):
    head, data = EvidenceHead(6, n_targets, 2), episodes(n_targets, SIZES)
    everything = {n: v.requires_grad_() for n, v in {**forward.parameters(), **learned(head)}.items()}

    def loss():
        network = {n: v for n, v in everything.items() if not n.startswith("head:")}
        shared = repeat_for_tasks({**network, **head.start(everything)}, 1)
        return head.losses(mapped(forward), shared, data).mean()

    analytic = torch.autograd.grad(loss(), list(everything.values()), materialize_grads=True)
    assert relative_error(dict(zip(everything, analytic, strict=True)), numeric_gradient(loss, everything)) < 1e-6


@pytest.mark.parametrize("n_targets", [1, 2])
def test_the_posterior_is_that_of_conditioning_the_joint_normal(forward, n_targets):
    # the best linear unbiased prediction, and its variance
    head, data = EvidenceHead(6, n_targets, 3), episodes(n_targets, SIZES)
    meta = learned(head)
    after = head.condition(mapped(forward), parameters(forward, head, meta, 4), data.support)
    predicted, variance = mapped(forward)(after, data.query), head.variance(mapped(forward), after, data.query)
    for task, (n, m) in enumerate(SIZES):
        X, y = rows_of(data, task, n_targets)
        mean, covariance = joint(forward, head, meta, X)
        old, new = slice(0, n * n_targets), slice(n * n_targets, None)
        gain = covariance[new, old] @ torch.linalg.inv(covariance[old, old])
        expected = mean[new] + gain @ (y.reshape(-1)[old] - mean[old])
        spread = (covariance[new, new] - gain @ covariance[old, new]).diagonal()
        torch.testing.assert_close(predicted[task, :m].reshape(-1), expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(variance[task, :m].reshape(-1), spread, rtol=1e-9, atol=1e-12)


def test_order_parts_and_padding_of_the_rows_change_nothing(forward):
    head, data = EvidenceHead(6, 1, 3), episodes(1, SIZES)
    start, support = parameters(forward, head, learned(head), 4), data.support
    shared = {name: value[:1] for name, value in start.items()}
    padded = Rows(*(torch.cat([part, part[:, :1]], dim=1) for part in support))
    padded.mask[:, -1] = 0
    turned = Rows(*(part.flip(1) for part in support))
    parts = Rows(*(part[:, :2] for part in support)), Rows(*(part[:, 2:] for part in support))
    in_turn = head.condition(mapped(forward), head.condition(mapped(forward), start, parts[0]), parts[1])
    losses = head.losses(mapped(forward), shared, data)
    base = head.condition(mapped(forward), start, support)
    for other in (padded, turned):
        torch.testing.assert_close(head.losses(mapped(forward), shared, data._replace(support=other)), losses)
    for other in (
        head.condition(mapped(forward), start, padded),
        head.condition(mapped(forward), start, turned),
        in_turn,
    ):
        torch.testing.assert_close(mapped(forward)(other, data.query), mapped(forward)(base, data.query))
        torch.testing.assert_close(
            head.variance(mapped(forward), other, data.query), head.variance(mapped(forward), base, data.query)
        )


@pytest.mark.parametrize("task", range(4))
def test_tasks_do_not_see_each_other(forward, task):
    head, data = EvidenceHead(6, 1, 3), episodes(1, SIZES)
    shared = parameters(forward, head, learned(head))
    one = type(data)(*(Rows(*(part[task : task + 1] for part in rows)) for rows in data))
    together = head.losses(mapped(forward), shared, data)[task]
    for batch in (mapped, looped, alone):
        torch.testing.assert_close(head.losses(batch(forward), shared, one)[0], together, rtol=1e-12, atol=0)


def test_single_precision_is_double_precision_to_rounding(forward):
    head, data = EvidenceHead(6, 1, 3), episodes(1, SIZES)
    shared = parameters(forward, head, learned(head))
    narrow = type(data)(*(Rows(*(part.float() for part in rows)) for rows in data))
    losses = head.losses(mapped(forward), {name: value.float() for name, value in shared.items()}, narrow)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses.double(), head.losses(mapped(forward), shared, data), rtol=1e-4, atol=1e-5)


def test_a_system_that_is_lost_in_rounding_is_not_a_number(forward):
    head, data = EvidenceHead(6, 1, 3), episodes(1, SIZES)
    meta = learned(head)
    data.support.X[:] *= 1e12
    after = head.condition(mapped(forward), parameters(forward, head, meta, 4), data.support)
    assert after[HEAD][:3].isnan().all()
    assert after[HEAD][3].isfinite().all()  # a task without rows


def test_loadings_begin_orthogonal_and_the_prior_small():
    head = EvidenceHead(6, 2, 5)
    meta = head.meta_parameters(torch.zeros((), dtype=torch.float64))
    loading = meta["head:loading"].reshape(14, 5)
    torch.testing.assert_close(loading.T @ loading, torch.eye(5, dtype=torch.float64))
    assert not meta["head:mean"].any()
    again = head.meta_parameters(torch.zeros((), dtype=torch.float64))
    again["head:loading"] += 1  # what is handed out is a copy
    assert not np.allclose(again["head:loading"], head.meta_parameters(torch.zeros(()))["head:loading"])
    assert math.isclose(float(meta["head:noise"][0].exp()), 0.5)
