"""The trading study: simulated assets of known character, and real stocks never seen in years never seen."""
