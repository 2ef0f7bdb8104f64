"""Rival methods: multi-modal variational autoencoders of the package `multivae`, one module each.

`rival` is what they share, and `joint` the only module that imports the package.
"""
