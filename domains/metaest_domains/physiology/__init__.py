"""Models for patients: individual predictions from a few measurements."""

from metaest_domains.physiology.body import (
    body_mass_index,
    body_surface_area,
    creatinine_clearance,
    fat_free_mass,
)
from metaest_domains.physiology.clinical import (
    absorption_rate,
    auc,
    clearance,
    half_life,
    next_sample,
    peak,
    time_above,
    trough,
    volume,
)
from metaest_domains.physiology.compartments import CompartmentRegressor
from metaest_domains.physiology.dosing import Dose, attainment, dose_for
from metaest_domains.physiology.glucose import AdaptedForecaster, GlucoseForecaster
from metaest_domains.physiology.glucose_errors import clarke_zones, glucose_errors, plot_clarke
from metaest_domains.physiology.integrated import MichaelisMentenRegressor
from metaest_domains.physiology.linear_regressor import LinearCompartmentRegressor
from metaest_domains.physiology.measured_covariates import patient_covariates
from metaest_domains.physiology.minimal_model import MinimalModelRegressor, insulin_rows
from metaest_domains.physiology.patients import read_patients
from metaest_domains.physiology.pharmacokinetics import OneCompartmentRegressor, TwoCompartmentRegressor
from metaest_domains.physiology.plots import (
    plot_patient,
    plot_population,
    plot_predictions,
    plot_predictive_check,
    plot_shrinkage,
)
from metaest_domains.physiology.published import list_published, load_published, published_model
from metaest_domains.physiology.regimen import Regimen, dose_columns
from metaest_domains.physiology.time_varying import TimeVarying
from metaest_domains.physiology.windows import Windows, glucose_windows

__all__ = [
    "AdaptedForecaster",
    "CompartmentRegressor",
    "Dose",
    "GlucoseForecaster",
    "LinearCompartmentRegressor",
    "MichaelisMentenRegressor",
    "MinimalModelRegressor",
    "OneCompartmentRegressor",
    "Regimen",
    "TimeVarying",
    "TwoCompartmentRegressor",
    "Windows",
    "absorption_rate",
    "attainment",
    "auc",
    "body_mass_index",
    "body_surface_area",
    "clarke_zones",
    "clearance",
    "creatinine_clearance",
    "dose_columns",
    "dose_for",
    "fat_free_mass",
    "glucose_errors",
    "glucose_windows",
    "half_life",
    "insulin_rows",
    "list_published",
    "load_published",
    "next_sample",
    "patient_covariates",
    "peak",
    "plot_clarke",
    "plot_patient",
    "plot_population",
    "plot_predictions",
    "plot_predictive_check",
    "plot_shrinkage",
    "published_model",
    "read_patients",
    "time_above",
    "trough",
    "volume",
]
