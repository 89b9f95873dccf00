"""Models for patients: personalised predictions from a handful of measurements."""

from metaest_domains.physiology.leave_one_out import LeaveOneOut, leave_one_patient_out, rmse_table

__all__ = ["LeaveOneOut", "leave_one_patient_out", "rmse_table"]
