"""Modalities whose raw data show what they were given to read."""

from __future__ import annotations

from mld_core import Modality, ModalityConfig


class Word(Modality):
    """Raw: a string, in capitals."""

    kind = "word"
    Config = ModalityConfig
    inline = True
    preprocess = autoencoder = classifier = write = examples = None

    def read(self, source):
        return source.upper()


class Page(Word):
    """Raw: the suffix and the content of a file."""

    kind = "page"
    inline = False

    def read(self, source):
        return source.suffix, source.read_bytes()


WORD, PAGE = Word(ModalityConfig(latent_dim=1)), Page(ModalityConfig(latent_dim=1))
