"""Studies of the models of this package on real people; only these use the data sets."""

from metaest_domains.physiology.study.figure import plot_patients
from metaest_domains.physiology.study.glucose import leave_one_person_out
from metaest_domains.physiology.study.sleep import leave_one_sleeper_out, sleep_table
from metaest_domains.physiology.study.theophylline import leave_one_patient_out, rmse_table

__all__ = [
    "leave_one_patient_out",
    "leave_one_person_out",
    "leave_one_sleeper_out",
    "plot_patients",
    "rmse_table",
    "sleep_table",
]
