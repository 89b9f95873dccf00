"""The settings of a fit: their allowed values, alone and together, and a typed group that the fit reads them from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, get_args

from sklearn.utils._param_validation import StrOptions

from metaest.estimators.arguments import POSITIVE_OR_ZERO, SEED, VERBOSE, Number, Whole
from metaest.functional import OUTCOME_WORDS, MetaGradient, Outcome, as_meta_gradient, as_outcome
from metaest.functional.equations.noise import NoiseKind
from metaest.population import Population

__all__ = ["CONSTRAINTS", "MOST_NODES", "OUTERMOST", "FitSettings"]

# name of the outermost level, the task itself
OUTERMOST = "task"

# constants that vary, up to which quadrature is offered: the number of nodes is a power of theirs
MOST_DIMENSIONS = 3
# nodes of quadrature in a direction, beyond which rounding takes their weights
MOST_NODES = 101

# one number of all rows, or a column
LIMIT = [Number(None, None, closed="neither"), str, None]

# equation and parameters are checked elsewhere, with messages that name the constant
CONSTRAINTS: dict[str, list[Any]] = {
    "random": ["array-like", StrOptions({"auto"}), None],
    "covariance": [StrOptions({"full", "diagonal", "auto"}), Mapping],
    "levels": [Mapping, None],
    "noise": [StrOptions({*get_args(NoiseKind), *OUTCOME_WORDS, "auto"}), Outcome, Mapping],
    "output": [str, Whole(0, None, closed="left"), None],
    "noise_correlation": [StrOptions({"ar1", "car1"}), None],
    "correlation_time": [str, Whole(0, None, closed="left"), None],
    "measurement_sd": [str, Whole(0, None, closed="left"), None],
    "limit": LIMIT,
    "limit_from": LIMIT,
    "upper_limit": LIMIT,
    "covariates": [Mapping, None],
    "time_varying": ["array-like", str, Whole(0, None, closed="left"), None],
    "objective": [StrOptions({"evidence", "query"})],
    "inner_solver": [StrOptions({"gauss-newton", "gradient"})],
    "inner_steps": [Whole(0, None, closed="left")],
    "meta_gradient": [StrOptions({"exact", "first-order"}), MetaGradient],
    "support_size": [Whole(0, None, closed="left"), range, tuple, list, None],
    "split": [StrOptions({"random", "first"})],
    "n_episodes": [Whole(1, None, closed="left"), None],
    "meta_lr": [POSITIVE_OR_ZERO],
    "meta_batch_size": [Whole(1, None, closed="left")],
    "max_iter": [Whole(1, None, closed="left")],
    "n_nodes": [Whole(1, MOST_NODES, closed="both")],
    "small_sample": [StrOptions({"none", "integrate"})],
    "compile": ["boolean", StrOptions({"auto"})],
    "random_state": SEED,
    "prior": [Population, None],
    "prior_weight": [Number(0, None, closed="right"), StrOptions({"auto"})],
    "checkpoint": [str, os.PathLike, None],
    "checkpoint_every": [Whole(1, None, closed="left")],
    "verbose": VERBOSE,
}


@dataclass(frozen=True)
class FitSettings:
    """The settings of an ``EquationRegressor`` that its fit reads, as its constructor takes them."""

    random: Sequence[str] | str | None
    covariance: str | Mapping[str, str]
    levels: Mapping[Any, Any] | None
    noise: str | Outcome | Mapping[Any, str]
    output: str | int | None
    noise_correlation: str | None
    correlation_time: str | int | None
    measurement_sd: str | int | None
    limit: float | str | None
    limit_from: float | str | None
    upper_limit: float | str | None
    covariates: Mapping[str, Sequence[str | int]] | None
    time_varying: Sequence[str | int] | str | int | None
    objective: str
    inner_solver: str
    inner_steps: int
    meta_gradient: str | MetaGradient
    support_size: Any
    split: str
    n_episodes: int | None
    meta_lr: float
    meta_batch_size: int
    max_iter: int
    n_nodes: int
    small_sample: str
    compile: str | bool
    verbose: Any

    @classmethod
    def of(cls, estimator: Any) -> "FitSettings":
        """Return the settings of an estimator, checked together."""
        settings = cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})
        if hasattr(estimator, "settings_of_fit"):  # a model of a catalogue may handle some of them itself
            settings = estimator.settings_of_fit(settings)
        settings.check()
        return settings

    @property
    def diagonal(self) -> bool:
        """Whether constants vary independently between tasks."""
        return self.covariance == "diagonal"

    def is_diagonal(self, level: str) -> bool:
        """Return whether constants vary independently at a level."""
        if isinstance(self.covariance, Mapping):
            return self.covariance.get(level, "full") == "diagonal"
        return self.diagonal

    @property
    def by_gradient_steps(self) -> bool:
        """Whether tasks adapt by gradient steps (MAML), and not by their most probable constants."""
        return self.inner_solver == "gradient"

    @property
    def by_query(self) -> bool:
        """Whether the objective is about query rows of episodes, and not the evidence of all rows."""
        return self.objective == "query"

    @property
    def logarithmic(self) -> bool:
        """Whether the logarithms of observations are normal."""
        return set(self.noises) == {"lognormal"}

    @property
    def output_columns(self) -> list[str]:
        """The name of the column of outputs, if any."""
        return [self.output] if isinstance(self.output, str) else []

    @property
    def noises(self) -> list[str]:
        """The kinds of noise of all outputs."""
        return list(self.noise.values()) if isinstance(self.noise, Mapping) else [self.noise]  # type: ignore[list-item]

    @property
    def censors(self) -> bool:
        """Whether observations beyond a limit are known by an interval."""
        return self.limit is not None or self.upper_limit is not None

    @property
    def outcome(self) -> Outcome | None:
        """What observations are where they are not normal; None where they are."""
        return as_outcome(self.noise)

    def nodes_for(self, names: Sequence[str]) -> int:
        """Return the nodes of quadrature in each direction, for constants that vary with these names."""
        if self.n_nodes > 1 and len(names) > MOST_DIMENSIONS:
            raise ValueError(
                f"n_nodes={self.n_nodes} is for up to {MOST_DIMENSIONS} constants that vary between tasks, and "
                f"{len(names)} do ({', '.join(names)}); let fewer vary (random=), or take n_nodes=1."
            )
        return int(self.n_nodes)

    def check(self) -> None:
        """Raise a ValueError when settings do not go together."""
        self._check_outcome()
        if self.by_gradient_steps and not self.by_query:
            raise ValueError(
                "inner_solver='gradient' needs objective='query': gradient steps have no evidence to maximise."
            )
        self._check_limits()
        if self.measurement_sd is not None and self.by_gradient_steps:
            raise ValueError(
                "measurement_sd needs inner_solver='gauss-newton': gradient steps minimise squared errors; use "
                "sample_weight instead."
            )
        if self.small_sample == "integrate" and self.by_query:
            raise ValueError("small_sample='integrate' needs objective='evidence': it integrates the likelihood.")
        self._check_levels()
        if self.small_sample == "integrate" and "auto" in (self.noise, self.covariance, str(self.random)):
            raise ValueError(
                "small_sample='integrate' compares no structures: give random, covariance and noise other than 'auto'."
            )
        if self.n_nodes > 1 and self.levels is not None:
            raise ValueError(f"n_nodes={self.n_nodes} and levels do not go together yet; take n_nodes=1.")
        if self.n_nodes > 1 and (self.by_query or self.small_sample == "integrate"):
            other = "objective='evidence'" if self.by_query else "small_sample='none'"
            raise ValueError(f"n_nodes={self.n_nodes} needs {other}: it is about the integral of the likelihood.")
        self._check_correlation()
        self._check_outputs()
        self._check_lognormal()
        meta_gradient = as_meta_gradient(self.meta_gradient)
        if not meta_gradient.second_derivatives and not self.by_gradient_steps:
            raise ValueError(
                f"meta_gradient={self.meta_gradient!r} needs inner_solver='gradient': the gradient through "
                "Gauss-Newton is always exact."
            )
        if self.by_gradient_steps and not meta_gradient.through_steps:
            raise ValueError(
                f"meta_gradient={self.meta_gradient!r} does not go through the gradient steps, whose rates are learned "
                "as well; 'exact' and 'first-order' do."
            )

    def _check_limits(self) -> None:
        """Raise a ValueError when limits contradict one another, or the objective."""
        if self.censors and (self.by_query or self.by_gradient_steps):
            name = "limit" if self.limit is not None else "upper_limit"
            raise ValueError(
                f"{name} needs objective='evidence': a censored likelihood is not implemented for objective='query'."
            )
        if self.limit_from is not None and self.limit is None:
            raise ValueError("limit_from says where observations below a limit begin, and needs limit.")
        for low, high in (("limit_from", "limit"), ("limit", "upper_limit")):
            ends = getattr(self, low), getattr(self, high)
            if all(isinstance(end, Real) for end in ends) and not ends[0] < ends[1]:
                raise ValueError(f"{low}={ends[0]!r} must be below {high}={ends[1]!r}.")

    def _check_levels(self) -> None:
        """Raise a ValueError when settings do not go together with levels."""
        if isinstance(self.covariance, Mapping):
            levels = [OUTERMOST, *map(str, self.levels or {})]
            for level, form in self.covariance.items():
                if level not in levels:
                    raise ValueError(f"covariance: there is no level {level!r}; the levels are {levels}.")
                if form not in ("full", "diagonal"):
                    raise ValueError(f"covariance[{level!r}] must be 'full' or 'diagonal', got {form!r}.")
        if self.levels is None:
            if isinstance(self.covariance, Mapping):
                raise ValueError("covariance by level needs levels=; without them it is one word.")
            return
        if not self.levels:
            raise ValueError("levels is empty: name columns of X and the constants that vary there, or leave it None.")
        if OUTERMOST in self.levels:
            raise ValueError(f"levels: {OUTERMOST!r} is the name of the outermost level; random= has its constants.")
        refused = {
            "objective='query'": self.by_query,
            "small_sample='integrate'": self.small_sample == "integrate",
            "random='auto'": isinstance(self.random, str),
            "covariance='auto'": self.covariance == "auto",
            "noise='auto'": self.noise == "auto",
        }
        for setting, given in refused.items():
            if given:
                raise ValueError(f"levels and {setting} do not go together yet; take another value, or no levels.")

    def _check_outputs(self) -> None:
        """Raise a ValueError when several outputs, or the noise of each, do not go with the other settings."""
        if self.output is None:
            if isinstance(self.noise, Mapping):
                raise ValueError("noise of each output needs output=, the column of X with the output of each row.")
            return
        for kind in self.noises:
            if kind not in get_args(NoiseKind):
                raise ValueError(f"noise of an output must be one of {', '.join(get_args(NoiseKind))}, got {kind!r}.")
        if "lognormal" in self.noises and not self.logarithmic:
            raise ValueError(
                "noise='lognormal' is of all outputs or of none, as residuals are on one scale; take 'proportional'."
            )
        refused = {
            "objective='query'": self.by_query,
            "noise_correlation": self.noise_correlation is not None,
            "small_sample='integrate'": self.small_sample == "integrate",
            "covariance='auto'": self.covariance == "auto",
            "random='auto'": isinstance(self.random, str) and self.random == "auto",
        }
        for what, asked in refused.items():
            if asked:
                raise ValueError(f"output: {what} is not implemented for several outputs.")
        for name in ("limit", "limit_from", "upper_limit"):
            if isinstance(getattr(self, name), Real):
                raise ValueError(f"output: {name} must be a column with the limit of each row; outputs have units.")

    def _check_outcome(self) -> None:
        """Raise a ValueError when outcomes that are not normal do not go with the other settings."""
        outcome = self.outcome
        if outcome is None:
            return
        refused = {
            "objective='evidence'": self.by_query or self.by_gradient_steps,
            "limit=None and upper_limit=None": self.censors,
            "measurement_sd=None": self.measurement_sd is not None,
            "noise_correlation=None": self.noise_correlation is not None,
            "small_sample='none'": self.small_sample != "none",
            "output=None": self.output is not None,
            "levels=None": self.levels is not None,
            "random and covariance other than 'auto'": "auto" in (self.covariance, str(self.random)),
        }
        for needed, other in refused.items():
            if other:
                raise ValueError(f"noise={outcome.kind!r} needs {needed}: the other is about normal observations.")

    def _check_lognormal(self) -> None:
        """Raise a ValueError when the logarithm of y cannot be what is normal with the other settings."""
        if not self.logarithmic:
            return
        if self.by_gradient_steps:
            raise ValueError(
                "noise='lognormal' needs inner_solver='gauss-newton': gradient steps minimise squared errors of y."
            )
        if self.measurement_sd is not None:
            raise ValueError(
                "measurement_sd is in the unit of y and cannot be added to noise='lognormal', that of its logarithm; "
                "take noise='proportional' or 'combined', or sample_weight."
            )
        for name in ("limit", "upper_limit"):
            limit = getattr(self, name)
            if isinstance(limit, Real) and limit <= 0:
                raise ValueError(f"noise='lognormal' needs a limit above 0, as all observations are; got {limit!r}.")

    def _check_correlation(self) -> None:
        """Raise a ValueError when residuals cannot correlate with the other settings."""
        if self.noise_correlation != "car1" and self.correlation_time is not None:
            raise ValueError("correlation_time needs noise_correlation='car1': only that looks at times.")
        if self.noise_correlation is None:
            return
        if self.by_gradient_steps:
            raise ValueError(
                "noise_correlation needs inner_solver='gauss-newton': gradient steps minimise squared errors."
            )
        if self.censors:
            raise ValueError(
                "noise_correlation needs limit=None: the probability that several correlated observations lie below a "
                "limit is not implemented."
            )
        if self.noise_correlation == "ar1" and self.by_query:
            raise ValueError(
                "noise_correlation='ar1' needs objective='evidence': episodes draw rows, and so change which follow "
                "one another; 'car1' goes by times."
            )
