"""The torch core: inner solvers, meta-gradients and the one outer loop, as functions on tensors.

It knows nothing of tasks, of scikit-learn or of units; the estimators speak to it in padded batches.
"""

from metaest.functional.class_head import ClassHead
from metaest.functional.class_weights import weigh_classes
from metaest.functional.closed_form import ClosedForm, LinearHead
from metaest.functional.context import CONTEXT, ContextForward
from metaest.functional.conv import ConvNet
from metaest.functional.damping import Solver, highest_loss, solve_damped
from metaest.functional.equations import Equation, EquationMode, Observations
from metaest.functional.evidence import follow, negative_log_evidence, query_loss
from metaest.functional.forward import (
    ModuleForward,
    alone,
    batch_statistics,
    looped,
    mapped,
    repeat_for_tasks,
    with_statistics,
)
from metaest.functional.gauss_newton import GaussNewton, MapResult, SearchState, SolveCode, accept_step, propose_step
from metaest.functional.head import HEAD, HeadForward, split_head
from metaest.functional.hierarchical import (
    DIFFERENCE,
    Design,
    HierarchicalModel,
    Information,
    Population,
    true_curvature,
)
from metaest.functional.implicit import remaining_slope
from metaest.functional.inner import GradientDescent, Rate
from metaest.functional.last_layer import last_layer, layer_of
from metaest.functional.losses import cross_entropy, squared_error
from metaest.functional.maml import MetaGradient, task_losses
from metaest.functional.mlp import ACTIVATIONS, MLP
from metaest.functional.next_measurement import choose_rows
from metaest.functional.noise import Noise, NoiseKind, NoiseTerms
from metaest.functional.normalization import (
    PER_STEP,
    TaskBatchNorm,
    at_step,
    is_statistic,
    normalization_layer,
    per_step,
    population_statistics,
    task_normed,
)
from metaest.functional.outer import Callback, Checkpoint, History, OuterLoop, OuterResult, StepInfo
from metaest.functional.per_constant import constant_losses, descend
from metaest.functional.probing import agrees_one_by_one, check_equation, choose_mode
from metaest.functional.scaling import Scaling
from metaest.functional.steps import AdamW, EagerSteps, Steps, require_finite
from metaest.functional.transforms import Transforms
from metaest.functional.types import BatchForward, Episodes, Forward, Loss, Params, Rows
from metaest.functional.utility import Utility, UtilityKind

__all__ = [
    "ACTIVATIONS",
    "CONTEXT",
    "DIFFERENCE",
    "HEAD",
    "MLP",
    "PER_STEP",
    "AdamW",
    "BatchForward",
    "Callback",
    "Checkpoint",
    "ClassHead",
    "ClosedForm",
    "ContextForward",
    "ConvNet",
    "Design",
    "EagerSteps",
    "Episodes",
    "Equation",
    "EquationMode",
    "Forward",
    "GaussNewton",
    "GradientDescent",
    "HeadForward",
    "HierarchicalModel",
    "History",
    "Information",
    "LinearHead",
    "Loss",
    "MapResult",
    "MetaGradient",
    "ModuleForward",
    "Noise",
    "NoiseKind",
    "NoiseTerms",
    "Observations",
    "OuterLoop",
    "OuterResult",
    "Params",
    "Population",
    "Rate",
    "Rows",
    "Scaling",
    "SearchState",
    "SolveCode",
    "Solver",
    "StepInfo",
    "Steps",
    "TaskBatchNorm",
    "Transforms",
    "Utility",
    "UtilityKind",
    "accept_step",
    "agrees_one_by_one",
    "alone",
    "at_step",
    "batch_statistics",
    "check_equation",
    "choose_mode",
    "choose_rows",
    "constant_losses",
    "cross_entropy",
    "descend",
    "follow",
    "highest_loss",
    "is_statistic",
    "last_layer",
    "layer_of",
    "looped",
    "mapped",
    "negative_log_evidence",
    "normalization_layer",
    "per_step",
    "population_statistics",
    "propose_step",
    "query_loss",
    "remaining_slope",
    "repeat_for_tasks",
    "require_finite",
    "solve_damped",
    "split_head",
    "squared_error",
    "task_losses",
    "task_normed",
    "true_curvature",
    "weigh_classes",
    "with_statistics",
]
