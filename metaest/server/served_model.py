"""A fitted model as a server uses it: what it offers, adaptations of many tasks in one batch, predictions."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from metaest.estimators import EquationRegressor, MAMLClassifier, MAMLRegressor
from metaest.estimators.columns import takes_objects
from metaest.estimators.gaussian.base import BaseGaussian
from metaest.exceptions import ModelFileError, quiet
from metaest.functional import SolveCode
from metaest.saving.files import from_bytes, model_hash, to_bytes
from metaest.selection import AutoMetaClassifier, AutoMetaRegressor
from metaest.server.columns import Column, Columns
from metaest.server.errors import Refused, refusal_of
from metaest.server.limits import Limits
from metaest.server.predictor_size import arrays_of
from metaest.server.requests import Adaptation, Prediction, Reader
from metaest.tasks import TaskSet
from metaest.version import __version__

__all__ = ["Adapted", "ServedModel", "serve"]

# tasks adapted to in one call: more gain little, and make others wait
BATCH = 256
# numbers in the covariances of these tasks, where there are any
BATCH_VALUES = 4_000_000
# bytes of a kept predictor beside its arrays
OVERHEAD = 4_000


class Adapted:
    """The answer to one adaptation, and the predictor behind it where that is asked for.

    Parameters
    ----------
    answer : dict
        What is sent.
    predictor : callable
        Returns the adapted predictor.
    """

    def __init__(self, answer: dict[str, Any], predictor: Callable[[], Any]) -> None:
        self.answer, self.predictor = answer, predictor


def serve(
    model: Any, limits: Limits, columns: Mapping[str, Mapping[str, Any]] | None = None, compile: bool | None = None
) -> "ServedModel":
    """Return a fitted model as a server uses it.

    Raises
    ------
    TypeError
        When it is of a kind that is not served.
    """
    kinds: tuple[tuple[type, type[ServedModel]], ...] = (
        (MAMLRegressor, ServedNetwork),
        (EquationRegressor, ServedEquation),
        (MAMLClassifier, ServedClassifier),
        (BaseGaussian, ServedGaussian),
        (AutoMetaRegressor, ServedAverage),
        (AutoMetaClassifier, ServedClassAverage),
    )
    for kind, served in kinds:
        # a class with an adapt of its own takes other rows, or returns other predictors
        same = isinstance(model, kind) and all(
            getattr(type(model), name) is getattr(kind, name) for name in ("adapt", "predict")
        )
        if same:
            check_is_fitted(model)
            return served(model, limits, columns, compile)
    raise TypeError(
        f"{type(model).__name__} cannot be served; MAMLRegressor, MAMLClassifier, EquationRegressor and the equations "
        "of metaest_domains, RandomCoefficientRegressor, HierarchicalGPRegressor, AutoMetaRegressor and "
        "AutoMetaClassifier can."
    )


class ServedModel:
    """A fitted model as a server uses it.

    Parameters
    ----------
    model : estimator
        It is not changed.
    limits : Limits
    columns : mapping of str to mapping, optional
        What the operator states of columns of X and of "y": unit, description, minimum, maximum.
    compile : bool, optional
        Whether adaptations are worked out in machine code; None where that is possible.
    """

    labels = False
    weighs = False
    methods: tuple[str, ...] = ()
    spreads = False
    constants: Mapping[str, Mapping[str, Any]] = {}

    def __init__(
        self,
        model: Any,
        limits: Limits,
        columns: Mapping[str, Mapping[str, Any]] | None,
        compile: bool | None,
    ) -> None:
        if takes_objects(model) or model.n_features_in_ is None:
            raise TypeError("models with a collate_fn are not served; rows must be columns of numbers.")
        if len(getattr(model, "feature_shape_", (1,))) > 1:
            raise TypeError("models of images are not served; rows must be columns of numbers.")
        # adapting to one task after the other is what a server does; where compiling is impossible, torch does it
        self.model = self._prepared(model, True if compile is None else compile)
        self.n_features = int(model.n_features_in_)
        self.guards = bool(getattr(model, "_guards", False))
        names = getattr(model, "feature_names_in_", None)
        called = [f"x{j}" for j in range(self.n_features)] if names is None else [str(name) for name in names]
        outputs = int(getattr(model, "n_outputs_", 1))
        targets = ["y"] if outputs == 1 else [f"y{j}" for j in range(outputs)]
        stated = dict(columns or {})
        unknown = [name for name in stated if name not in (*called, *targets)]
        if unknown:
            raise ValueError(f"columns: there is no column {unknown[0]!r}; there are {', '.join((*called, *targets))}.")
        learned = getattr(model, "feature_range_", None)
        ranges: list[Any] = [None] * self.n_features
        if learned is not None:  # NaN where a published population states no range
            ranges = [None if np.isnan(low) else (float(low), float(high)) for low, high in learned.T]
        self.columns = Columns(
            [Column.of(name, stated.get(name, {}), training) for name, training in zip(called, ranges, strict=True)],
            names is not None,
            names is not None and self._takes_further(),
            limits.max_rows,
        )
        self.targets = tuple(Column.of(name, stated.get(name, {})) for name in targets)
        self._learn()
        self.reader = Reader(
            self.columns,
            self.targets,
            self.labels,
            self.weighs,
            self.methods,
            self.spreads,
            bool(self.constants),
            limits.keep > 0,
            limits.max_tasks,
        )

    def adapt(self, wanted: Sequence[Adaptation]) -> list[Adapted | Exception]:
        """Adapt to many tasks; an error takes the place of the answer to a task that cannot be used."""
        with quiet(Warning):
            return [answer for part in self._parts(wanted) for answer in self._adapt_part(part)]

    def predict(self, wanted: Prediction, predictor: Any = None) -> dict[str, Any]:
        """Predict rows by an adapted predictor, or by the population."""
        chosen = self.model if predictor is None else predictor
        with quiet(Warning):
            try:
                answer = self.predictions(chosen, wanted.X)
                answer.update(self._intervals(chosen, wanted.X, wanted.level, wanted.method, wanted.std))
            except Exception as error:
                raise self._refusal(error, "X") from error
        answer["warnings"] = self.columns.beyond(wanted.X, "X")
        return answer

    def _refusal(self, error: Exception, field: str) -> Exception:
        """Return the answer to an error that is about a request, and the error itself where it is not."""
        return refusal_of(error, field, self.columns.names) or error

    def size_of(self, predictor: Any) -> int:
        """Return about how many bytes a predictor takes beside its model."""
        return OVERHEAD + sum(int(array.nbytes) for array in arrays_of(predictor))

    def delta_of(self, predictor: Any) -> bytes:
        """Return a predictor as bytes, which name its model by a hash."""
        return to_bytes(predictor)

    def of_delta(self, content: bytes) -> Any:
        """Return the predictor of `delta_of`, or refuse what is none of this model."""
        try:
            return from_bytes(content, self.model)
        except ModelFileError as error:
            raise Refused("invalid", f"delta: {error}", field="delta") from None

    def describe(self) -> dict[str, Any]:
        """Return a description of the model."""
        return {
            "class": type(self.model).__name__,
            "hash": model_hash(self.model),
            "metaest": __version__,
            "features": [column.describe() for column in self.columns.columns],
            "targets": [target.describe() for target in self.targets],
            "guard": self.guards,
            "intervals": list(self.methods),
        }

    def predictions(self, predictor: Any, X: Any) -> dict[str, Any]:
        """Return predictions of rows as they are sent."""
        return {"predictions": numbers(predictor.predict(X))}

    def _adapt_part(self, wanted: Sequence[Adaptation]) -> list[Adapted | Exception]:
        try:
            return list(self._adapt(wanted))
        except Exception as error:
            if len(wanted) == 1:
                return [self._refusal(error, "X")]
        half = len(wanted) // 2
        return self._adapt_part(wanted[:half]) + self._adapt_part(wanted[half:])

    def _adapt(self, wanted: Sequence[Adaptation]) -> list[Adapted]:
        """Adapt to tasks that are adapted to alike."""
        raise NotImplementedError

    def _one(self, one: Adaptation) -> Adapted:
        """Adapt to one task that does not go with others."""
        more = {} if one.weight is None else {"sample_weight": one.weight}
        predictor = self.model.adapt(one.X, one.y, guard=one.guard, **more)
        answer: dict[str, Any] = {"n_rows": len(one.X)}
        if one.predict is not None:
            answer.update(self._of_query(lambda: self.predictions(predictor, one.predict)))
        return self._completed(answer, one, lambda: predictor, predictor.guard_)

    def _beyond(self, one: Adaptation) -> list[str]:
        """Return what is to be said of rows beyond the training tasks."""
        said = self.columns.beyond(one.X, "X")
        return said if one.predict is None else said + self.columns.beyond(one.predict, "predict")

    def _of_query(self, call: Callable[[], Any]) -> Any:
        """Predict; errors are about the rows to be predicted."""
        try:
            return call()
        except Exception as error:
            raise self._refusal(error, "predict") from error

    def _completed(self, answer: dict[str, Any], one: Adaptation, predictor: Callable[[], Any], guard: Any) -> Adapted:
        """Add to an answer what is asked for beside predictions."""
        if guard is not None:
            answer["guard"] = {"decision": guard.decision, "share": guard.share, "reason": guard.reason}
        if one.predict is not None and (one.level is not None or one.std):
            adapted, X = predictor(), one.predict
            answer.update(self._of_query(lambda: self._intervals(adapted, X, one.level, one.method, one.std)))
        if one.constants:
            answer.update(self._constants(predictor()))
        return Adapted(answer, predictor)

    def _intervals(self, predictor: Any, X: Any, level: float | None, method: str | None, std: bool) -> dict[str, Any]:
        intervals: dict[str, Any] = {}
        if std:
            intervals["std"] = numbers(predictor.predict(X, return_std=True)[1])
        if level is not None:
            method = self.methods[0] if method is None else method
            lower, upper = predictor.predict_interval(X, level, method)
            intervals["interval"] = {"level": level, "method": method, "lower": ends(lower), "upper": ends(upper)}
        return intervals

    def _prepared(self, model: Any, compile: bool) -> Any:
        """Return a copy of the model that adapts as the server wants it."""
        return copy.copy(model).set_params(compile=compile)

    def _parts(self, wanted: Sequence[Adaptation]) -> Iterator[Sequence[Adaptation]]:
        """Yield tasks that are adapted to in one call."""
        for first in range(0, len(wanted), BATCH):
            yield wanted[first : first + BATCH]

    def _learn(self) -> None:
        """Find what the model offers."""

    def _takes_further(self) -> bool:
        return False

    def _constants(self, predictor: Any) -> dict[str, Any]:
        return {}


class _Batched(ServedModel):
    """A model with ``adapt_many``."""

    def _adapt(self, wanted: Sequence[Adaptation]) -> list[Adapted]:
        answers: list[Adapted | None] = [None] * len(wanted)
        for guard in (False, True):
            chosen = [i for i, one in enumerate(wanted) if _goes_along(one) and self._guard(one) is guard]
            if chosen:
                for i, answer in zip(chosen, self._together([wanted[i] for i in chosen], guard), strict=True):
                    answers[i] = answer
        return [self._one(wanted[i]) if answer is None else answer for i, answer in enumerate(answers)]

    def _guard(self, one: Adaptation) -> bool:
        return self.guards if one.guard is None else one.guard

    def _together(self, wanted: Sequence[Adaptation], guard: bool) -> Iterator[Adapted]:
        many = self.model.adapt_many(_task_set(wanted), guard=guard)
        # a task of which nothing is to be predicted lends a row, since a task has one at least
        rows = [one.X[:1] if one.predict is None else one.predict for one in wanted]
        sizes = np.array([len(part) for part in rows])
        query = _grouped(rows, np.zeros((int(sizes.sum()), *wanted[0].y.shape[1:])), sizes)
        at = self._of_query(lambda: many.predict(query))
        warnings = self._warnings(many)
        if self.columns.is_beyond(many.tasks.X) or self.columns.is_beyond(query.X):
            warnings = [said + self._beyond(one) for said, one in zip(warnings, wanted, strict=True)]
        for i, (one, predictions) in enumerate(zip(wanted, np.split(at, np.cumsum(sizes)[:-1]), strict=True)):
            answer: dict[str, Any] = {"n_rows": len(one.X), "warnings": warnings[i]}
            if one.predict is not None:
                answer["predictions"] = numbers(predictions)
            guarded = None if many.guards_ is None else many.guards_[i]
            yield self._completed(answer, one, _Once(many, i), guarded)

    def _one(self, one: Adaptation) -> Adapted:
        adapted = super()._one(one)
        adapted.answer["warnings"] = self._warnings_of_one(adapted.predictor()) + self._beyond(one)
        return adapted

    def _warnings(self, many: Any) -> list[list[str]]:
        return [[] for _ in range(len(many))]

    def _warnings_of_one(self, predictor: Any) -> list[str]:
        return []


class ServedNetwork(_Batched):
    """A meta-learned network that predicts numbers."""

    def _learn(self) -> None:
        head = self.model._adaptation().head
        self.spreads = head is not None and head.bayesian
        self.methods = ("conformal",) if self.model._conformal is not None else ()

    def _warnings(self, many: Any) -> list[list[str]]:
        word = (
            "the inner rate overshot on these rows and was lowered; the task may be unlike those that the model was "
            "fitted on."
        )
        return [[word] if lowered else [] for lowered in many.lowered_.tolist()]


class ServedEquation(_Batched):
    """An equation with constants."""

    weighs = True
    spreads = True

    def _learn(self) -> None:
        fitted = self.model._fitted
        self.methods = ("posterior", "conformal") if self.model._conformal is not None else ("posterior",)
        values = self.model.population_["value"]
        self.constants = {
            name: {
                "unit": parameter.unit,
                "meaning": parameter.meaning,
                "lower": ends(parameter.bounds[0]),
                "upper": ends(parameter.bounds[1]),
                "population": ends(values[name]),
            }
            for name, parameter in fitted.given_table.items()
        }

    def describe(self) -> dict[str, Any]:
        """Return a description of the model with its constants."""
        return {**super().describe(), "constants": self.constants}

    def _takes_further(self) -> bool:
        return hasattr(self.model.equation_, "arrange")

    def _warnings(self, many: Any) -> list[list[str]]:
        # of an average of structures, those of every member
        each = (_warnings_of(member._unguarded) for member in getattr(many, "members_", (many,)))
        return [list(dict.fromkeys(itertools.chain(*parts))) for parts in zip(*each, strict=True)]

    def _warnings_of_one(self, predictor: Any) -> list[str]:
        return self._warnings(predictor)[0]

    def _constants(self, predictor: Any) -> dict[str, Any]:
        table, quantities = predictor.params_, predictor.derived_
        constants = {
            str(name): {
                "value": ends(row["value"]),
                "standard_error": ends(row["standard_error"]),
                "lower_90": ends(row["lower_90"]),
                "upper_90": ends(row["upper_90"]),
                "unit": row["unit"],
                "identified": bool(row["identified"]),
                "reason": row["reason"],
            }
            for name, row in table.iterrows()
        }
        derived = {
            str(name): {
                "value": ends(row["value"]),
                "lower_90": ends(row["lower_90"]),
                "upper_90": ends(row["upper_90"]),
                "unit": row["unit"],
                "meaning": row["meaning"],
            }
            for name, row in quantities.iterrows()
        }
        return {"constants": constants, "derived": derived}


class ServedGaussian(_Batched):
    """Gaussian processes of tasks, or random coefficients."""

    spreads = True

    def _learn(self) -> None:
        self.methods = ("posterior", "conformal") if self.model._conformal is not None else ("posterior",)

    def _prepared(self, model: Any, compile: bool) -> Any:
        return copy.copy(model)

    def _parts(self, wanted: Sequence[Adaptation]) -> Iterator[Sequence[Adaptation]]:
        return _of_few_values(super()._parts(wanted))


class ServedAverage(_Batched):
    """Averages of models of any kind, or the best of them."""

    def _learn(self) -> None:
        self.spreads = self.model._ensemble.has_std
        self.methods = ("conformal",) if self.model._conformal is not None else ()

    def _prepared(self, model: Any, compile: bool) -> Any:
        return _average_compiling(model, compile)

    def _parts(self, wanted: Sequence[Adaptation]) -> Iterator[Sequence[Adaptation]]:
        return _of_few_values(super()._parts(wanted))


class ServedClassifier(ServedModel):
    """A meta-learned network that predicts labels."""

    labels = True

    def describe(self) -> dict[str, Any]:
        """Return a description of the model, with its labels where they mean the same in every task."""
        classes = getattr(self.model, "classes_", None)
        return {**super().describe(), "classes": None if classes is None else classes.tolist()}

    def predictions(self, predictor: Any, X: Any) -> dict[str, Any]:
        """Return labels and probabilities of rows as they are sent."""
        probabilities = predictor.predict_proba(X)
        classes = predictor.classes_
        return {
            "predictions": classes[probabilities.argmax(axis=1)].tolist(),
            "classes": classes.tolist(),
            "probabilities": numbers(probabilities),
        }

    def _adapt(self, wanted: Sequence[Adaptation]) -> list[Adapted]:
        adapted = [self._one(one) for one in wanted]
        for result, one in zip(adapted, wanted, strict=True):
            result.answer["warnings"] = self._beyond(one)
        return adapted


class ServedClassAverage(ServedClassifier):
    """Averages of classifiers, or the best of them."""

    def _prepared(self, model: Any, compile: bool) -> Any:
        return _average_compiling(model, compile)


class _Once:
    """One of many predictors, made where it is asked for."""

    def __init__(self, many: Any, i: int) -> None:
        self._many, self._i, self._made = many, i, None

    def __call__(self) -> Any:
        if self._made is None:
            self._made = self._many[self._i]
        return self._made


def numbers(values: NDArray[Any]) -> Any:
    """Return predictions as they are sent; they must be finite."""
    if not np.isfinite(values).all():
        raise Refused("diverged", "a prediction is not finite for these rows.", field="predict")
    return np.asarray(values, dtype=np.float64).tolist()


def ends(values: Any) -> Any:
    """Return numbers of which some may be infinite or missing, which JSON writes as null."""
    if isinstance(values, np.ndarray):
        return [ends(value) for value in values.tolist()]
    if isinstance(values, list):
        return [ends(value) for value in values]
    return float(values) if math.isfinite(values) else None


def _of_few_values(parts: Iterator[Sequence[Adaptation]]) -> Iterator[Sequence[Adaptation]]:
    """Divide batches of tasks whose covariances, of the squares of their rows, would be large together."""
    for part in parts:
        first, values = 0, 0
        for i, one in enumerate(part):
            if i > first and values + len(one.X) ** 2 > BATCH_VALUES:
                yield part[first:i]
                first, values = i, 0
            values += len(one.X) ** 2
        yield part[first:]


def _average_compiling(model: Any, compile: bool) -> Any:
    """Return a copy of an average whose members compile their adaptations or not."""
    prepared, ensemble = copy.copy(model), model._ensemble
    members = [replace(member, model=_compiling(member.model, compile)) for member in ensemble.members]
    prepared._ensemble = replace(ensemble, members=tuple(members))
    return prepared


def _compiling(model: Any, compile: bool) -> Any:
    """Return a copy of a model that compiles its adaptations or not, and other models as they are."""
    return copy.copy(model).set_params(compile=compile) if "compile" in model.get_params(deep=False) else model


def _goes_along(one: Adaptation) -> bool:
    """Tell whether a task is one of a batch: it has rows, and the columns of the fit alone."""
    return len(one.X) > 0 and not any(isinstance(rows, pd.DataFrame) for rows in (one.X, one.predict))


def _task_set(wanted: Sequence[Adaptation]) -> TaskSet:
    weight = None
    if any(one.weight is not None for one in wanted):
        weight = np.concatenate([np.ones(len(one.X)) if one.weight is None else one.weight for one in wanted])
    sizes = np.array([len(one.X) for one in wanted])
    return _grouped([one.X for one in wanted], np.concatenate([one.y for one in wanted]), sizes, weight)


def _grouped(rows: Sequence[Any], y: NDArray[Any], sizes: NDArray[Any], weight: Any = None) -> TaskSet:
    return TaskSet.from_arrays(
        np.concatenate(rows), y, groups=np.repeat(np.arange(len(sizes)), sizes), sample_weight=weight
    )


def _warnings_of(posterior: Any) -> list[list[str]]:
    """Return what is to be said of the adaptation to each task."""
    codes, unlikely = posterior.code.tolist(), posterior.unlikely.tolist()
    if not any(unlikely) and bool((posterior.code == SolveCode.CONVERGED).all()):
        return [[] for _ in codes]
    answers = []
    for code, far in zip(codes, unlikely, strict=True):
        ended = f"the search for the constants ended as {SolveCode(code).name.lower()}; treat them with care."
        far_off = "no curve of this population comes near these rows; check their units."
        answers.append([ended] * (code != SolveCode.CONVERGED) + [far_off] * bool(far))
    return answers
