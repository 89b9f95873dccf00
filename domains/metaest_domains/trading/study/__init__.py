"""The trading study: simulated assets of known character, and real stocks, both unseen in the fit."""
