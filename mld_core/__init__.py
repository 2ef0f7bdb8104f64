"""The mathematics of Multi-modal Latent Diffusion, and the contracts of its plugins.

Names are imported on first use, as `__init__.pyi` lists them, so that importing this package does
not load torch.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
