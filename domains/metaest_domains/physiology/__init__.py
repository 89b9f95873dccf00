"""Models for patients: personalised predictions from a handful of measurements."""

from metaest_domains.physiology.figure import plot_patients
from metaest_domains.physiology.theophylline import leave_one_patient_out, rmse_table

__all__ = ["leave_one_patient_out", "plot_patients", "rmse_table"]
