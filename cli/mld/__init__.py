"""Build, run and use multi-modal latent diffusion experiments."""
