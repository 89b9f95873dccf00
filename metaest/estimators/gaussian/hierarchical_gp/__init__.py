"""Curves of tasks around a curve that they share, as Gaussian processes."""
