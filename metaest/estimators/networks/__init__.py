"""Meta-learned networks: regression, classification and policies."""
