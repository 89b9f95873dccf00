"""The bases of the predictors that ``adapt`` returns, and of the sequences of them that ``adapt_many`` returns."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from sklearn.utils import RegressorTags, Tags, TargetTags

from metaest.estimators.modes import in_plain_modes
from metaest.estimators.pickles import Stamped
from metaest.estimators.scoring import as_truth, r2_of_outputs, scale_of, score_weights
from metaest.exceptions import TaskError, filters_kept
from metaest.tasks import TaskSet
from metaest.tasks.arrays import require_numbers
from metaest.tasks.record import ReadOnly
from metaest.tasks.task import describe_rows

__all__ = ["AdaptedPredictor", "AdaptedPredictors", "refuse_fit"]

P = TypeVar("P", covariant=True)


class AdaptedPredictor(Stamped, ReadOnly):
    """A predictor for one task, with the rows it was adapted on; a subclass is a frozen data class."""

    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int | None
    _multi_output = True
    # its file holds only what the model lacks, and names the model
    is_adapted = True

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict rows of this task."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None, **params: Any) -> NoReturn:
        """Refuse: an adapted predictor never changes.

        The method exists because scikit-learn requires one of this name of every predictor, for instance in
        `permutation_importance`.

        Raises
        ------
        TypeError
        """
        refuse_fit(type(self).__name__)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _outputs_of(self, X: Any) -> NDArray[Any] | None:
        """Return the output of each row, where there are several."""
        return None

    @in_plain_modes
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R2 of the prediction, as every scikit-learn regressor does.

        Of an equation with several outputs it is the mean over outputs.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        sample_weight : array-like of shape (n_rows,), optional

        Returns
        -------
        float

        Raises
        ------
        TaskError
            When rows, targets or weights cannot be used.
        """
        prediction = self.predict(X)
        truth = require_numbers(as_truth(y, len(prediction)), "score")
        if truth.size != prediction.size:
            raise TaskError(f"score: y has shape {truth.shape}, and the predictions have shape {prediction.shape}.")
        weight = score_weights(sample_weight, len(prediction))
        if (output := self._outputs_of(X)) is not None:
            ones = np.ones(len(prediction)) if weight is None else weight
            return r2_of_outputs(truth.reshape(-1), prediction, output, ones)
        size = scale_of(truth, prediction)  # so that squares neither overflow nor vanish
        with filters_kept():
            return float(r2_score(truth.reshape(prediction.shape) / size, prediction / size, sample_weight=weight))

    def __sklearn_tags__(self) -> Tags:
        tags = TargetTags(required=True, multi_output=self._multi_output)
        return Tags(estimator_type="regressor", target_tags=tags, regressor_tags=RegressorTags())

    def __repr__(self) -> str:
        d, n, shape = self.n_features_in_, len(self.X_support_), self.X_support_.shape[1:]
        what = f"{d} feature{'s' * (d != 1)}" if len(shape) == 1 else f"rows of shape {shape}"
        what = what if shape else describe_rows(self.X_support_) if n else "rows of a user's type"
        return f"{type(self).__name__}({what}, adapted on {n} row{'s' * (n != 1)})"

    def _repr_html_(self) -> str:
        n = self.n_features_in_ if self.n_features_in_ is not None and self.X_support_.ndim == 2 else 0
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(n)])
        X = self.X_support_[:, :n] if n else self.X_support_[..., :0].reshape(len(self.X_support_), 0)
        y = self.y_support_ if self.y_support_.ndim == 2 else self.y_support_[:, None]
        targets = ["y"] if self.y_support_.ndim == 1 else [f"y{j}" for j in range(y.shape[1])]
        head = "".join(f"<th>{name}</th>" for name in [*names, *targets])
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in [*row, *targets_of_row]) + "</tr>"
            for row, targets_of_row in zip(X.tolist()[:20], y.tolist()[:20], strict=True)
        )
        return f"<p><b>{self!r}</b></p><table><tr>{head}</tr>{body}</table>"


class AdaptedPredictors(Stamped, Sequence[P]):
    """The predictors of many tasks, in their order: by number, or by name where names are words."""

    tasks: TaskSet
    is_adapted = True

    @abstractmethod
    def _one(self, i: int) -> P:
        """Return the predictor of task number i."""

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            names = self.tasks.names.tolist()
            if index not in names:
                raise TaskError(f"no task is named {index!r}; there are {len(names)}, the first is {names[0]!r}.")
            return self._one(names.index(index))
        chosen = range(len(self))[index]
        return [self._one(i) for i in chosen] if isinstance(chosen, range) else self._one(chosen)

    def __iter__(self) -> Iterator[P]:
        return (self._one(i) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} task{'s' * (len(self) != 1)})"

    def __sklearn_tags__(self) -> Tags:
        return Tags(estimator_type=None, target_tags=TargetTags(required=True))

    def _require_same(self, tasks: TaskSet) -> None:
        """Raise a TaskError unless tasks are those that were adapted to."""
        if tasks.names.tolist() != self.tasks.names.tolist():
            raise TaskError("predict: pass the tasks that were adapted to, in the same order.")


def refuse_fit(name: str) -> NoReturn:
    """Raise the TypeError of a predictor that is adapted, and not fitted."""
    raise TypeError(
        f"{name} is adapted to one task and is not fitted again; adapt the model to other rows, "
        "add rows by partial_adapt, or take FewShotRegressor(model) or FewShotClassifier(model), whose fit adapts."
    )


def _cell(value: Any) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.4g}"
