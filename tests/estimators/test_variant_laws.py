"""Every variant on every problem: the laws of its meta-gradient, through the settings of the estimator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from episodes import loop_over_tasks, numeric_gradient, relative_error, way_back
from metaest import MAMLRegressor
from metaest.estimators.networks.adaptation import Schedule, is_setting
from metaest.estimators.networks.settings import Settings
from metaest.estimators.networks.training import meta_train
from metaest.functional import Episodes, Rows, looped, mapped, repeat_for_tasks, squared_error
from variants import PROBLEMS, VARIANTS

SMALL = {"hidden_layer_sizes": (4, 3, 3), "inner_steps": 3, "max_iter": 3, "dtype": "float64", "alpha": 0.0}
OTHERWISE = {"FOMAML", "Reptile", "iMAML"}  # whose gradient is not that of their loss

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.parametrize("problem", PROBLEMS),
]


class Built:
    """What a fit differentiates: adaptation, forward pass, meta-parameters after three meta-steps, and ragged episodes."""

    def __init__(self, settings, problem):
        self.model = MAMLRegressor(**{**SMALL, **settings})
        tasks = PROBLEMS[problem]()[:5]
        settings = Settings.read(self.model._values())
        network, params, *_ = meta_train(self.model.kind, settings, tasks, seed=0)
        self.forward = network.forward
        self.adaptation = self.model.kind.adaptation(settings.inner, settings.meta, network)
        self.meta = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        self.model.support_size = (1, 4)
        rng = np.random.default_rng(0)
        sampler = self.model.kind.sampler(network, tasks, self.adaptation, rng, training=True)
        self.episodes = sampler.episodes(np.arange(5))
        self.end = Schedule(settings.meta, settings.inner, 3).end

    def loss(self, batch=mapped, episodes=None, adaptation=None, differentiated=None):
        return (adaptation or self.adaptation).losses(
            batch(self.forward), squared_error, self.meta, episodes or self.episodes, differentiated or self.end
        )

    def gradient(self, **options):
        values = torch.autograd.grad(self.loss(**options).mean(), list(self.meta.values()), materialize_grads=True)
        return dict(zip(self.meta, values, strict=True))


def turned(rows, by_task, by_row):
    parts = (part.flip(0) if by_task else part for part in rows)
    return Rows(*(part.flip(1) if by_row else part for part in parts))


def padded(rows):
    X, y, mask = (torch.cat([part, part[:, :1].expand(-1, 3, *part.shape[2:])], dim=1) for part in rows)
    mask[:, -3:] = 0
    return Rows(X, y, mask)


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - OTHERWISE))
def test_meta_gradients_equal_finite_differences(variant, problem):
    built = Built(VARIANTS[variant], problem)
    numeric = numeric_gradient(lambda: built.loss().mean(), built.meta)
    assert relative_error(built.gradient(), numeric) < 1e-6
    assert all(value.any() for name, value in numeric.items() if is_setting(name))  # rates and priors are learned


@pytest.mark.parametrize("variant", VARIANTS)
def test_order_padding_and_the_loop_change_nothing(variant, problem):
    built = Built(VARIANTS[variant], problem)
    base = built.gradient()
    support, query = built.episodes
    for episodes in (
        Episodes(turned(support, True, False), turned(query, True, False)),
        Episodes(turned(support, False, True), turned(query, False, True)),
        Episodes(padded(support), padded(query)),
    ):
        assert relative_error(built.gradient(episodes=episodes), base) < 1e-8
    assert relative_error(built.gradient(batch=looped), base) < 1e-8


@pytest.mark.parametrize("variant", sorted(set(VARIANTS) - {"evidence"}))
def test_without_steps_there_is_the_answer_for_everyone(variant, problem):
    built = Built(VARIANTS[variant], problem)
    shared = repeat_for_tasks(built.adaptation.start(built.meta), 5)
    query = built.episodes.query
    joint = squared_error(mapped(built.forward)(shared, query), query.y, query.mask)
    torch.testing.assert_close(built.loss(adaptation=replace(built.adaptation, steps=0)), joint, rtol=1e-12, atol=0)


def test_the_evidence_of_whole_tasks_is_that_without_steps(problem):
    built = Built(VARIANTS["evidence"], problem)
    torch.testing.assert_close(built.loss(adaptation=replace(built.adaptation, steps=0)), built.loss(), rtol=0, atol=0)


@pytest.mark.parametrize("variant", ["MAML", "FOMAML", "ANIL", "BOIL", "some layers", "CAVIA"])
def test_a_rate_of_zero_is_joint_training(variant, problem):
    built = Built(VARIANTS[variant], problem)
    still = built.gradient(adaptation=replace(built.adaptation, rate=0.0))
    assert relative_error(still, built.gradient(adaptation=replace(built.adaptation, steps=0))) < 1e-12


@pytest.mark.parametrize("variant", ["MAML", "FOMAML"])
def test_maml_is_its_plain_loop(variant, problem):
    built = Built(VARIANTS[variant], problem)
    plain = loop_over_tasks(built.forward.module, built.meta, built.episodes, 3, 0.05, exact=variant == "MAML")
    assert relative_error(built.gradient(), plain) < 1e-10


def test_reptile_is_its_plain_loop(problem):
    built = Built(VARIANTS["Reptile"], problem)
    assert relative_error(built.gradient(), way_back(built.forward.module, built.meta, built.episodes, 3, 0.05)) < 1e-10


def test_the_implicit_gradient_is_the_unrolled_one_at_the_minimum(problem):
    built = Built({**VARIANTS["iMAML"], "proximal": 5.0}, problem)
    long = replace(built.adaptation, steps=400, rate=0.05)
    unrolled = built.gradient(adaptation=long, differentiated=("exact", None))
    assert relative_error(built.gradient(adaptation=long), unrolled) < 1e-8


def test_anil_with_every_layer_is_maml(problem):
    maml = Built(VARIANTS["MAML"], problem)
    every = Built({"adapt_layers": [f"layers.{i}" for i in range(4)]}, problem)
    one, other = maml.gradient(), every.gradient()
    assert all(torch.equal(one[name], other[name]) for name in one)
    head = Built(VARIANTS["ANIL"], problem).gradient()
    assert relative_error(head, one) > 1e-3
