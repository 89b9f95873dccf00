"""Meta-gradients: how the loss of an adapted task flows back to the shared parameters."""
