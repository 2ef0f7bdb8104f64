"""Devices, seeds, progress, and the context of a run."""
