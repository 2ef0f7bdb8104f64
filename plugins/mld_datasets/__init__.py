"""Datasets that serve any modality: the plugins' own examples, and the user's manifest."""
