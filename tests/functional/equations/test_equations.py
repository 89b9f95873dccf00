"""An equation for one task, evaluated for many: three ways, one answer."""

import pytest
import torch

from equations import EQUATIONS, branching, cumulated, decay, model_of, observations
from metaest.functional import Equation, Observations, Transforms
from metaest.functional.equations.probing import agrees_one_by_one, check_equation, choose_mode

THETA = torch.tensor([[0.4, 0.9, 1.3, 0.2, 0.7], [1.5, 2.5, 0.6, 3.0, 1.1]], dtype=torch.float64)


def slopes_by_differences(equation, theta, rows, step=1e-6):
    columns = []
    for k in range(len(theta)):
        up, down = theta.clone(), theta.clone()
        up[k] += step
        down[k] -= step
        columns.append((equation.values(up, rows) - equation.values(down, rows)) / (2 * step))
    return columns


def test_thinned_rows_are_spread_over_each_task():
    X = torch.arange(40.0).reshape(2, 20, 1).double()
    mask = torch.ones(2, 20).double()
    mask[1, 3:] = 0
    thin = Observations.stack(X, X[..., 0] + 0.5, mask).thin(5)
    assert thin.y.T.tolist()[0] == [0.5, 5.5, 10.5, 14.5, 19.5]
    assert thin.y.T[1, :3].tolist() == [20.5, 21.5, 22.5]
    assert thin.mask.T.tolist() == [[1.0] * 5, [1.0, 1.0, 1.0, 0.0, 0.0]]
    torch.testing.assert_close(thin.by_task()[..., 0] + 0.5, thin.y.T)
    assert thin.thin(5) is thin


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("mode", ["rows", "vmap", "loop"])
def test_every_way_gives_the_loops_values_and_slopes(name, mode):
    if name == "cumulated" and mode == "rows":
        pytest.skip("its rows see each other")
    rows = observations()
    loop = model_of(name, mode="loop").equation
    equation = model_of(name, mode=mode).equation
    real = rows.mask > 0
    values, slopes = equation.values_and_slopes(THETA, rows)
    torch.testing.assert_close(values[real], loop.values(THETA, rows)[real], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(equation.values(THETA, rows)[real], values[real])
    for slope, expected in zip(slopes, slopes_by_differences(loop, THETA, rows), strict=True):
        torch.testing.assert_close(slope[real], expected[real], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mode", ["rows", "vmap"])
def test_slopes_can_be_differentiated_again(mode):
    rows = observations()
    equation = model_of("decay", mode=mode).equation
    theta = THETA.clone().requires_grad_()
    _, slopes = equation.values_and_slopes(theta, rows, differentiable=True)
    (second,) = torch.autograd.grad((slopes[0] * rows.mask).sum(), theta)
    t, y = rows.X.reshape(*rows.y.shape), rows.mask
    expected = (y * THETA[1] * t**2 * torch.exp(-THETA[0] * t)).sum(dim=0)
    torch.testing.assert_close(second[0], expected)


@pytest.mark.parametrize(
    ("function", "mode", "why"),
    [
        (decay, "rows", "rows: gives"),
        (cumulated, "vmap", "vmap: gives"),
        (branching, "loop", "rows: Boolean value of Tensor"),
        (lambda X, k, a: a * X[:, 0] / X[:, 0].max() + k, "vmap", "vmap: gives"),  # a repeated row keeps the maximum
        (lambda X, k, a: a * (k * X[:, 0] - (k * X[:, 0]).mean()), "loop", "rows: gives another result"),
    ],
)
def test_the_way_is_found_by_trying(function, mode, why):
    rows = observations((3, 3, 2, 3))
    chosen, reason = choose_mode(Equation(function, ("k", "a")), THETA[:, :4], rows)
    assert chosen == mode
    assert reason.startswith(why)


@pytest.mark.parametrize("column", [0, 17, 29])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("mapped", [True, False])
def test_an_equation_that_branches_on_another_row_is_told_among_many_columns(column, sign, mapped):
    rows = observations((3, 3, 2, 3))
    columns = torch.cat([rows.X, torch.zeros(len(rows.X), 29, dtype=torch.float64)], dim=1)
    neighbours = torch.zeros(60, 30, dtype=torch.float64)
    neighbours[torch.arange(30), torch.arange(30)] = 9.0
    neighbours[torch.arange(30, 60), torch.arange(30)] = -9.0

    def steep(X, k, a):
        far = (sign * X[:, column] > 8).any()
        # torch maps the first, and refuses to map the second
        return a * torch.exp(-k * X[:, 0].abs()) * (torch.where(far, 2.0, 1.0) if mapped else 2.0 if bool(far) else 1.0)

    chosen, _ = choose_mode(
        Equation(steep, ("k", "a")),
        THETA[:, :4],
        rows._replace(X=columns),
        neighbours[torch.randperm(60, generator=torch.Generator().manual_seed(column))],
    )
    assert chosen != "rows"
    plain = choose_mode(Equation(decay, ("k", "a")), THETA[:, :4], rows._replace(X=columns), neighbours)
    assert plain[0] == "rows"


def test_a_task_of_all_padding_is_harmless():
    rows = observations((2, 0, 1))
    for mode in ("rows", "vmap", "loop"):
        values, _ = model_of("decay", mode=mode).equation.values_and_slopes(THETA[:, :3], rows)
        assert torch.isfinite(values).all()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda X, k, a: k * a, ValueError, r"shape \(\) for 4 rows; \(4,\) is wanted"),
        (lambda X, k, a: (k * X).repeat(1, 2), ValueError, r"shape \(4, 2\) for 4 rows"),
        (lambda X, k, a: torch.ones(len(X)) * k, TypeError, r"returned torch.float32; .* dtype=X.dtype"),
        (lambda X, k, a: 3.0, TypeError, "returned float; a tensor of shape"),
    ],
)
def test_what_comes_back_is_checked(function, error, message):
    with pytest.raises(error, match=message):
        Equation(function, ("k", "a"))(THETA[:, 0].unbind(0), torch.ones(4, 1, dtype=torch.float64))


def test_a_column_is_taken_as_rows():
    column = Equation(lambda X, k, a: a * torch.exp(-k * X), ("k", "a"), "rows")
    flat = Equation(decay, ("k", "a"), "rows")
    rows = observations((3, 3))
    # one number a row, as a column of one: constants of one task each
    for t in range(2):
        X = rows.by_task()[t]
        torch.testing.assert_close(column(THETA[:, t].unbind(0), X), flat(THETA[:, t].unbind(0), X))


def test_an_equation_without_a_graph_has_no_slopes():
    """A guard may return a plain tensor; that constants are hidden is found out once, by the probe."""
    equation = Equation(lambda X, k, a: X[:, 0] * k.detach(), ("k", "a"), "rows")
    _, slopes = equation.values_and_slopes(THETA, observations())
    assert not any(slope.any() for slope in slopes)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda X, k, a: X[:, 0] * k.detach() * a, TypeError, "depends on 'k' in a way torch cannot"),
        (lambda X, k, a: a * torch.exp(-k * X[:, 0]) + 5 * torch.exp(-k.detach()), TypeError, "depends on 'k'"),
        (lambda X, k, a: k * X[:, 0] + a + 1e-3 * torch.randn(len(X)), ValueError, "two results for the same X"),
        (lambda X, k, a: X.mul_(2)[:, 0] * k + a, ValueError, "changes X in place"),
        (lambda X, k, a: k.mul_(2) * X[:, 0] + a, ValueError, "changes a constant or X in place"),
        (decay, None, None),
        (lambda X, k, a: a * torch.clamp(X[:, 0] - k, min=0), None, None),
        (lambda X, k, a: 1e9 + a * torch.exp(-k * X[:, 0]), None, None),
        (lambda X, k, a: a + 0 * k + torch.where(X[:, 0] > 0.5, k, 2 * k), None, None),
        (lambda X, k, a: a * X[:, 0], None, None),
    ],
)
def test_hidden_constants_random_numbers_and_changes_in_place_are_found(function, error, message):
    X = torch.linspace(0, 2, 9, dtype=torch.float64)[:, None]
    theta = torch.tensor([0.7, 1.3], dtype=torch.float64)
    equation = Equation(function, ("k", "a"))
    if message is None:
        check_equation(equation, theta, X)
    else:
        with pytest.raises(error, match=message):
            check_equation(equation, theta, X)


@pytest.mark.parametrize("sizes", [(3, 2, 4, 3, 5), (3, 2, 4, 3, 5) * 3])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_branch_on_a_constant_is_told_from_values_alone(sizes, mapped):
    rows = observations(sizes)
    theta = THETA[:, :5].repeat(1, len(sizes) // 5)

    def doubled(X, k, a):
        high = (k > 1).any()
        return (torch.where(high, 2.0, 1.0) if mapped else 2.0 if bool(high) else 1.0) * a * X[:, 0]

    branch = Equation(doubled, ("k", "a"), "rows")
    assert not agrees_one_by_one(branch, theta, rows)
    low = theta.clone()
    low[0] = 0.5
    assert agrees_one_by_one(branch, low, rows)


def test_numpy_on_constants_says_so():
    import numpy as np

    equation = Equation(lambda X, k, a: torch.from_numpy(np.exp(k.numpy())) * X[:, 0], ("k", "a"), "rows")
    with pytest.raises(TypeError, match="torch functions"):
        equation.values_and_slopes(THETA, observations())


def test_observations_keep_their_tasks_apart():
    rows = observations((3, 1, 5))
    some = rows.take(torch.tensor([2, 0]))
    torch.testing.assert_close(some.by_task(), rows.by_task()[[2, 0]])
    torch.testing.assert_close(some.y, rows.y[:, [2, 0]])
    whole = Observations.stack(rows.by_task(), rows.y.T, torch.ones(3, 5).double())
    assert whole.full
    assert not rows.full


TRANSFORMS = Transforms((-INF, 0.0, -2.0, -INF, 1.0), (INF, INF, INF, 3.0, 4.0)) if (INF := float("inf")) else None


def test_transforms_invert_and_rise():
    assert TRANSFORMS.kinds == ("identity", "log", "log", "upper", "logit")
    phi = torch.linspace(-3, 3, 13, dtype=torch.float64).expand(5, 13).clone().requires_grad_()
    theta = TRANSFORMS.constrain(phi)
    torch.testing.assert_close(TRANSFORMS.unconstrain(theta), phi)
    (slope,) = torch.autograd.grad(theta.sum(), phi)
    torch.testing.assert_close(TRANSFORMS.slope(phi), slope)
    assert (slope > 0).all()
    low, high = (torch.tensor(bound)[:, None].double() for bound in (TRANSFORMS.lower, TRANSFORMS.upper))
    assert ((theta > low) & (theta < high)).all()
