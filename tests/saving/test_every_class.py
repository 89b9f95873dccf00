"""Every public estimator, and what it adapts, is saved and loaded; in a new process, with machine code and without."""

import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import metaest
import metaest_domains.kinetics
import metaest_domains.physiology
import metaest_domains.trading
import savable
from metaest import load, model_hash, save
from savable import CASES, flat

# bases of a catalogue, which have no equation, and a transformer that learns nothing
WITHOUT_STATE = {"KineticRegressor", "AlongHistory", "CompartmentRegressor", "PriceFeatures"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of all models and predictors, and what they answered before."""
    folder, before, classes = tmp_path_factory.mktemp("files"), {}, set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, case in CASES.items():
            model = case.fit()
            save(model, folder / name, keep_rows=case.keep_rows)
            things = [model, *case.adapt(model)]
            for i, thing in enumerate(things[1:]):
                save(thing, folder / f"{name}.{i}")
            before[name] = flat([case.ask(own) for own in things])
            assert len({model_hash(own) for own in things}) == 1
            classes |= {type(own) for own in things}
    return folder, before, classes


def test_every_public_class_is_among_the_cases(folder):
    domains = (metaest_domains.kinetics, metaest_domains.physiology, metaest_domains.trading)
    for module in (metaest, *domains):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) and (hasattr(thing, "fit") or name.startswith("Adapted")):
                assert thing in folder[2] or name in WITHOUT_STATE, f"{module.__name__}.{name} is not saved in a test"


@pytest.mark.parametrize("machine_code", [pytest.param("with", marks=pytest.mark.slow), "without"])
def test_a_new_process_answers_the_same_bits(machine_code, folder):
    place, before, _ = folder
    paths = [*(str(Path(own.__file__).parents[1]) for own in (metaest,)), *sys.path]
    ran = subprocess.run(
        [sys.executable, savable.__file__, machine_code, str(place), *CASES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    for name, expected in before.items():
        got = np.load(place / f"answers of {name}.npy")
        np.testing.assert_array_equal(got, expected, err_msg=name)


def test_a_loaded_model_is_saved_as_the_same_file(folder, tmp_path):
    place, _, _ = folder
    for name in ("MAMLRegressor", "JMAKRegressor", "MAMLClassifier, ridge"):
        save(load(place / name), tmp_path / name)
        assert (tmp_path / name).read_bytes() == (place / name).read_bytes()
