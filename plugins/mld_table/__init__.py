"""Modalities for the columns of a table: `number`, `category` and `vector`.

A column's scale and classes are learnt from the training split and stored as facts. Numbers and
categories have exact codes in place of trained autoencoders.
"""
