"""Models for patients: personalised predictions from a handful of measurements."""

from metaest_domains.physiology.clinical import auc, clearance, dose_for, half_life, next_sample, peak, volume
from metaest_domains.physiology.compartments import CompartmentRegressor
from metaest_domains.physiology.figure import plot_patients
from metaest_domains.physiology.integrated import MichaelisMentenRegressor
from metaest_domains.physiology.minimal_model import MinimalModelRegressor, insulin_rows
from metaest_domains.physiology.pharmacokinetics import OneCompartmentRegressor, TwoCompartmentRegressor
from metaest_domains.physiology.regimen import Regimen, dose_columns, read_patients
from metaest_domains.physiology.theophylline import leave_one_patient_out, rmse_table

__all__ = [
    "CompartmentRegressor",
    "MichaelisMentenRegressor",
    "MinimalModelRegressor",
    "OneCompartmentRegressor",
    "Regimen",
    "TwoCompartmentRegressor",
    "auc",
    "clearance",
    "dose_columns",
    "dose_for",
    "half_life",
    "insulin_rows",
    "leave_one_patient_out",
    "next_sample",
    "peak",
    "plot_patients",
    "read_patients",
    "rmse_table",
    "volume",
]
