import math

import pytest
import torch

from metaest import DivergenceError
from metaest.functional import OuterLoop, Scaling


def run(losses, validate=None, **settings):
    loop = OuterLoop(**{"max_iter": 200, "meta_lr": 0.1, **settings})
    return loop.run({"w": torch.zeros(2)}, lambda: None, losses, validate)


def bowl(params, episodes):
    return (params["w"] - torch.tensor([1.0, -2.0])).square().sum()[None]


def test_the_loop_minimises_and_leaves_its_start():
    start = {"w": torch.zeros(2)}
    result = OuterLoop(max_iter=300, meta_lr=0.1).run(start, lambda: None, bowl)
    torch.testing.assert_close(result.params["w"], torch.tensor([1.0, -2.0]), atol=1e-3, rtol=0)
    assert torch.equal(start["w"], torch.zeros(2))
    assert [info.step for info in result.history] == list(range(1, 301))


def test_a_step_of_adam_follows_the_cosine():
    """With a constant gradient every step of Adam is as long as its rate."""
    result = run(lambda params, _: params["w"].sum()[None], max_iter=10, meta_lr=0.1)
    rates = [0.05 * (1 + math.cos(math.pi * s / 10)) for s in range(10)]
    torch.testing.assert_close(result.params["w"], torch.full((2,), -sum(rates)), rtol=1e-5, atol=0)


def test_weight_decay_is_decoupled():
    result = OuterLoop(max_iter=1, meta_lr=0.1, weight_decay=0.5).run(
        {"w": torch.ones(1)}, lambda: None, lambda params, _: 0 * params["w"]
    )
    torch.testing.assert_close(result.params["w"], torch.tensor([1 - 0.1 * 0.5]))


def test_long_gradients_are_shortened_and_short_ones_are_not():
    # Adam's first step does not depend on the length of the gradient; what it leaves for the second step does
    mixed = iter([1e6, 1e-3] * 2)

    def first_steep_then_flat(params, episodes):
        return next(mixed) * params["w"].sum()[None]

    long = run(first_steep_then_flat, max_iter=2)
    short = run(first_steep_then_flat, max_iter=2, max_grad_norm=1e-3)
    assert short.params["w"][0] < long.params["w"][0], "a clipped first gradient leaves the second one its say"


@pytest.mark.parametrize("bad_step", [1, 7])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_meta_loss_that_is_not_finite_names_step_and_remedy(bad_step, value):
    count = iter(range(1, 100))

    def losses(params, episodes):
        return bowl(params, None) * (value if next(count) == bad_step else 1.0)

    with pytest.raises(DivergenceError, match=f"non-finite in meta-step {bad_step}; lower meta_lr"):
        run(losses)


def test_a_meta_gradient_that_is_not_finite_is_an_error():
    with pytest.raises(DivergenceError, match="meta-gradient became non-finite in meta-step 1"):
        run(lambda params, _: params["w"].sqrt().sum()[None])


def test_a_validation_loss_that_is_not_finite_is_an_error():
    with pytest.raises(DivergenceError, match="validation loss became non-finite in meta-step 10"):
        run(bowl, validate=lambda params: math.nan)


def test_early_stopping_returns_the_best_parameters():
    def away_from_start(params):
        return float((params["w"] - 0.5).square().sum())

    result = run(lambda params, _: params["w"].sub(3).square().sum()[None], away_from_start, n_iter_no_change=30)
    assert len(result.history) < 200
    losses = {info.step: info.validation_loss for info in result.history if info.validation_loss is not None}
    assert away_from_start(result.params) == pytest.approx(min(losses.values()))
    assert len(result.history) - min(losses, key=losses.get) == 30


def test_callbacks_see_every_step_and_may_stop():
    steps = []

    def stop_at_five(info):
        steps.append(info.step)
        return info.step == 5

    assert len(run(bowl, callbacks=[stop_at_five]).history) == 5
    assert steps == [1, 2, 3, 4, 5]


def test_progress_bar(capsys):
    run(bowl, max_iter=20, verbose=True)
    assert "meta-steps" in capsys.readouterr().err
    run(bowl, max_iter=20)
    assert capsys.readouterr().err == ""


def test_scaling_and_back():
    values = torch.randn(50, 3, dtype=torch.float64) * torch.tensor([1.0, 100.0, 0.0]) + torch.tensor([5.0, 0.0, 0.3])
    scaling = Scaling.learn(values)
    scaled = scaling.apply(values)
    torch.testing.assert_close(scaled[:, :2].std(dim=0, correction=0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(scaled[:, 2], torch.zeros(50, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(scaling.undo(scaled), values)
