"""The training loop, its checkpoints and its cache of weights."""
