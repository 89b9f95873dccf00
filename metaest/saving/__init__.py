"""Models and predictors in files that hold no code: weights in safetensors, equations in JSON."""

from metaest.saving.files import load, model_hash, save

__all__ = ["load", "model_hash", "save"]
