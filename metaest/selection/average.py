"""AdaptedAverage: what the predictors of one task share that are averages of adapted predictors."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.guard import FittedGuard, Guard
from metaest.estimators.inputs import n_features_of
from metaest.estimators.predictor import AdaptedPredictor
from metaest.selection.answers import adapted
from metaest.selection.ensemble import Ensemble
from metaest.tasks.record import read_only

__all__ = ["AdaptedAverage"]


@dataclass(frozen=True, eq=False, repr=False)
class AdaptedAverage(AdaptedPredictor):
    """Members of an ensemble, adapted to the rows of one task."""

    _ensemble: Ensemble
    X_support_: NDArray[Any]
    y_support_: NDArray[Any]
    n_features_in_: int
    guard_: Guard | None = None
    _judge: FittedGuard | None = None

    @classmethod
    def _made(
        cls,
        ensemble: Ensemble,
        X: NDArray[Any],
        y: NDArray[Any],
        feature_names: NDArray[Any] | None,
        judge: FittedGuard | None,
        **further: Any,
    ) -> Any:
        X, y = np.array(X), np.array(y)
        guard = None if judge is None else judge.judge(X, y)
        n = n_features_of(X)
        assert n is not None
        made = cls(ensemble, read_only(X), read_only(y), n, guard_=guard, _judge=judge, **further)
        if feature_names is not None:
            object.__setattr__(made, "feature_names_in_", feature_names)
        if X.ndim > 2:
            object.__setattr__(made, "feature_shape_", X.shape[1:])
        made._predictors  # noqa: B018 - errors are those of adapt, not of the first prediction
        return made

    @cached_property
    def _predictors(self) -> tuple[Any, ...]:
        """The members adapted to the support rows."""
        X, y = self.X_support_, self.y_support_
        return tuple(adapted(one.name, one.model, X, y) if len(X) else one.model for one in self._ensemble.members)

    def __getstate__(self) -> dict[str, Any]:
        # what can be computed again is no part of a pickle
        return {name: value for name, value in super().__getstate__().items() if name != "_predictors"}

    @property
    def members_(self) -> dict[str, Any]:
        """Adapted predictors of the candidates chosen, by name."""
        names = [member.name for member in self._ensemble.members]
        return dict(zip(names, self._predictors, strict=True))

    @property
    def weights_(self) -> dict[str, float]:
        """Weights of the candidates chosen, by name."""
        return {member.name: member.weight for member in self._ensemble.members}
