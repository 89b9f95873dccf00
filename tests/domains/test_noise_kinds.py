"""Equations of the domains take every kind of noise, and structures that are chosen."""

from functools import partial

import numpy as np
import pytest

from equations import averaging
from metaest import AveragedEquation
from metaest.estimators.equations import structures
from metaest_datasets import load_theophylline, make_avrami_tasks
from metaest_domains.kinetics import JMAKRegressor
from metaest_domains.physiology import OneCompartmentRegressor, Regimen, auc, plot_patient

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = {
    "JMAK": (lambda: make_avrami_tasks(8, random_state=0).tasks, JMAKRegressor),
    "one compartment": (load_theophylline, partial(OneCompartmentRegressor, random=["clearance"], max_iter=10)),
}


@pytest.mark.parametrize("noise", ["power", "auto"])
@pytest.mark.parametrize("kind", KINDS)
def test_noise(kind, noise, monkeypatch):
    monkeypatch.setattr(structures, "FOLDS", 2)
    monkeypatch.setattr(structures, "EPISODES", 12)
    monkeypatch.setattr(structures, "NOISES", ("additive", "power"))
    tasks, estimator = KINDS[kind][0](), KINDS[kind][1]
    model = estimator(noise=noise, random_state=0).fit(tasks)
    task = tasks[0]
    assert model.adapt(task.X[:6], task.y[:6]).predict(task.X).shape == task.y.shape
    if noise == "power":
        assert model.structures_ is None
        assert set(model.noise_.index) == {"sd_at_1", "power"}
    else:
        assert model.structures_["noise"].tolist() == ["additive", "power"]
        assert model.structures_["weight"].sum() == pytest.approx(1)


def test_an_averaged_patient_is_a_patient():
    tasks = load_theophylline()
    with averaging():
        model = OneCompartmentRegressor(random=["clearance"], noise="auto", random_state=0).fit(tasks[:8])
    averaged = model.adapt(tasks[11].X[[1, 4, 8]], tasks[11].y[[1, 4, 8]])
    assert isinstance(averaged, AveragedEquation)
    # covariates are those of its rows, and constants those of the best structure
    assert auc(averaged, 4.0).value == auc(averaged.members_[0], 4.0).value
    with pytest.raises(TypeError, match="must be an adapted patient"):
        plot_patient(model, Regimen(np.zeros(1), np.ones(1)))
