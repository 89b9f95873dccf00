"""Random coefficients: maximum likelihood of a linear mixed model, and its alternation with any regressor."""
