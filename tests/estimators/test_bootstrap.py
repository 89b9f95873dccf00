"""bootstrap: the spread of fits to simulated tasks is the standard error, and what cannot be resampled is refused."""

import numpy as np
import pytest

from equations import AVRAMI, avrami, avrami_tasks, line
from metaest import EquationRegressor, TaskSet

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")


@pytest.fixture(scope="module")
def lines():
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 5)
    y = 1 + rng.standard_normal((15, 1)) + 2 * x + 0.3 * rng.standard_normal((15, 5))
    tasks = TaskSet([(x[:, None], values) for values in y])
    return EquationRegressor(line, {"a": 0.5, "b": 0.5}, random=["a"], compile=False).fit(tasks), tasks


def test_the_spread_of_fits_is_the_standard_error(lines):
    model, tasks = lines
    fits = model.bootstrap(tasks, 30, random_state=1)
    assert fits.shape == (30, 4)
    population = model.population_
    error = population.loc[["a", "b"], "standard_error"].to_numpy()
    np.testing.assert_allclose(fits[["a", "b"]].std(), error, rtol=0.4)
    assert fits["a_omega"].std() == pytest.approx(population.loc["a", "omega_standard_error"], rel=0.5)
    assert (abs(fits[["a", "b"]].mean() - population.loc[["a", "b"], "value"]) < 4 * error / np.sqrt(30)).all()
    assert fits["noise_sd"].mean() == pytest.approx(0.3, abs=0.05)


def test_a_seed_gives_the_same_fits_and_targets_do_not_matter(lines):
    model, tasks = lines
    other = TaskSet([(task.X, np.zeros(len(task.X))) for task in tasks])
    assert model.bootstrap(tasks, 2, random_state=0).equals(model.bootstrap(other, 2, random_state=0))
    assert not model.bootstrap(tasks, 1, random_state=0).equals(model.bootstrap(tasks, 1, random_state=1))


@pytest.mark.parametrize(
    "settings", [{"noise": "proportional"}, {"limit": 0.2}, {"small_sample": "integrate"}, "weight"], ids=str
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_whatever_the_fit_is_it_is_resampled(settings):
    tasks, _, _ = avrami_tasks(8, noise=0.03)
    names, further = np.repeat(tasks.names, tasks.sizes), {}
    if settings == "weight":
        settings, further = {}, {"sample_weight": np.linspace(0.5, 2, len(tasks.y))}
    y = np.maximum(np.abs(tasks.y), 0.01)
    tasks = TaskSet.from_arrays(tasks.X, y, names, feature_names=["t"])
    model = EquationRegressor(avrami, AVRAMI, covariance="diagonal", compile=False, **settings).fit(tasks, **further)
    fits = model.bootstrap(tasks, 2, random_state=0, **further)
    assert np.isfinite(fits).all(axis=None)
    assert (abs(fits["k"] / model.population_.loc["k", "value"] - 1) < 0.7).all()


def test_what_cannot_be_resampled_is_refused(lines):
    model, tasks = lines
    with pytest.raises(ValueError, match="n must be a whole number"):
        model.bootstrap(tasks, 0)
    automatic = EquationRegressor(line, {"a": 0.5, "b": 0.5}, random=["a"], noise="auto", compile=False)
    with pytest.raises(ValueError, match="this model compares structures"):
        automatic.fit(tasks[:3]).bootstrap(tasks)
