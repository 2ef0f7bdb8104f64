"""Base class of the baselines: their settings, and how a model is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from mld_core import Autoencoder, JointModel, Method, MethodConfig, Modality

if find_spec("multivae") is None:
    # Importing the package takes seconds, so only a model does; its absence is reported at once.
    raise ModuleNotFoundError("No module named 'multivae'", name="multivae")


class MultiVAEConfig(MethodConfig):
    """Settings of every baseline."""

    latent_dim: PositiveInt = Field(20, description="width of the latent that modalities share")
    beta: PositiveFloat = Field(2.5, description="weight of the KL divergence from the prior")
    rescale: dict[str, PositiveFloat] = Field(
        {},
        description="weight of each modality's likelihood, by name; default: the size of the "
        "largest modality's items over the size of its own",
    )


class MultiVAEMethod(Method):
    """A variational autoencoder over all modalities, built on mld's encoders and decoders.

    One linear layer maps a modality's encoder output to the parameters of its posterior, another
    maps a shared latent to the input of its decoder. The likelihood is the autoencoder's.
    """

    config: MultiVAEConfig
    libraries = ("multivae",)
    vae_class: ClassVar[str]
    """Class name in the package; its config class has the same name with the suffix `Config`."""
    is_mixture: ClassVar[bool] = False
    """True: the posterior is a mixture over the modalities; False: a product."""
    expert_per_row: ClassVar[bool] = False
    """True: each row of a batch draws its own posterior. The package instead divides a complete
    batch among the posteriors, which gives the last one all rows if there are fewer rows than
    posteriors."""

    def __init__(self, config: MultiVAEConfig, modalities: Mapping[str, Modality]) -> None:
        super().__init__(config, modalities)
        if len(modalities) < 2:
            raise ValueError(f"{self.kind} needs at least two modalities, not {len(modalities)}")
        unknown = sorted(set(config.rescale) - set(modalities))
        if unknown:
            raise ValueError(
                f"rescale names {', '.join(map(repr, unknown))}, but the modalities are "
                f"{', '.join(map(repr, modalities))}"
            )

    def options(self) -> dict[str, Any]:
        """Fields of the package's config, besides the rescaling."""
        return {"latent_dim": self.config.latent_dim, "beta": self.config.beta}

    def likelihood_weights(self, sizes: Mapping[str, int]) -> dict[str, float]:
        """The weight of each modality's likelihood, given the number of elements of its items."""
        largest = max(sizes.values())
        return {name: self.config.rescale.get(name, largest / size) for name, size in sizes.items()}

    def model(self, autoencoders: Mapping[str, Autoencoder]) -> JointModel:
        """A freshly initialised model."""
        from mld_baselines.model import MultiVAEModel

        return MultiVAEModel(
            autoencoders,
            {name: self.modalities[name].latent_dim for name in autoencoders},
            vae_class=self.vae_class,
            options=self.options(),
            likelihood_weights=self.likelihood_weights,
            is_mixture=self.is_mixture,
            expert_per_row=self.expert_per_row,
        )
