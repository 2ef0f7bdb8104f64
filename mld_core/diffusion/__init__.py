"""Multi-time diffusion over the joint latent: training loss, networks, samplers."""
