"""Modalities whose autoencoder is pretrained: pictures, sounds and texts."""
