"""Inner solvers: from where a task starts and its support rows to its adapted parameters."""
