"""The last knot at or before a value, among knots of any spacing."""

import numpy as np
import pytest

from metaest_domains.kinetics.knots import Knots

GROUPS = {
    "even": [np.arange(50.0)],
    "one": [np.array([3.0]), np.array([0.0])],
    "crowded": [np.concatenate([np.linspace(0, 1, 400), [1e6]]), np.array([0.0, 1e-12, 5.0])],
    "far apart": [np.geomspace(1e-9, 1e9, 80), np.array([-5.0, 2.0**53])],
}


@pytest.mark.parametrize("name", GROUPS)
def test_knots_agree_with_bisection(name):
    groups = GROUPS[name]
    knots = Knots.of(groups)
    rng = np.random.default_rng(0)
    first = 0
    for i, group in enumerate(groups):
        between = rng.uniform(group[0], max(group[-1], group[0] + 1), 200)
        near = np.concatenate([group, np.nextafter(group, -np.inf), np.nextafter(group, np.inf)])
        values = np.concatenate([between, near, [group[0] - 1, group[-1] + 1]])
        expected = first + np.maximum(np.searchsorted(group, values, side="right") - 1, 0)
        last = knots.at_or_before(values, np.full(len(values), i))
        np.testing.assert_array_equal(last, expected)
        first += len(group)
