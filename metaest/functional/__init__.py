"""The torch core: inner solvers, meta-gradients and the one outer loop, as functions on tensors.

It knows nothing of tasks, of scikit-learn or of units; the estimators speak to it in padded batches.
"""

from metaest.functional.equations.correlation import Correlation
from metaest.functional.equations.counts import Bernoulli, Binomial, NegativeBinomial, PoissonCounts
from metaest.functional.equations.equation import Equation
from metaest.functional.equations.evidence import negative_log_evidence, query_loss
from metaest.functional.equations.gauss_newton import GaussNewton, SolveCode
from metaest.functional.equations.hierarchical import HierarchicalModel, PopulationParameters
from metaest.functional.equations.noise import Noise
from metaest.functional.equations.observations import Observations
from metaest.functional.equations.optimal_design import choose_rows
from metaest.functional.equations.ordinal import Ordinal
from metaest.functional.equations.outcome import Outcome
from metaest.functional.equations.outcomes import OUTCOME_WORDS, as_outcome
from metaest.functional.equations.row_function import RowFunction
from metaest.functional.equations.student import StudentT
from metaest.functional.equations.time_to_event import TimeToEvent
from metaest.functional.equations.transforms import Transforms
from metaest.functional.inner.class_head import ClassHead
from metaest.functional.inner.closed_form import ClosedForm, LinearHead
from metaest.functional.inner.damping import solve_damped
from metaest.functional.inner.evidence_head import EvidenceHead
from metaest.functional.inner.gradient_descent import GradientDescent
from metaest.functional.inner.head import Head
from metaest.functional.inner.solver import InnerSolver
from metaest.functional.losses import (
    REGRESSION_LOSSES,
    Huber,
    Poisson,
    Quantile,
    RegressionLoss,
    RowLoss,
    SquaredError,
    as_regression_loss,
    cross_entropy,
    squared_error,
)
from metaest.functional.meta_gradients.implicit import Implicit
from metaest.functional.meta_gradients.meta_gradient import MetaGradient
from metaest.functional.meta_gradients.query_loss import QueryLoss
from metaest.functional.meta_gradients.reptile import Reptile
from metaest.functional.meta_gradients.task_losses import (
    META_GRADIENTS,
    MetaGradientName,
    as_meta_gradient,
    task_losses,
)
from metaest.functional.modules.builtin import MLP, ConvNet
from metaest.functional.modules.context import ContextForward
from metaest.functional.modules.forward import ModuleForward, looped, mapped, repeat_for_tasks, with_statistics
from metaest.functional.modules.head import HeadForward, split_head
from metaest.functional.modules.normalization import task_normed
from metaest.functional.outer import Callback, History, OuterLoop, OuterResult, StepInfo
from metaest.functional.scaling import Scaling
from metaest.functional.types import BatchForward, Episodes, Forward, Loss, Params, Rows
from metaest.functional.utility import Utility

__all__ = [
    "META_GRADIENTS",
    "MLP",
    "OUTCOME_WORDS",
    "REGRESSION_LOSSES",
    "BatchForward",
    "Bernoulli",
    "Binomial",
    "Callback",
    "ClassHead",
    "ClosedForm",
    "ContextForward",
    "ConvNet",
    "Correlation",
    "Episodes",
    "Equation",
    "EvidenceHead",
    "Forward",
    "GaussNewton",
    "GradientDescent",
    "Head",
    "HeadForward",
    "HierarchicalModel",
    "History",
    "Huber",
    "Implicit",
    "InnerSolver",
    "LinearHead",
    "Loss",
    "MetaGradient",
    "MetaGradientName",
    "ModuleForward",
    "NegativeBinomial",
    "Noise",
    "Observations",
    "Ordinal",
    "Outcome",
    "OuterLoop",
    "OuterResult",
    "Params",
    "Poisson",
    "PoissonCounts",
    "PopulationParameters",
    "Quantile",
    "QueryLoss",
    "RegressionLoss",
    "Reptile",
    "RowFunction",
    "RowLoss",
    "Rows",
    "Scaling",
    "SolveCode",
    "SquaredError",
    "StepInfo",
    "StudentT",
    "TimeToEvent",
    "Transforms",
    "Utility",
    "as_meta_gradient",
    "as_outcome",
    "as_regression_loss",
    "choose_rows",
    "cross_entropy",
    "looped",
    "mapped",
    "negative_log_evidence",
    "query_loss",
    "repeat_for_tasks",
    "solve_damped",
    "split_head",
    "squared_error",
    "task_losses",
    "task_normed",
    "with_statistics",
]
