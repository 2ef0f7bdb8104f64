"""What the rivals share: their settings, and how one is made on the modalities' own networks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from mld_core import Autoencoder, Method, MethodConfig, Modality

if TYPE_CHECKING:
    from mld_baselines.model import MultiVAEModel

if find_spec("multivae") is None:
    # Importing the package takes seconds, so that only a model does; its absence is told at once.
    raise ModuleNotFoundError("No module named 'multivae'", name="multivae")


class MultiVAEConfig(MethodConfig):
    """What a spec may say about every rival."""

    latent_dim: PositiveInt = Field(20, description="numbers in the latent that all share")
    beta: PositiveFloat = Field(2.5, description="weight of the divergence from the prior")
    rescale: dict[str, PositiveFloat] = Field(
        {},
        description="weight of a modality's likelihood, by name; where none is given, the size of "
        "the largest item over its own",
    )


class MultiVAEMethod(Method):
    """A variational autoencoder over all modalities, on the encoders and decoders of mld's own.

    One linear layer makes a posterior of what a modality's encoder gives, another makes what its
    decoder takes of a shared latent. The likelihood is the autoencoder's.
    """

    config: MultiVAEConfig
    libraries = ("multivae",)
    vae: ClassVar[str]
    """The class's name in the package; its config bears the same name and `Config`."""
    mixture: ClassVar[bool] = False
    """True: the posterior is a mixture over the modalities; False: a product."""
    expert_per_row: ClassVar[bool] = False
    """True: each row draws the posterior that it follows; the package shares a complete batch out
    among them instead, which gives the last one all rows where there are more of them than rows."""

    def __init__(self, config: MultiVAEConfig, modalities: Mapping[str, Modality]) -> None:
        super().__init__(config, modalities)
        if len(modalities) < 2:
            raise ValueError(f"{self.kind} needs two modalities or more")
        if strange := sorted(set(config.rescale) - set(modalities)):
            raise ValueError(
                f"rescale names {', '.join(map(repr, strange))}, and the modalities are "
                f"{', '.join(map(repr, modalities))}"
            )

    def options(self) -> dict[str, Any]:
        """What the package's config is told, beside the width of the latent and the weights."""
        return {"beta": self.config.beta}

    def private_dim(self) -> int:
        """Numbers in the latent that a modality has for itself; 0 where there is none."""
        return 0

    def likelihood_weights(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """The weight of each modality's likelihood, from the numbers in one item of each."""
        largest = max(sizes.values())
        return {name: self.config.rescale.get(name, largest / size) for name, size in sizes.items()}

    def model(self, autoencoders: Mapping[str, Autoencoder]) -> MultiVAEModel:
        """A fresh model."""
        from mld_baselines.model import MultiVAEModel

        return MultiVAEModel(autoencoders, self)
