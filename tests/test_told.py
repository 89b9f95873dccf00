"""What long work tells: bars where they are asked for, a log of what was decided, and nothing otherwise."""

import logging
import re
import threading

import numpy as np
import pandas as pd
import pytest

import mixed_calls
from metaest import MAMLPolicy
from metaest.diagnostics import leave_one_task_out
from metaest.functional.progress import progress
from metaest.jit import UnsupportedError, function
from metaest_datasets import make_market, make_sinusoids
from metaest_domains.trading import PriceFeatures, TradingPolicy, walk_forward
from problems import ragged_tasks

pytestmark = pytest.mark.filterwarnings("ignore")  # small fits warn of this and that
KINDS = ("network", "classifier", "policy", "equation", "physiology")


def names(caplog, level=logging.INFO):
    return {record.name for record in caplog.records if record.name.startswith("metaest") and record.levelno >= level}


def test_the_log_of_a_network_says_what_its_fit_decided(caplog):
    waves = make_sinusoids(20, n_rows=8, random_state=0)
    with caplog.at_level(logging.DEBUG, "metaest"):
        model = mixed_calls.regressor(
            max_iter=60, n_iter_no_change=10, early_stopping=True, meta_lr=0.3, inner_lr=50.0
        ).fit(waves)
    for word in (
        f"{20 - 2} tasks learned from, 2 held out, {18 * 8} rows in float32; seed {model._seed}",
        "tasks are evaluated by vmap: ",
        f"the inner rate is lowered from 50 to {model._adaptation().rate:.3g}",
        "tasks differentiated at once: ",
        "meta-steps are not compiled: compile=False",
        f"{model.n_iter_} meta-steps, before max_iter=60; last meta-loss {model.history_.meta_loss.iloc[-1]:.4g}",
        "weights are those of meta-step",
        "meta-steps took",
    ):
        assert word in caplog.text
    assert names(caplog) == {"metaest.fit", "metaest.compile"}


def test_the_log_of_an_equation_says_what_its_fit_decided(caplog):
    estimator, curves = mixed_calls.families()["equation"]
    with caplog.at_level(logging.INFO, "metaest"):
        model = estimator.fit(curves)
    for word in (
        f"16 tasks, {len(curves.X)} rows, noise='additive', objective='evidence'",
        "the equation is evaluated by rows",
        "the fit of the equation is not compiled: compile=False",
        "starting populations",
        f"{model.n_iter_} iterations, log-evidence {model.log_likelihood_:.6g}",
    ):
        assert word in caplog.text
    dropped = re.search(r"no variation between tasks: (.*)", caplog.text)
    sd = model.population_["between_task_sd"]
    assert (set() if dropped is None else set(dropped[1].split(", "))) == set(sd.index[sd == 0])


def test_the_log_says_what_a_guard_learned_and_a_calibration_saw(caplog):
    estimator, waves = mixed_calls.families()["network"]
    model = estimator.fit(waves[:-4])
    with caplog.at_level(logging.INFO, "metaest"):
        model.adapt(waves[-1].X[:3], waves[-1].y[:3], guard=True)
        model.calibrate(waves[-4:], support_size=3)
    rules = next(iter(model._judges.values())).rules
    assert f"at {rules[0].size} support rows {rules[0].share:.2f} of an adaptation is kept" in caplog.text
    assert "calibrated at 3 support rows by 4 tasks" in caplog.text


def test_an_adaptation_that_cannot_be_compiled_says_so(caplog, monkeypatch):
    def refused(*_):
        raise UnsupportedError("it draws at random")

    monkeypatch.setattr(function, "graph_of", refused)
    waves = make_sinusoids(12, n_rows=8, random_state=0)
    model = mixed_calls.regressor().fit(waves).set_params(compile=True)
    model.adapt_many(waves)
    assert "adaptation is not compiled: it draws at random" in caplog.text


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_printed_by_default(name, capfd):
    estimator, tasks = mixed_calls.families()[name]
    model = estimator.fit(tasks[:-4])
    model.score(tasks[-4:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", KINDS)
def test_verbose_shows_bars_on_standard_error_and_clears_them(name, capfd):
    estimator, tasks = mixed_calls.families()[name]
    estimator.set_params(verbose=True).fit(tasks[:-4]).score(tasks[-4:])
    out, err = capfd.readouterr()
    assert out == ""
    for what in ("iterations" if name in ("equation", "physiology") else "meta-steps", "tasks scored"):
        assert what in err
    assert err.endswith("\r")
    assert not any("tqdm" in thread.name for thread in threading.enumerate())


def test_bars_of_what_follows_a_fit(capfd):
    estimator, waves = mixed_calls.families()["network"]
    model = estimator.set_params(verbose=True).fit(waves[:-4])
    model.adapt(waves[-1].X[:3], waves[-1].y[:3], guard=True)
    model.adapt_many(waves[-4:])
    model.calibrate(waves[-4:], support_size=3)
    err = capfd.readouterr().err
    assert all(what in err for what in ("guard", "adaptations", "calibration tasks"))


def test_bars_do_not_change_numbers():
    estimator, waves = mixed_calls.families()["network"]
    quiet, loud = (estimator.set_params(verbose=shown).fit(waves).predict(waves[0].X) for shown in (False, True))
    np.testing.assert_array_equal(quiet, loud)


def test_a_bar_is_cleared_where_the_work_fails(capfd):
    with pytest.raises(ZeroDivisionError):
        sum(1 / i for i in progress([1, 0], True, "quotients"))
    err = capfd.readouterr().err
    assert "quotients" in err
    assert err.endswith("\r")


def test_a_bar_counts_units():
    assert list(progress(iter([[1, 2], [3]]), False, "rows", "row", 3, len)) == [[1, 2], [3]]


def test_functions_without_settings_show_bars_where_asked(capfd):
    tasks = ragged_tasks(4)
    sets = pd.DataFrame({"task": ["task 0", "task 1"], "support": [(0,), (0,)]})
    leave_one_task_out({"network": mixed_calls.regressor().fit}, tasks, sets, n_jobs=1, progress=True)
    assert "left out" in capfd.readouterr().err
    prices, _ = make_market(8, 200, personalities=["trending"], random_state=0)
    learner = MAMLPolicy(support_size=40, query_size=60, max_iter=5, random_state=0)
    policy = TradingPolicy(learner, PriceFeatures((1, 2, 5), 10), lag=1).fit(prices.iloc[:, :6])
    walk_forward(policy, prices.iloc[:, 6:], adapt_window=60)
    assert capfd.readouterr().err == ""
    walk_forward(policy, prices.iloc[:, 6:], adapt_window=60, progress=True)
    assert "adaptations" in capfd.readouterr().err
