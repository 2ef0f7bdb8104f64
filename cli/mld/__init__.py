"""Build, run and use multi-modal latent diffusion experiments.

    run = mld.load("runs/digits")
    run.sample(given={"digit": "seven.png"}, want=["tone"], n=4).write("out")
    mld.score(run, "rows.csv")

Names are imported on first use, as `__init__.pyi` lists them, so that `mld --help` does not load
torch.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
