"""Is meta-learning worth it here? Baselines to compare with."""

from metaest.diagnostics.baselines import ScratchRegressor, fine_tuned, from_scratch, pooled

__all__ = ["ScratchRegressor", "fine_tuned", "from_scratch", "pooled"]
