"""Datasets: the plugins' own examples, the user's manifest, and public data."""
