"""Candidates compared on tasks left out of their fits, and the choice among them."""
