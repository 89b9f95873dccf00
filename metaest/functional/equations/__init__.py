"""Equations with constants that vary between tasks: evaluation, noise, priors, search, evidence and design."""
