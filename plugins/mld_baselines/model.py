"""Joint model of a baseline: the package's model on the modalities' encoders and decoders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import multivae.models
import torch
from jaxtyping import Bool, Float, Shaped
from multivae.data.datasets.base import IncompleteDataset, MultimodalBaseDataset
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder
from torch import Tensor, nn

from mld_core import Autoencoder, JointModel

Items = Mapping[str, Shaped[Tensor, " batch *item"]]

MAX_LOG_VARIANCE = 80.0
"""Beyond it the variance, or its inverse, leaves float32's range."""

for _name in [*logging.root.manager.loggerDict]:
    # On import, each module of the packages attaches a log handler.
    if _name.partition(".")[0] in ("multivae", "pythae"):
        logging.getLogger(_name).handlers.clear()


class MultiVAEModel(JointModel):
    """A multi-modal variational autoencoder whose reconstructions are the autoencoders' latents.

    Inside the package a modality's name is its index, "0", "1", ...: the package joins names to
    identify subsets, and joined names of the user's could be ambiguous.

    Args:
        autoencoders: by modality.
        latent_dims: width of each autoencoder's latent.
        vae_class: class name in `multivae.models`.
        options: fields of its config. `latent_dim` is the width of the latent that all modalities
            share, and `modalities_specific_dim`, if there is one, of each modality's private one.
        likelihood_weights: from the number of elements of each modality's items to the weight of
            its likelihood.
        is_mixture: the posterior is a mixture over the modalities, not a product.
        expert_per_row: each row draws its own posterior; see `MultiVAEMethod`.
    """

    def __init__(
        self,
        autoencoders: Mapping[str, Autoencoder],
        latent_dims: Mapping[str, int],
        *,
        vae_class: str,
        options: Mapping[str, Any],
        likelihood_weights: Callable[[Mapping[str, int]], Mapping[str, float]],
        is_mixture: bool,
        expert_per_row: bool,
    ) -> None:
        super().__init__(autoencoders)
        self.is_mixture = is_mixture
        self.expert_per_row = expert_per_row
        self.shared_dim: int = options["latent_dim"]
        self.private_dim: int = options.get("modalities_specific_dim", 0)
        widths = [self.shared_dim, self.private_dim]
        self.key_of = {name: str(index) for index, name in enumerate(autoencoders)}
        self.private_keys = [*self.key_of.values()] if self.private_dim else []
        keys = self.key_of.items()
        backbones = {name: (autoencoders[name], latent_dims[name]) for name in autoencoders}
        self.zero_items = {name: _zero_item(*backbone) for name, backbone in backbones.items()}
        weights = likelihood_weights({name: item.numel() for name, item in self.zero_items.items()})
        config = getattr(multivae.models, f"{vae_class}Config")(
            n_modalities=len(autoencoders),
            uses_likelihood_rescaling=True,
            rescale_factors={key: weights[name] for name, key in keys},
            **options,
        )
        encoders = {key: _Encoder(*backbones[name], widths) for name, key in keys}
        decoders = {key: _Decoder(*backbones[name], widths) for name, key in keys}
        self.vae = getattr(multivae.models, vae_class)(config, encoders=encoders, decoders=decoders)
        self.vae.recon_log_probs = {
            key: decoder.log_likelihood for key, decoder in self.vae.decoders.items()
        }

    def loss(self, items: Items, present: Bool[Tensor, "batch modality"]) -> Float[Tensor, ""]:
        """The package's objective; NaN if a posterior or a latent leaves float32's range."""
        data = {key: items[name] for name, key in self.key_of.items()}
        if present.all() and not self.expert_per_row:
            batch = MultimodalBaseDataset(data)
        else:
            masks = zip(self.key_of.values(), present.unbind(1), strict=True)
            batch = IncompleteDataset(data, dict(masks))
        if self.is_mixture:
            # The doubly reparametrised estimator registers hooks on gradients, so it needs them.
            objective = "dreg_looser" if torch.is_grad_enabled() else "iwae_looser"
            self.vae.objective = self.vae.model_config.loss = objective
        try:
            loss: Tensor = self.vae(batch).loss
        except FloatingPointError:
            return torch.full((), torch.nan, device=present.device)
        # The objectives of mixtures are sums over rows.
        return loss / len(present) if self.is_mixture else loss

    @torch.no_grad()
    def sample(
        self, given: Items, wanted: Sequence[str], n: int
    ) -> dict[str, Float[Tensor, "batch latent"]]:
        """Decodes shared latents drawn from the posterior of `given`, or from the prior."""
        keys = [self.key_of[name] for name in wanted]
        shared = self._sample_posterior(given, n) if given else self._sample_prior(n)
        latents = self.vae.decode(shared, keys)
        return {name: latents[key] for name, key in zip(wanted, keys, strict=True)}

    def _sample_prior(self, n: int) -> ModelOutput:
        self.vae.device = next(self.parameters()).device

        def draw() -> Tensor:
            # The package drops the batch axis of a single row.
            z: Tensor = self.vae.generate_from_prior(n).z
            return z.reshape(n, -1)

        z = draw()[:, : self.shared_dim]
        # The package draws one private latent for all modalities, but each has its own.
        private = {key: draw()[:, self.shared_dim :] for key in self.private_keys}
        return ModelOutput(z=z, one_latent_space=not private, modalities_z=private)

    def _sample_posterior(self, given: Items, n: int) -> ModelOutput:
        """A draw for each row; in a mixture, each row draws which modality it follows.

        The package draws that modality once for the batch, and from another generator.
        """
        device = next(iter(given.values())).device
        zeros = self.zero_items.items()
        items = {name: zero.to(device).expand(n, *zero.shape) for name, zero in zeros} | {**given}
        data = MultimodalBaseDataset({key: items[name] for name, key in self.key_of.items()})
        keys = [self.key_of[name] for name in given]
        experts = [[key] for key in keys] if self.is_mixture else [keys]
        draws = [self.vae.encode(data, expert) for expert in experts]
        expert_of_row = torch.randint(len(experts), (n,), device=device)
        rows = torch.arange(n, device=device)

        def pick(latents: list[Tensor]) -> Tensor:
            return torch.stack([z.reshape(n, -1) for z in latents])[expert_of_row, rows]

        z = pick([draw.z for draw in draws])
        private = {
            key: pick([draw.modalities_z[key] for draw in draws]) for key in self.private_keys
        }
        return ModelOutput(z=z, one_latent_space=not private, modalities_z=private)


class _Encoder(BaseEncoder):
    """Posterior of one modality: its autoencoder's encoder, then one linear layer."""

    def __init__(self, autoencoder: Autoencoder, latent_dim: int, widths: list[int]) -> None:
        super().__init__()
        # In a tuple, so that its parameters are registered once, in `JointModel.autoencoders`.
        self.autoencoder = (autoencoder,)
        self.latent_dim, self.widths = widths[0], widths
        self.head = nn.Linear(latent_dim, 2 * sum(widths))

    def forward(self, x: Shaped[Tensor, " batch *item"]) -> ModelOutput:
        mean, log_variance = self.head(self.autoencoder[0].encode(x)).float().chunk(2, 1)
        if not (mean.isfinite().all() and (log_variance.abs() < MAX_LOG_VARIANCE).all()):
            raise FloatingPointError
        mean, private_mean = mean.split(self.widths, 1)
        log_variance, private_log_variance = log_variance.split(self.widths, 1)
        return ModelOutput(
            embedding=mean,
            # The package writes into it where a cell is missing.
            log_covariance=log_variance.clone(),
            style_embedding=private_mean,
            style_log_covariance=private_log_variance,
        )


class _Decoder(BaseDecoder):
    """One linear layer from the shared latent to the modality's, and its autoencoder's likelihood.

    The autoencoder's decoder is part of that likelihood.
    """

    def __init__(self, autoencoder: Autoencoder, latent_dim: int, widths: list[int]) -> None:
        super().__init__()
        self.autoencoder = (autoencoder,)
        self.head = nn.Linear(sum(widths), latent_dim)

    def forward(self, z: Float[Tensor, "batch shared"]) -> ModelOutput:
        latent = self.head(z).float()
        if not latent.isfinite().all():
            raise FloatingPointError
        return ModelOutput(reconstruction=latent)

    def log_likelihood(
        self, latent: Float[Tensor, "*sample batch latent"], x: Shaped[Tensor, " batch *item"]
    ) -> Float[Tensor, "*sample batch"]:
        """log p(x | latent); there may be several latents of each item."""
        shape = latent.shape[:-1]
        items = x.expand(*shape[:-1], *x.shape).reshape(-1, *x.shape[1:])
        return -self.autoencoder[0].loss(latent.flatten(0, -2), items).float().reshape(shape)


@torch.no_grad()
def _zero_item(autoencoder: Autoencoder, latent_dim: int) -> Shaped[Tensor, "*item"]:
    """An item of zeros, with the shape and dtype that the autoencoder takes."""
    training = autoencoder.training
    weight = next(autoencoder.parameters(), torch.empty(0))
    item = autoencoder.eval().decode(weight.new_zeros(1, latent_dim))[0]
    autoencoder.train(training)
    return torch.zeros_like(item)
