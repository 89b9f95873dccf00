"""Networks as pure functions of their parameters: forward passes, normalisation, heads, layers that can be mapped."""
