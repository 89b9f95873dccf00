"""Is meta-learning worth it here? Baselines to compare with."""

from metaest.diagnostics.baselines import fine_tuned, from_scratch, pooled

__all__ = ["fine_tuned", "from_scratch", "pooled"]
