"""The public entry points of metaest, and hostile calls of each of them."""

import contextlib
import inspect
import pickle
import re
import tempfile
from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from hypothesis import strategies as st

import metaest
from attacks.arguments import count, fixed_groups, flag, groups, one_of, rows_and_targets, seed, sequences, share
from attacks.hostile import Given, numbers, plainly, setting
from attacks.models import (
    CONSTANTS,
    CURVE_PROBE,
    CURVE_SUPPORT,
    PROBE,
    SUPPORT,
    adapted_binary_equation,
    average,
    averaged_equation,
    binary_equation,
    class_average,
    class_tasks,
    classifier,
    compiled,
    compiled_equation,
    decay,
    decay_tasks,
    equation,
    equation_of_visits,
    evidence_head,
    linear_tasks,
    new_average,
    new_class_average,
    new_classifier,
    new_policy,
    new_population_average,
    new_process,
    new_random_coefficients,
    new_regressor,
    once,
    pipeline,
    policy,
    population_average,
    process,
    random_coefficients,
    regressor,
    ridge_head,
    transformed,
    visits,
    with_context,
)
from attacks.run import EntryPoint
from metaest import (
    EquationRegressor,
    FewShotClassifier,
    FewShotRegressor,
    Parameter,
    PopulationAverage,
    Task,
    TaskSet,
    adapt,
    diagnostics,
    make_episodes,
    scorers,
)
from metaest.functional import Noise

ENTRIES: list[EntryPoint] = []
# where settings that are paths may write
FOLDER = tempfile.TemporaryDirectory()

# public names that are not attacked, and why; metaest.functional is not either: its functions are for developers who
# compose algorithms out of torch's tensors and modules, and a wrong shape there is torch's error, as in torch itself
EXCLUDED = {
    "ConformalInterval": "a record that predictions return",
    "Derived": "a record that predictions return",
    "Drawn": "a record that derive_draws returns",
    "Quantity": "a record that a class of equations declares",
    "Binomial": "a record of a column, which the fit checks",
    "StudentT": "a record of a number, which it checks itself",
    "TimeToEvent": "a record of columns, which the fit checks",
    "diagnostics.ScratchRegressor": "made by from_scratch",
    "Guard": "a record that predictions return",
    "CoverageWarning": "a warning",
    "DivergenceError": "an error",
    "EndOnInterrupt": "takes no argument",
    "ModelFileError": "an error",
    "IdentifiabilityWarning": "a warning",
    "CorrelatedResidualsWarning": "a warning",
    "OvershootWarning": "a warning",
    "TaskError": "an error",
    "UngroupedWarning": "a warning",
    "UnlikelyTaskWarning": "a warning",
    "AdaptedAuto": "made by adapt",
    "AdaptedAutoClassifier": "made by adapt",
    "AdaptedAutoClassifiers": "made by adapt_many",
    "AdaptedAutos": "made by adapt_many",
    "AdaptedClassifier": "made by adapt",
    "AdaptedEquation": "made by adapt",
    "AdaptedEquations": "made by adapt_many",
    "AdaptedManyUnits": "made by adapt_many",
    "AdaptedUnits": "made by adapt",
    "TaskSet.with_level_labels": "called with what from_frame has read",
    "AdaptedGaussian": "made by adapt",
    "AdaptedGaussians": "made by adapt_many",
    "AveragedEquation": "made by adapt",
    "AveragedEquations": "made by adapt_many",
    "AdaptedPopulationAverage": "made by adapt",
    "AdaptedPopulationAverages": "made by adapt_many",
    "AdaptedPolicy": "made by adapt",
    "AdaptedRegressor": "made by adapt",
    "AdaptedRegressors": "made by adapt_many",
    "diagnostics.LeaveOneOut": "a record that leave_one_task_out returns",
    "scorers.FewShotScorer": "made by the functions of metaest.scorers",
    "EquationRegressor.bootstrap": "a fit a call; its tasks are read as those of log_likelihood",
    "LogLikelihood": "a record that log_likelihood returns",
    "ProfileLikelihood": "a record that profile_likelihood returns",
    "Recalibration": "a record that recalibrate returns",
    "Recalibration.to_frame": "takes no argument",
    "EquationRegressor.summary": "takes no argument",
    "TaskSet.summary": "takes no argument",
    "AdaptedEquation.check_covariates": "a hook for classes of domains, called with checked values",
    "EquationRegressor.equation_for": "a hook for classes of domains, called with checked values",
    "EquationRegressor.settings_of_population": "takes no argument",
    "Population.as_settings": "takes no argument",
    "Population.covariance": "takes no argument",
    "Population.to_dict": "takes no argument",
    "EquationRegressor.problem": "a hook for classes of domains, called with checked values",
    "EquationRegressor.with_equation": "a hook for classes of domains, called with checked values",
    "AutoMetaClassifier.learn_guard": "called where a model is written or pickled",
    "AutoMetaRegressor.learn_guard": "called where a model is written or pickled",
    "EquationRegressor.learn_guard": "called where a model is written or pickled",
    "FewShotClassifier.learn_guard": "called where a model is written or pickled",
    "FewShotRegressor.learn_guard": "called where a model is written or pickled",
    "HierarchicalGPRegressor.learn_guard": "called where a model is written or pickled",
    "MAMLClassifier.learn_guard": "called where a model is written or pickled",
    "MAMLPolicy.learn_guard": "called where a model is written or pickled",
    "MAMLRegressor.learn_guard": "called where a model is written or pickled",
    "PopulationAverage.learn_guard": "called where a model is written or pickled",
    "RandomCoefficientRegressor.learn_guard": "called where a model is written or pickled",
    "FewShotClassifier.shared_parts": "takes no argument",
    "FewShotRegressor.shared_parts": "takes no argument",
    "Task.from_checked": "for the rest of the package, called with checked values",
    "TaskSet.from_checked": "for the rest of the package, called with checked values",
    "TaskSet.name_of": "for the rest of the package, called with checked values",
    "TaskSet.place_of": "for the rest of the package, called with checked values",
    "TaskSet.with_rows": "for the rest of the package, called with checked values",
}
# scikit-learn's own, inherited as they are
INHERITED = {
    "get_params", "set_params", "get_metadata_routing", "set_fit_request", "set_predict_request", "set_score_request",
    "set_predict_proba_request", "count", "index", "with_traceback", "add_note",
}  # fmt: skip


def public_names() -> list[str]:
    """Return every public function, class and method of metaest, its scorers and its diagnostics."""
    names = []
    for prefix, module in (("", metaest), ("scorers.", scorers), ("diagnostics.", diagnostics)):
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.ismodule(thing):
                continue
            names.append(prefix + name)
            # what searches ask an outcome is the functional core's
            if not inspect.isclass(thing) or issubclass(thing, (Warning, Exception, Noise)):
                continue
            for method in dir(thing):
                if method.startswith("_") or method in INHERITED:
                    continue
                if callable(getattr(thing, method)) and not isinstance(getattr(thing, method), type):
                    names.append(f"{prefix}{name}.{method}")
    return names


def bytes_of(model: Callable[[], Any], probe: np.ndarray = PROBE) -> Callable[[], bytes]:
    """Return what a failed call must leave: predictions and settings."""
    return lambda: model().predict(probe).tobytes() + repr(sorted(model().__dict__)).encode()


def entry(name: str, call: Callable[..., Any], arguments: Any, **options: Any) -> None:
    """Add an entry point."""
    ENTRIES.append(EntryPoint(name, call, arguments, **options))


# ---- tasks ------------------------------------------------------------------------------------------------------


def _task(X: Any, y: Any, **options: Any) -> Any:
    task = Task("a", X, y, **options)
    weight = [] if task.sample_weight is None else [task.sample_weight]
    support = [] if task.support is None else [np.asarray(task.support)]
    return [task.X, task.y, *weight, *support]


def _weights(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.5, 2, n)


def _support(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.array([0.0, 1.0])


entry("Task", _task, rows_and_targets(free=True, words=True, further={"sample_weight": _weights}))
entry("TaskSet", lambda X, y: _contents(TaskSet([(X, y), (np.ones((2, 2)), np.ones(2))])), rows_and_targets())


def _contents(tasks: TaskSet) -> Any:
    return [tasks.X, tasks.y, tasks.offsets, *([] if tasks.sample_weight is None else [tasks.sample_weight])]


entry(
    "TaskSet.from_arrays",
    lambda **arguments: _contents(TaskSet.from_arrays(**arguments)),
    rows_and_targets(free=True, words=True, further={"groups": fixed_groups, "sample_weight": _weights}),
)
entry(
    "TaskSet.from_mapping",
    lambda X, y: _contents(TaskSet.from_mapping({"a": (X, y), "b": (np.ones((2, 2)), np.ones(2))})),
    rows_and_targets(),
)


@st.composite
def _frames(draw: st.DrawFn) -> dict[str, Given]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(2, 6))
    columns = {
        "task": fixed_groups(n, rng), "x": rng.standard_normal(n), "z": rng.standard_normal(n),
        "y": rng.standard_normal(n), "w": _weights(n, rng),
    }  # fmt: skip
    name = draw(st.sampled_from(["task", "x", "y", "w", "settings"]))
    plain = pd.DataFrame(columns)
    if name == "settings":
        argument = draw(st.sampled_from(["frame", "task", "features", "target", "sample_weight"]))

        def verdict(value: Any) -> bool | None:
            if argument == "frame" or (argument == "target" and value == "x"):
                return False  # a column is a feature or a target
            optional = argument in ("features", "sample_weight") and (value is None or np.size(value) == 0)
            named = value == ["x"] if argument in ("features", "target") else value == "x"
            return None if optional or named else False

        wrong = draw(setting(verdict, argument))
        return {"frame": plainly(plain), argument: wrong}
    given = draw(groups(columns["task"])) if name == "task" else draw(numbers(columns[name]))
    try:
        frame = pd.DataFrame({**columns, name: given.value})
        right = pd.DataFrame({**columns, name: given.plain})
        if len(frame) != n or len(right) != n:
            raise ValueError
    except (Exception, pl.exceptions.PanicException):
        return {"frame": plainly(plain)}
    kind, held = f"{name}: {given.kind}", frame[name]
    if name == "task":
        known = given.refuse and not held.isna().any()  # one label for all rows, or another form that pandas reads
        return {"frame": Given(kind, frame, frame if known else right, held.isna().any())}
    if held.dtype.kind in "mM" or isinstance(held.dtype, pd.PeriodDtype):
        return {"frame": Given(kind, frame, right, refuse=True)}
    if not pd.api.types.is_numeric_dtype(held) or held.dtype.kind == "c":
        return {"frame": Given(kind, frame, frame)}
    right[name] = held.to_numpy(dtype=np.float64, na_value=np.nan)
    good = bool(np.isfinite(right[name]).all() and (name != "w" or (right[name] >= 0).all()))
    return {"frame": Given(kind, frame, right, not good, False, given.rtol)}


entry(
    "TaskSet.from_frame",
    lambda frame, task="task", features=("x", "z"), target="y", sample_weight="w": _contents(
        TaskSet.from_frame(
            frame, task=task, features=list(features) if isinstance(features, tuple) else features, target=target,
            sample_weight=sample_weight,
        )
    ),
    _frames(),
)  # fmt: skip
TASKS = linear_tasks()
entry(
    "TaskSet.task",
    lambda name: _task_numbers(TASKS.task(name)),
    setting(lambda v: False, "name").map(lambda g: {"name": g}),
    kinds=(KeyError,),
)
entry(
    "TaskSet.__getitem__",
    lambda index: None if TASKS[index] is None else 1.0,
    setting(lambda v: True if type(v) in (int, np.int64) and -10 <= v < 10 else None, "index").map(
        lambda g: {"index": g}
    ),
    kinds=(IndexError,),
)
entry(
    "TaskSet.support_of",
    lambda i: TASKS.support_of(i),
    setting(lambda v: isinstance(v, (int, np.integer)) and -10 <= v < 10, "i").map(lambda g: {"i": g}),
    kinds=(IndexError,),
)


def _task_numbers(task: Task) -> Any:
    return [task.X, task.y]


def _episodes(**arguments: Any) -> Any:
    return _contents(
        make_episodes(**{"n_way": 2, "k_shot": 1, "n_query": 1, "n_episodes": 2, "random_state": 0, **arguments})
    )


entry(
    "make_episodes",
    _episodes,
    rows_and_targets(
        classes=True, free=True, words=True, least=4,
        settings={
            "n_way": count(2, 2, name="n_way"), "k_shot": count(1, 1, name="k_shot"), "n_query": count(1, 1, name="n_query"),
            "n_episodes": count(1, name="n_episodes"), "random_state": seed(),
        },
    ),
)  # fmt: skip


# ---- networks ---------------------------------------------------------------------------------------------------

GUARDS = {"guard": flag("guard", none=True), "gap": count(0, name="gap")}


# estimators with standard deviations and intervals by the posterior
WITH_POSTERIOR = (
    "EquationRegressor",
    "EquationRegressor of structures",
    "EquationRegressor of visits",
    "HierarchicalGPRegressor",
    "PopulationAverage",
    "RandomCoefficientRegressor",
)


def network_entries(
    kind: str, model: Callable[[], Any], columns: int, *, guards: bool, answers: tuple[str, ...], **options: Any
) -> None:
    """Add adapt, partial_adapt, predictions and score of a meta-learned estimator and its predictor."""
    probe = PROBE if columns == 2 else CURVE_PROBE
    support = (SUPPORT[0], (SUPPORT[1] > 0).astype(int)) if options.get("classes") else SUPPORT
    support = support if columns == 2 else CURVE_SUPPORT
    adapted = once(lambda: model().adapt(*support))
    of_adapted = {
        "MAMLRegressor": "AdaptedRegressor", "MAMLClassifier": "AdaptedClassifier", "MAMLPolicy": "AdaptedPolicy",
        "EquationRegressor": "AdaptedEquation", "EquationRegressor of structures": "AveragedEquation",
        "EquationRegressor of visits": "AdaptedUnits",
        "RandomCoefficientRegressor": "AdaptedGaussian",
        "AutoMetaRegressor": "AdaptedAuto", "AutoMetaClassifier": "AdaptedAutoClassifier",
        "HierarchicalGPRegressor": "AdaptedGaussian", "PopulationAverage": "AdaptedPopulationAverage",
    }[kind]  # fmt: skip
    state = {"state": bytes_of(model, probe)}
    weigh = kind.startswith(("EquationRegressor", "PopulationAverage"))
    weighs = {"further": {"sample_weight": _weights}} if weigh else {}
    entry(
        f"{kind}.adapt",
        lambda X, y, **settings: model().adapt(X, y, **settings).predict(probe),
        rows_and_targets(columns=columns, settings=GUARDS if guards else {}, **options, **weighs),
        **state,
    )
    entry(
        f"{of_adapted}.partial_adapt",
        lambda X, y, **settings: adapted().partial_adapt(X, y, **settings).predict(probe),
        rows_and_targets(columns=columns, **options, **weighs),
        state=bytes_of(adapted, probe),
    )
    entry(
        f"{of_adapted}.fit",
        lambda X, y: adapted().fit(X, y),
        rows_and_targets(columns=columns, **options).map(
            lambda given: {n: Given(g.kind, g.value, g.plain, True) for n, g in given.items()}
        ),
        kinds=(NotImplementedError, AttributeError),
    )
    for name, it in ((kind, model), (of_adapted, adapted)):
        here = {"state": bytes_of(it, probe)}
        settings = {"return_std": one_of("return_std", False)} if "predict_interval" in answers else {}
        if kind in WITH_POSTERIOR:
            settings = {"return_std": flag("return_std")}
        for method in ("predict", *(m for m in answers if m in ("predict_proba", "predict_mean"))):
            entry(
                f"{name}.{method}",
                lambda X, it=it, method=method, **settings: getattr(it(), method)(X, **settings),
                rows_and_targets(
                    columns=columns, names=("X",), settings=settings if method == "predict" else {}, **options
                ),
                **here,
            )
        if "predict_interval" in answers:
            intervals = {
                "level": share(),
                "simultaneous": flag("simultaneous"),
                "method": one_of("method", "conformal"),
            }
            if kind in WITH_POSTERIOR:
                intervals["method"] = one_of("method", "conformal", "posterior")
                intervals["of"] = setting(lambda v: False, "of")
            entry(
                f"{name}.predict_interval",
                lambda X, it=it, **settings: it().predict_interval(X, **settings),
                rows_and_targets(columns=columns, names=("X",), settings=intervals, **options),
                **here,
            )
    entry(
        f"{of_adapted}.score",
        lambda X, y, **w: adapted().score(X, y, **w),
        rows_and_targets(
            columns=columns, further={} if kind == "MAMLPolicy" else {"sample_weight": _weights}, **options
        ),
        state=bytes_of(adapted, probe),
    )
    each = 6 if kind == "MAMLPolicy" else 2
    flat_score = {"groups": lambda n, rng: np.arange(n) * (n // each) // n}
    if kind != "MAMLPolicy":
        flat_score["sample_weight"] = _weights
    entry(
        f"{kind}.score",
        lambda X, y, groups, **w: model().score(X, y, groups, **w),
        rows_and_targets(columns=columns, further=flat_score, least=2 * each, most=3 * each, **options),
        **state,
    )


network_entries("MAMLRegressor", regressor, 2, guards=True, answers=("predict_interval",))
network_entries("HierarchicalGPRegressor", process, 2, guards=True, answers=("predict_interval",))
network_entries("RandomCoefficientRegressor", random_coefficients, 2, guards=True, answers=("predict_interval",))
network_entries("AutoMetaRegressor", average, 2, guards=True, answers=("predict_interval",))
network_entries("AutoMetaClassifier", class_average, 2, guards=True, answers=("predict_proba",), classes=True)
network_entries("MAMLClassifier", classifier, 2, guards=True, answers=("predict_proba",), classes=True)
network_entries("MAMLPolicy", policy, 2, guards=False, answers=())
network_entries(
    "EquationRegressor of visits",
    equation_of_visits,
    2,
    guards=False,
    answers=("predict_interval", "predict_mean"),
    positive=True,
)
for _kind, _model in (
    ("EquationRegressor", equation),
    ("EquationRegressor of structures", averaged_equation),
    ("PopulationAverage", population_average),
):
    guarded, wanted = _kind != "PopulationAverage", ("predict_interval", "predict_mean")
    network_entries(_kind, _model, 1, guards=guarded, answers=wanted, positive=True)
for _kind, _model in (("EquationRegressor", binary_equation), ("AdaptedEquation", adapted_binary_equation)):
    entry(
        f"{_kind}.predict_proba",
        lambda X, it=_model: it().predict_proba(X),
        rows_and_targets(columns=1, names=("X",), positive=True),
        state=bytes_of(_model, CURVE_PROBE),
    )
for _kind, _model in (("MAMLClassifier", classifier), ("AutoMetaClassifier", class_average)):
    entry(
        f"{_kind}.task_scores",
        lambda X, y, groups, _model=_model: _model().task_scores(X, y, groups),
        rows_and_targets(
            classes=True,
            least=4,
            further={"groups": lambda n, rng: np.arange(n) // 2 if n % 2 == 0 else np.append(np.arange(n - 1) // 2, 0)},
        ),
        state=bytes_of(_model),
    )


# ---- sequences of tasks ------------------------------------------------------------

SUPPORT_SIZES = setting(lambda v: None, "support_size")
entry(
    "MAMLRegressor.adapt_many",
    lambda tasks, **settings: _many(regressor(), tasks, PROBE, **settings),
    sequences(linear_tasks(3, seed=5), settings=GUARDS),
    state=bytes_of(regressor),
)
entry(
    "HierarchicalGPRegressor.adapt_many",
    lambda tasks, **settings: _many(process(), tasks, PROBE, **settings),
    sequences(linear_tasks(3, seed=5), settings=GUARDS),
    state=bytes_of(process),
)
entry(
    "RandomCoefficientRegressor.adapt_many",
    lambda tasks, **settings: _many(random_coefficients(), tasks, PROBE, **settings),
    sequences(linear_tasks(3, seed=5), settings=GUARDS),
    state=bytes_of(random_coefficients),
)
entry(
    "AutoMetaRegressor.adapt_many",
    lambda tasks, **settings: _many(average(), tasks, PROBE, **settings),
    sequences(linear_tasks(3, seed=5), settings=GUARDS),
    state=bytes_of(average),
)
entry(
    "AutoMetaClassifier.adapt_many",
    lambda tasks, **settings: _many(class_average(), tasks, PROBE, **settings),
    sequences(class_tasks(3, seed=5), settings=GUARDS),
    state=bytes_of(class_average),
)
entry(
    "MAMLPolicy.adapt_many",
    lambda tasks: [one.predict(PROBE) for one in policy().adapt_many(tasks)],
    sequences(linear_tasks(3, seed=5)),
    state=bytes_of(policy),
)
entry(
    "PopulationAverage.adapt_many",
    lambda tasks: _many(population_average(), tasks, CURVE_PROBE),
    sequences(decay_tasks(3, seed=5), spells=False),
    state=bytes_of(population_average, CURVE_PROBE),
)
entry(
    "EquationRegressor.adapt_many",
    lambda tasks, **settings: _many(equation(), tasks, CURVE_PROBE, **settings),
    sequences(decay_tasks(3, seed=5), spells=False, settings=GUARDS),
    state=bytes_of(equation, CURVE_PROBE),
)
entry(
    "EquationRegressor.log_likelihood",
    lambda tasks, **settings: equation().log_likelihood(
        tasks, **{"method": "importance", "n_samples": 20, "random_state": 0, **settings}
    ).value,
    sequences(
        decay_tasks(3, seed=5),
        spells=False,
        settings={
            "method": one_of("method", "laplace", "importance", "quadrature"),
            "n_nodes": count(1, 101, name="n_nodes"),
            "random_state": seed(),
        },
    ),
    state=bytes_of(equation, CURVE_PROBE),
)  # fmt: skip


def _many(model: Any, tasks: Any, probe: np.ndarray, **settings: Any) -> Any:
    return [one.predict(probe) for one in model.adapt_many(tasks, **settings)]


# the same calls of other ways to adapt: the last layer in closed form, a context, machine code
for _form, _kind, _model, _probe, _tasks in (
    ("ridge head", "MAMLRegressor", ridge_head, PROBE, linear_tasks(3, seed=5)),
    ("evidence head", "MAMLRegressor", evidence_head, PROBE, linear_tasks(3, seed=5)),
    ("context", "MAMLRegressor", with_context, PROBE, linear_tasks(3, seed=5)),
    ("compiled", "MAMLRegressor", compiled, PROBE, linear_tasks(3, seed=5)),
    ("compiled", "EquationRegressor", compiled_equation, CURVE_PROBE, decay_tasks(3, seed=5)),
):
    _spells = _kind == "MAMLRegressor"
    entry(
        f"{_kind}.adapt ({_form})",
        lambda X, y, _model=_model, _probe=_probe, **settings: _model().adapt(X, y, **settings).predict(_probe),
        rows_and_targets(columns=_probe.shape[1], positive=not _spells, settings=GUARDS),
        state=bytes_of(_model, _probe),
    )
    entry(
        f"{_kind}.adapt_many ({_form})",
        lambda tasks, _model=_model, _probe=_probe, **settings: _many(_model(), tasks, _probe, **settings),
        sequences(_tasks, spells=_spells, settings=GUARDS),
        state=bytes_of(_model, _probe),
    )


MANY = once(lambda: regressor().adapt_many(linear_tasks(3, seed=5)))
MANY_AVERAGES = once(lambda: average().adapt_many(linear_tasks(3, seed=5)))
MANY_PROCESSES = once(lambda: process().adapt_many(linear_tasks(3, seed=5)))
MANY_CURVES = once(lambda: equation().adapt_many(decay_tasks(3, seed=5)))
entry("AdaptedRegressors.predict", lambda X: MANY().predict(X), rows_and_targets(names=("X",), columns=2))
MANY_GAUSSIANS = once(lambda: random_coefficients().adapt_many(linear_tasks(3, seed=5)))
entry(
    "AdaptedGaussians.predict",
    lambda X, **settings: MANY_GAUSSIANS().predict(X, **settings),
    rows_and_targets(names=("X",), columns=2, settings={"return_std": flag("return_std")}),
)
entry("AdaptedAutos.predict", lambda X: MANY_AVERAGES().predict(X), rows_and_targets(names=("X",), columns=2))
MANY_CLASSIFIERS = once(lambda: class_average().adapt_many(class_tasks(3, seed=5)))
for _method in ("predict", "predict_proba"):
    entry(
        f"AdaptedAutoClassifiers.{_method}",
        lambda X, _method=_method: getattr(MANY_CLASSIFIERS(), _method)(X),
        rows_and_targets(names=("X",), columns=2),
    )
entry(
    "AdaptedGaussians.predict (processes)",
    lambda X, **settings: MANY_PROCESSES().predict(X, **settings),
    rows_and_targets(names=("X",), columns=2, settings={"return_std": flag("return_std")}),
)
MANY_CURVES_OF_STRUCTURES = once(lambda: averaged_equation().adapt_many(decay_tasks(3, seed=5)))
MANY_UNITS = once(lambda: equation_of_visits().adapt_many(visits(3, seed=5)))
MANY_OF_PARTS = once(lambda: population_average().adapt_many(decay_tasks(3, seed=5)))
for _name, _many_curves in (
    ("AdaptedEquations", MANY_CURVES),
    ("AveragedEquations", MANY_CURVES_OF_STRUCTURES),
    ("AdaptedPopulationAverages", MANY_OF_PARTS),
):
    entry(
        f"{_name}.predict",
        lambda X, _many_curves=_many_curves: _many_curves().predict(X),
        rows_and_targets(names=("X",), columns=1, positive=True),
    )
entry(
    "MAMLRegressor.score (tasks)",
    lambda tasks: regressor().score(tasks),
    sequences(linear_tasks(4, seed=5)),
    state=bytes_of(regressor),
)
entry(
    "HierarchicalGPRegressor.score (tasks)",
    lambda tasks: process().score(tasks),
    sequences(linear_tasks(4, seed=5)),
    state=bytes_of(process),
)
entry(
    "RandomCoefficientRegressor.score (tasks)",
    lambda tasks: random_coefficients().score(tasks),
    sequences(linear_tasks(4, seed=5)),
    state=bytes_of(random_coefficients),
)
entry(
    "AutoMetaRegressor.score (tasks)",
    lambda tasks: average().score(tasks),
    sequences(linear_tasks(4, seed=5)),
    state=bytes_of(average),
)
entry(
    "AutoMetaClassifier.score (tasks)",
    lambda tasks: class_average().score(tasks),
    sequences(class_tasks(4, seed=5)),
    state=bytes_of(class_average),
)
entry(
    "MAMLClassifier.score (tasks)",
    lambda tasks: classifier().score(tasks),
    sequences(class_tasks(4, seed=5)),
    state=bytes_of(classifier),
)
entry(
    "EquationRegressor.score (tasks)",
    lambda tasks: equation().score(tasks),
    sequences(decay_tasks(4, seed=5), spells=False),
    state=bytes_of(equation, CURVE_PROBE),
)


def _copy_and(model: Callable[[], Any], method: str, probe: np.ndarray) -> tuple[Callable[..., Any], Callable[[], Any]]:
    """Return a call of a method that changes a model, on a copy, and the predictions of this copy."""
    held: dict[str, Any] = {}

    def state() -> Any:
        if "model" not in held:
            held["model"] = pickle.loads(pickle.dumps(model()))
        return held["model"].predict(probe).tobytes()

    def call(**arguments: Any) -> Any:
        state()
        changed = getattr(held.pop("model") if False else held["model"], method)(**arguments)
        answer = changed.predict(probe)
        if hasattr(changed, "predict_interval") and getattr(changed, "_conformal", None) is not None:
            answer = [answer, changed.predict_interval(probe)] if method == "calibrate" else answer
        held.clear()
        return answer

    return call, state


for _kind, _model, _probe, _tasks in (
    ("MAMLRegressor", regressor, PROBE, linear_tasks(6, seed=7)),
    ("HierarchicalGPRegressor", process, PROBE, linear_tasks(6, seed=7)),
    ("RandomCoefficientRegressor", random_coefficients, PROBE, linear_tasks(6, seed=7)),
    ("AutoMetaRegressor", average, PROBE, linear_tasks(6, seed=7)),
    ("EquationRegressor", equation, CURVE_PROBE, decay_tasks(6, seed=7)),
    ("PopulationAverage", population_average, CURVE_PROBE, decay_tasks(6, seed=7)),
):
    _call, _state = _copy_and(_model, "calibrate", _probe)
    entry(
        f"{_kind}.calibrate",
        lambda tasks, support_size=2, _call=_call, **settings: _call(
            tasks=tasks, support_size=support_size, **settings
        ),
        sequences(
            _tasks,
            spells=_kind not in ("EquationRegressor", "PopulationAverage"),
            settings={"support_size": SUPPORT_SIZES, **({} if _kind == "PopulationAverage" else GUARDS)},
        ),
        state=_state,
        fits=True,
    )

# ---- fits -------------------------------------------------------------------------------------------------------

for _kind, _model, _probe, _tasks in (
    ("MAMLRegressor", regressor, PROBE, linear_tasks(4, seed=7)),
    ("HierarchicalGPRegressor", process, PROBE, linear_tasks(4, seed=7)),
    ("RandomCoefficientRegressor", random_coefficients, PROBE, linear_tasks(4, seed=7)),
    ("AutoMetaRegressor", average, PROBE, linear_tasks(4, seed=7)),
    ("AutoMetaClassifier", class_average, PROBE, class_tasks(4, seed=7)),
    ("MAMLClassifier", classifier, PROBE, class_tasks(4, seed=7)),
    ("MAMLPolicy", policy, PROBE, linear_tasks(4, seed=7)),
    ("EquationRegressor", equation, CURVE_PROBE, decay_tasks(4, seed=7)),
    ("PopulationAverage", population_average, CURVE_PROBE, decay_tasks(4, seed=7)),
):
    _call, _state = _copy_and(_model, "fit", _probe)
    _spells = _kind not in ("EquationRegressor", "PopulationAverage")
    entry(
        f"{_kind}.fit (tasks)",
        lambda tasks, _call=_call: _call(X=tasks),
        sequences(_tasks, spells=_spells, fixed=False),
        state=_state,
        fits=True,
    )
    _call, _state = _copy_and(_model, "fit", _probe)
    entry(
        f"{_kind}.fit",
        _call,
        rows_and_targets(
            columns=_probe.shape[1], further={"groups": lambda n, rng: np.arange(n) // 6}, least=24, most=30, spells=_spells,
            positive=_kind in ("EquationRegressor", "PopulationAverage"), classes=_kind.endswith("Classifier"),
        ),
        state=_state,
        fits=True,
    )  # fmt: skip


# ---- constructors -----------------------------------------------------------------------------------------------


def _allowed(constraints: list[Any], value: Any) -> bool:
    from sklearn.utils._param_validation import make_constraint

    return any(make_constraint(constraint).is_satisfied_by(value) for constraint in constraints)


def constructor_entry(
    kind: str,
    new: Callable[..., Any],
    constraints: Mapping[str, list[Any]],
    tasks: TaskSet,
    probe: np.ndarray,
    **special: Any,
) -> None:
    """Add the constructor: every setting takes odd values, and those that its constraints exclude must be refused."""

    @st.composite
    def draw_all(draw: st.DrawFn) -> dict[str, Given]:
        name = draw(st.sampled_from([*constraints, *special]))
        if name in special:
            return {name: draw(setting(special[name], name))}

        def valid(value: Any) -> bool | None:
            if isinstance(value, np.timedelta64) or not _allowed(constraints[name], value):
                return False
            return None

        return {name: draw(setting(valid, name).filter(lambda g: g.refuse or _quick(name, g.value)))}

    def call(**settings: Any) -> Any:
        with contextlib.chdir(FOLDER.name):
            return new(**settings).fit(tasks).predict(probe)

    entry(kind, call, draw_all(), kinds=(OSError,), fits=True)


def _quick(name: str, value: Any) -> bool:
    """Whether a fit with this setting ends soon."""
    if isinstance(value, Integral) and name in (
        "max_iter",
        "inner_steps",
        "hidden_layer_sizes",
        "n_episodes",
        "context_dim",
    ):
        return int(value) < 50
    return name != "compile" or value in (False, np.bool_(False))


for _kind, _new, _tasks in (
    ("MAMLRegressor", new_regressor, linear_tasks(4)),
    ("AutoMetaRegressor", new_average, linear_tasks(4)),
    ("HierarchicalGPRegressor", new_process, linear_tasks(4)),
    ("AutoMetaClassifier", new_class_average, class_tasks(4)),
    ("MAMLClassifier", new_classifier, class_tasks(4)),
    ("MAMLPolicy", new_policy, linear_tasks(4)),
    ("RandomCoefficientRegressor", new_random_coefficients, linear_tasks(4)),
):
    constructor_entry(_kind, _new, type(_new())._parameter_constraints, _tasks, PROBE)


def _new_equation(**settings: Any) -> EquationRegressor:
    return EquationRegressor(
        **{"equation": decay, "parameters": CONSTANTS, "max_iter": 2, "random_state": 0, "compile": False, **settings}
    )


constructor_entry(
    "EquationRegressor", _new_equation, EquationRegressor._parameter_constraints, decay_tasks(4), CURVE_PROBE,
    equation=lambda v: False, parameters=lambda v: False,
)  # fmt: skip
_OF_AVERAGE = PopulationAverage._parameter_constraints
constructor_entry(
    "PopulationAverage", new_population_average, {n: c for n, c in _OF_AVERAGE.items() if n not in ("estimators", "support_size")},
    decay_tasks(3), CURVE_PROBE, estimators=lambda v: False, support_size=lambda v: None,
)  # fmt: skip

WAYS = ["initial", "lower", "upper", "unit", "meaning", "transform"]


def _parameter(**fields: Any) -> Any:
    table = {"k": Parameter(**{"initial": 1.0, **fields}), "a": 1.5}
    return (
        EquationRegressor(decay, table, max_iter=1, random_state=0, compile=False)
        .fit(decay_tasks(3))
        .predict(CURVE_PROBE)
    )


@st.composite
def _fields(draw: st.DrawFn) -> dict[str, Given]:
    name = draw(st.sampled_from(WAYS))
    return {name: draw(setting(_field_valid(name), name))}


def _field_valid(name: str) -> Callable[[Any], bool | None]:
    def valid(value: Any) -> bool | None:
        if name in ("unit", "meaning"):
            return None
        if name == "transform":
            return None if value is None else False
        if isinstance(value, (complex, str, bytes)) or value is pd.NA:
            return False
        return None

    return valid


entry("Parameter", _parameter, _fields(), fits=True)


# ---- wrappers ---------------------------------------------------------------------------------------------------

entry(
    "FewShotRegressor.fit",
    lambda X, y, **settings: FewShotRegressor(regressor(), **settings).fit(X, y).predict(PROBE),
    rows_and_targets(settings=GUARDS),
    state=bytes_of(regressor),
)
entry(
    "FewShotClassifier.fit",
    lambda X, y, **settings: FewShotClassifier(classifier(), **settings).fit(X, y).predict_proba(PROBE),
    rows_and_targets(settings=GUARDS, classes=True),
    state=bytes_of(classifier),
)
ONE = once(lambda: FewShotRegressor(regressor()).fit(*SUPPORT))
ONE_CLASS = once(lambda: FewShotClassifier(classifier()).fit(SUPPORT[0], [0, 1, 0]))
for _name, _one in (("FewShotRegressor", ONE), ("FewShotClassifier", ONE_CLASS)):
    for _method in ("predict", "predict_proba") if _name.endswith("Classifier") else ("predict",):
        entry(
            f"{_name}.{_method}",
            lambda X, _one=_one, _method=_method: getattr(_one(), _method)(X),
            rows_and_targets(names=("X",)),
            state=bytes_of(_one),
        )
    entry(
        f"{_name}.score",
        lambda X, y, _one=_one, **w: _one().score(X, y, **w),
        rows_and_targets(further={"sample_weight": _weights}, classes=_name.endswith("Classifier")),
        state=bytes_of(_one),
    )
    entry(
        _name,
        lambda model, _name=_name: getattr(metaest, _name)(model).fit(*SUPPORT).predict(PROBE),
        setting(lambda v: False, "model").map(lambda g: {"model": g}),
    )
entry(
    "adapt",
    lambda X, y, **settings: adapt(regressor(), X, y, **settings).predict(PROBE),
    rows_and_targets(settings=GUARDS),
)


def _scaler_takes(given: Mapping[str, Given]) -> bool:
    """Whether scikit-learn's scaler, which meets the rows first, reads them; it makes numbers of dates."""
    try:
        pipeline()[:-1].transform(given["X"].value)
    except Exception:
        return False
    return not re.search("date|duration|period|timestamp", given["X"].kind)


entry(
    "adapt (pipeline)",
    lambda X, y: adapt(pipeline(), X, y).predict(PROBE),
    rows_and_targets().filter(_scaler_takes),
)
entry("adapt (transformed target)", lambda X, y: adapt(transformed(), X, y).predict(PROBE), rows_and_targets())
entry(
    "adapt (model)",
    lambda model: adapt(model, *SUPPORT).predict(PROBE),
    setting(lambda v: False, "model").map(lambda g: {"model": g}),
)


# ---- questions to equations -------------------------------------------------------------------------------------

VISITS_PROBE = np.array([[0.4, 0.0], [1.2, 5.0]])
VISITS_SUPPORT = np.array([[0.3, 0.0], [1.0, 0.0], [2.0, 1.0]]), np.array([1.4, 0.8, 0.2])
CURVE = once(lambda: equation().adapt(*CURVE_SUPPORT))
CURVE_OF_STRUCTURES = once(lambda: averaged_equation().adapt(*CURVE_SUPPORT))
CURVE_OF_PARTS = once(lambda: population_average().adapt(*CURVE_SUPPORT))
for _name, _it in (
    ("EquationRegressor", equation),
    ("AdaptedEquation", CURVE),
    ("AveragedEquation", CURVE_OF_STRUCTURES),
    ("PopulationAverage", population_average),
    ("AdaptedPopulationAverage", CURVE_OF_PARTS),
):
    entry(
        f"{_name}.simulate",
        lambda X, _it=_it, **settings: _it().simulate(X, **{"random_state": 0, **settings}),
        rows_and_targets(
            columns=1, positive=True, names=("X",), further={"sample_weight": _weights},
            settings={"n": count(1, name="n"), "random_state": seed()},
        ),
        state=bytes_of(_it, CURVE_PROBE),
    )  # fmt: skip
    if "PopulationAverage" in _name:
        continue
    entry(
        f"{_name}.suggest",
        lambda X, _it=_it, **settings: _it().suggest(X, **settings),
        rows_and_targets(
            columns=1, positive=True, names=("X",), further={"cost": _weights, "sample_weight": _weights},
            settings={"n": count(1, 2, name="n"), "target": one_of("target", None, "k", "a")},
        ),
        state=bytes_of(_it, CURVE_PROBE),
    )  # fmt: skip
UNITS = once(lambda: equation_of_visits().adapt(*VISITS_SUPPORT))
for _method, _more in (
    ("simulate", {"n": count(1, name="n"), "random_state": seed()}),
    ("suggest", {"n": count(1, 2, name="n"), "target": one_of("target", None, "k", "a")}),
):
    entry(
        f"AdaptedUnits.{_method}",
        lambda X, _method=_method, **settings: getattr(UNITS(), _method)(
            X, **({"random_state": 0} if _method == "simulate" else {}) | settings
        ),
        rows_and_targets(columns=2, positive=True, names=("X",), further={"sample_weight": _weights}, settings=_more),
        state=bytes_of(UNITS, VISITS_PROBE),
    )
entry(
    "AdaptedUnits.unit",
    lambda label: UNITS().unit(label).predict(CURVE_PROBE),
    # labels of this model are numbers
    setting(lambda v: None if type(v) in (int, float) or isinstance(v, np.number) else False, "label").map(
        lambda g: {"label": g}
    ),
    state=bytes_of(UNITS, VISITS_PROBE),
)
entry(
    "AdaptedManyUnits.predict",
    lambda X: MANY_UNITS().predict(X),
    rows_and_targets(names=("X",), columns=2, positive=True),
)
entry(
    "AdaptedEquation.profile",
    lambda name="k", **settings: CURVE().profile(name, **{"n_points": 3, **settings}),
    st.one_of(
        one_of("name", "k", "a").map(lambda g: {"name": g}),
        flag("prior").map(lambda g: {"prior": g}),
        count(3, name="n_points").map(lambda g: {"n_points": g}),
    ),
)
entry(
    "AdaptedEquation.derive",
    lambda function=lambda k, a: a / k, level=0.9: CURVE().derive(function, level),
    st.one_of(
        setting(lambda v: False, "function").filter(lambda g: not callable(g.value)).map(lambda g: {"function": g}),
        share().map(lambda g: {"level": g}),
        setting(lambda v: True if type(v) in (int, float) and np.isfinite(float(v)) else None, "function")
        .filter(lambda g: not callable(g.value))
        .map(lambda g: {"function": Given(f"returns {g.kind}", lambda k, a: g.value, lambda k, a: g.value)}),
    ),
)

entry(
    "AdaptedEquation.derive_draws",
    lambda function=lambda k, a: a / k: CURVE().derive_draws(function).draws,
    setting(lambda v: False, "function").filter(lambda g: not callable(g.value)).map(lambda g: {"function": g}),
)

DRAWN = once(lambda: CURVE().derive_draws(lambda k, a: a / k))
entry(
    "Drawn.interval",
    lambda level=0.9: list(DRAWN().interval(level)),
    share().map(lambda g: {"level": g}),
    state=lambda: DRAWN().draws.tobytes(),
)
entry(
    "Drawn.probability",
    lambda condition=lambda draws: draws > 1: DRAWN().probability(condition),
    setting(lambda v: False, "condition").filter(lambda g: not callable(g.value)).map(lambda g: {"condition": g}),
    kinds=(TypeError,),
)

# ---- scorers and diagnostics ------------------------------------------------------------------------------------

# a calibration without the guard cannot promise the level of predictors with it
UNSURE_GUARD = setting(lambda v: None if isinstance(v, (bool, np.bool_, int)) or v is None else False, "guard")
_SCORING = {
    "shots": count(0, 2, name="shots"), "split": one_of("split", None, "random", "first"), "random_state": count(0, name="random_state"),
    "guard": flag("guard", none=True), "gap": count(0, 1, name="gap"),
}  # fmt: skip


@st.composite
def _scoring(draw: st.DrawFn, tasks: TaskSet, further: Mapping[str, Any], spells: bool = True) -> dict[str, Given]:
    if draw(st.booleans()):
        return draw(sequences(tasks, spells=spells, classes=tasks.y.dtype.kind == "i"))
    table = {**_SCORING, **further}
    name = draw(st.sampled_from(list(table)))
    return {"tasks": plainly(tasks), name: draw(table[name])}


for _name in ("few_shot_r2", "few_shot_rmse", "few_shot_mae"):
    entry(
        f"scorers.{_name}",
        lambda tasks, shots=2, _name=_name, **s: getattr(scorers, _name)(shots, **s)(regressor(), tasks),
        _scoring(linear_tasks(3, seed=5), {}),
        state=bytes_of(regressor),
    )
for _name in ("few_shot_accuracy", "few_shot_log_loss"):
    entry(
        f"scorers.{_name}",
        lambda tasks, shots=2, _name=_name, **s: getattr(scorers, _name)(shots, **s)(classifier(), tasks),
        _scoring(class_tasks(3, seed=5), {"per_class": flag("per_class")}),
        state=bytes_of(classifier),
    )
entry(
    "scorers.few_shot_coverage",
    lambda tasks, shots=2, **s: scorers.few_shot_coverage(shots, **s)(regressor(), tasks),
    _scoring(
        linear_tasks(3, seed=5),
        {"level": share(), "method": one_of("method", None, "conformal"), "guard": UNSURE_GUARD},
    ),
    state=bytes_of(regressor),
)
entry(
    "scorers.FewShotScorer (flat rows)",
    lambda X, y, groups: scorers.few_shot_r2(1)(regressor(), X, y, groups=groups),
    rows_and_targets(
        least=4,
        further={"groups": lambda n, rng: np.arange(n) // 2 if n % 2 == 0 else np.append(np.arange(n - 1) // 2, 0)},
    ),
    state=bytes_of(regressor),
)
entry(
    "scorers.FewShotScorer (model)",
    lambda model: scorers.few_shot_r2(1)(model, linear_tasks(3)),
    setting(lambda v: False, "model").map(lambda g: {"model": g}),
)
_FOUR = linear_tasks(4, seed=7)
_BASE = once(lambda: new_regressor(max_iter=2))
for _name in ("pooled", "fine_tuned", "from_scratch"):
    entry(
        f"diagnostics.{_name}",
        lambda tasks=_FOUR, model=None, _name=_name, **s: (
            getattr(diagnostics, _name)(_BASE() if model is None else model, tasks, **s).adapt(*SUPPORT).predict(PROBE)
        ),
        st.one_of(
            sequences(_FOUR, fixed=False),
            setting(lambda v: False if v is not None else None, "model").map(lambda g: {"model": g}),
            *([count(2, 4, name="cv").map(lambda g: {"cv": g})] if _name == "fine_tuned" else []),
        ),
        fits=True,
    )
entry(
    "diagnostics.pretrained",
    lambda tasks=None, model=None: (
        diagnostics.pretrained(
            new_classifier(max_iter=2) if model is None else model, class_tasks(4) if tasks is None else tasks
        )
        .adapt(SUPPORT[0], [0, 1, 0])
        .predict_proba(PROBE)
    ),
    st.one_of(
        sequences(class_tasks(4, seed=7), fixed=False),
        setting(lambda v: False if v is not None else None, "model").map(lambda g: {"model": g}),
    ),
    fits=True,
)


def _left_out(methods: Any = None, tasks: Any = None, support_sets: Any = None, **settings: Any) -> Any:
    methods = {"pooled": lambda tasks: diagnostics.pooled(_BASE(), tasks)} if methods is None else methods
    tasks = _FOUR if tasks is None else tasks
    names = tasks.names.tolist() if isinstance(tasks, TaskSet) else [0, 1]
    sets = pd.DataFrame({"task": names[:2], "support": [[0, 1], [2]]}) if support_sets is None else support_sets
    return diagnostics.leave_one_task_out(methods, tasks, sets, **{"n_jobs": 1, **settings}).errors["pooled"]


entry(
    "diagnostics.leave_one_task_out",
    _left_out,
    st.one_of(
        sequences(_FOUR, fixed=False),
        *(
            setting(lambda v: False if v is not None else None, name).map(lambda g, name=name: {name: g})
            for name in ("methods", "support_sets")
        ),
        setting(lambda v: None, "support").map(
            lambda g: {
                "support_sets": Given(
                    f"support {g.kind}", pd.DataFrame({"task": ["task 0"], "support": [g.value]}), None
                )
            }
        ),
    ),
    kinds=(KeyError,),
    fits=True,
    compare=False,
)
SCRATCH = once(lambda: diagnostics.from_scratch(_BASE(), _FOUR, max_iter=2))
entry(
    "diagnostics.ScratchRegressor.adapt",
    lambda X, y: SCRATCH().adapt(X, y).predict(PROBE),
    rows_and_targets(),
    fits=True,
)
entry("diagnostics.ScratchRegressor.predict", lambda X: SCRATCH().predict(X), rows_and_targets(names=("X",)))


# ---- files ------------------------------------------------------------------------------------------------------

FILES = (metaest.exceptions.ModelFileError, OSError)


def _saved(model: Any = None, path: Any = "model", **settings: Any) -> Any:
    with contextlib.chdir(FOLDER.name):
        metaest.save(regressor() if model is None else model, path, **settings)
        return metaest.load(path).predict(PROBE)


def _loaded(path: Any = "whole", **settings: Any) -> Any:
    with contextlib.chdir(FOLDER.name):
        metaest.save(regressor(), "whole")
        return metaest.load(path, **settings).predict(PROBE)


def _damaged(change: Callable[[bytes], bytes]) -> Any:
    with contextlib.chdir(FOLDER.name):
        metaest.save(regressor(), "damaged")
        content = Path("damaged").read_bytes()
        Path("damaged").write_bytes(change(content))
        return metaest.load("damaged").predict(PROBE)


@st.composite
def _damage(draw: st.DrawFn) -> dict[str, Given]:
    kind = draw(st.sampled_from(["cut", "a byte changed", "bytes inserted", "zeros", "other bytes", "twice"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    place, byte = rng.random(), bytes([rng.integers(256)])

    def change(content: bytes) -> bytes:
        i = int(place * len(content))
        if kind == "a byte changed":
            byte_there = bytes([content[i] ^ 1]) if content[i : i + 1] == byte else byte
            return content[:i] + byte_there + content[i + 1 :]
        return {
            "cut": content[:i], "bytes inserted": content[:i] + byte + content[i:], "zeros": b"\0" * i,
            "other bytes": rng.bytes(i), "twice": content * 2,
        }[kind]  # fmt: skip

    return {"change": Given(kind, change, lambda content: content)}


entry(
    "save",
    _saved,
    st.one_of(
        setting(lambda v: False, "model").filter(lambda g: g.value is not None).map(lambda g: {"model": g}),
        setting(lambda v: None if isinstance(v, (str, bytes)) else False, "path").map(lambda g: {"path": g}),
        flag("keep_rows").map(lambda g: {"keep_rows": g}),
    ),
    kinds=FILES,
)
entry(
    "load",
    _loaded,
    st.one_of(
        setting(lambda v: None if isinstance(v, (str, bytes)) else False, "path").map(lambda g: {"path": g}),
        setting(lambda v: None if v is None else False, "model").map(lambda g: {"model": g}),
        setting(lambda v: None, "equation").map(lambda g: {"equation": g}),
        setting(lambda v: None, "module").map(lambda g: {"module": g}),
        setting(lambda v: None, "objects").map(lambda g: {"objects": g}),
        flag("check_source").map(lambda g: {"check_source": g}),
    ),
    kinds=FILES,
)
entry("load (damaged files)", _damaged, _damage(), kinds=FILES)
entry(
    "model_hash",
    lambda model: metaest.model_hash(model),
    setting(lambda v: False, "model").map(lambda g: {"model": g}),
    kinds=FILES,
)
