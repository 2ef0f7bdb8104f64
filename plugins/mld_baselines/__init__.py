"""Baselines, one module each.

`gaussian` is a normal distribution over mld's latents. The others are multi-modal variational
autoencoders of the package `multivae`: `method` is what they share; only `model` imports the
package, and `model` never imports `method`.
"""
