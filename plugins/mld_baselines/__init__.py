"""Baselines: multi-modal variational autoencoders of the package `multivae`, one module each.

`method` is what they share. Only `model` imports the package, and `model` never imports `method`.
"""
