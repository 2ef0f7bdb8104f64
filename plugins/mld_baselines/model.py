"""The joint model of a rival: the package's model, on the modalities' encoders and decoders."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import multivae.models
import torch
from jaxtyping import Bool, Float, Shaped
from multivae.data.datasets.base import IncompleteDataset, MultimodalBaseDataset
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder
from torch import Tensor, nn

from mld_core import Autoencoder, JointModel

if TYPE_CHECKING:
    from mld_baselines.method import MultiVAEMethod

_LIMIT = 80.0
"""Of a log-variance: beyond it the variance, or its inverse, leaves float32's range."""

for _name in [*logging.root.manager.loggerDict]:
    # On import, each module of the packages sets up a handler of its own.
    if _name.partition(".")[0] in ("multivae", "pythae"):
        logging.getLogger(_name).handlers.clear()


class MultiVAEModel(JointModel):
    """A multi-modal variational autoencoder, whose "items" are the autoencoders' latents.

    Inside the package a modality is called by its place, "0", "1", ...: names that are joined
    there to name subsets could otherwise be mistaken for each other.
    """

    def __init__(self, autoencoders: Mapping[str, Autoencoder], rival: MultiVAEMethod) -> None:
        super().__init__(autoencoders)
        self.mixture = rival.mixture
        self.expert_per_row = rival.expert_per_row
        self.key_of = {name: str(place) for place, name in enumerate(autoencoders)}
        widths = {name: rival.modalities[name].config.latent_dim for name in autoencoders}
        self.blanks = {name: _blank(own, widths[name]) for name, own in autoencoders.items()}
        weights = rival.likelihood_weights({name: x.numel() for name, x in self.blanks.items()})
        shared, private = rival.config.latent_dim, rival.private_dim()
        self.private = private
        self.vae = getattr(multivae.models, rival.vae)(
            getattr(multivae.models, f"{rival.vae}Config")(
                n_modalities=len(autoencoders),
                latent_dim=shared,
                uses_likelihood_rescaling=True,
                rescale_factors={key: weights[name] for name, key in self.key_of.items()},
                **rival.options(),
            ),
            encoders={
                key: _Encoder(autoencoders[name], widths[name], shared, private)
                for name, key in self.key_of.items()
            },
            decoders={
                key: _Decoder(autoencoders[name], shared + private, widths[name])
                for name, key in self.key_of.items()
            },
        )
        self.vae.recon_log_probs = {
            key: decoder.log_likelihood for key, decoder in self.vae.decoders.items()
        }

    def loss(
        self,
        items: Mapping[str, Shaped[Tensor, " batch *item"]],
        present: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, ""]:
        """The package's own objective; NaN once a posterior or a latent leaves float32's range."""
        data = {key: items[name] for name, key in self.key_of.items()}
        if present.all() and not self.expert_per_row:
            batch = MultimodalBaseDataset(data)
        else:
            masks = zip(self.key_of.values(), present.unbind(1), strict=True)
            batch = IncompleteDataset(data, dict(masks))
        if self.mixture:
            # The doubly reparametrised estimate hangs hooks on gradients, and so needs them.
            objective = "dreg_looser" if torch.is_grad_enabled() else "iwae_looser"
            self.vae.objective = self.vae.model_config.loss = objective
        try:
            loss = self.vae(batch).loss
        except FloatingPointError:
            return torch.full((), torch.nan, device=present.device)
        # The objectives of mixtures are sums over rows.
        return loss / len(present) if self.mixture else loss

    @torch.no_grad()
    def sample(
        self,
        given: Mapping[str, Shaped[Tensor, " batch *item"]],
        wanted: Sequence[str],
        n: int,
    ) -> dict[str, Float[Tensor, "batch latent"]]:
        """A shared latent from the prior, or the posterior of what is given, then the decoders."""
        keys = [self.key_of[name] for name in wanted]
        drawn = self.vae.decode(self._posterior(given, n) if given else self._prior(n), keys)
        return {name: drawn[key] for name, key in zip(wanted, keys, strict=True)}

    def _prior(self, n: int) -> ModelOutput:
        self.vae.device = next(self.parameters()).device

        def drawn() -> Tensor:
            # The package drops the axis of a single row.
            return self.vae.generate_from_prior(n).z.reshape(n, -1)

        if not self.private:
            return ModelOutput(z=drawn(), one_latent_space=True)
        # The package draws one private latent for all modalities; the model has one of each.
        return ModelOutput(
            z=drawn()[:, : -self.private],
            one_latent_space=False,
            modalities_z={key: drawn()[:, -self.private :] for key in self.vae.encoders},
        )

    def _posterior(
        self, given: Mapping[str, Shaped[Tensor, " batch *item"]], n: int
    ) -> ModelOutput:
        """A draw for each row; of a mixture, each row draws which modality it follows.

        The package draws that once for a whole batch, and from another generator.
        """
        device = next(iter(given.values())).device
        data = {
            key: given[name] if name in given else self._blanks(name, n, device)
            for name, key in self.key_of.items()
        }
        keys = [self.key_of[name] for name in given]
        experts = [[key] for key in keys] if self.mixture else [keys]
        drawn = [self.vae.encode(MultimodalBaseDataset(data), expert) for expert in experts]
        chosen = torch.randint(len(experts), (n,), device=device)
        rows = torch.arange(n, device=device)

        def pick(draws: list[Tensor]) -> Tensor:
            return torch.stack([draw.reshape(n, -1) for draw in draws])[chosen, rows]

        if drawn[0].one_latent_space:
            return ModelOutput(z=pick([one.z for one in drawn]), one_latent_space=True)
        return ModelOutput(
            z=pick([one.z for one in drawn]),
            one_latent_space=False,
            modalities_z={
                key: pick([one.modalities_z[key] for one in drawn]) for key in self.vae.encoders
            },
        )

    def _blanks(self, name: str, n: int, device: torch.device) -> Tensor:
        blank = self.blanks[name]
        return blank.to(device).expand(n, *blank.shape)


class _Encoder(BaseEncoder):
    """The posterior of one modality: its encoder, then one linear layer."""

    def __init__(
        self, autoencoder: Autoencoder, latent_dim: int, shared: int, private: int
    ) -> None:
        super().__init__()
        # In a tuple: its parameters are those of `JointModel.autoencoders`, and counted there.
        self.autoencoder = (autoencoder,)
        self.latent_dim = shared
        self.widths = [shared, private]
        self.head = nn.Linear(latent_dim, 2 * (shared + private))

    def forward(self, x: Shaped[Tensor, " batch *item"]) -> ModelOutput:
        mean, log_variance = self.head(self.autoencoder[0].encode(x)).float().chunk(2, 1)
        if not (mean.isfinite().all() and (log_variance.abs() < _LIMIT).all()):
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
    """The latent of one modality from the shared one, and how likely it makes an item."""

    def __init__(self, autoencoder: Autoencoder, shared: int, latent_dim: int) -> None:
        super().__init__()
        self.autoencoder = (autoencoder,)
        self.head = nn.Linear(shared, latent_dim)

    def forward(self, z: Float[Tensor, "batch shared"]) -> ModelOutput:
        latent = self.head(z).float()
        if not latent.isfinite().all():
            raise FloatingPointError
        return ModelOutput(reconstruction=latent)

    def log_likelihood(
        self, latent: Float[Tensor, "*sample batch latent"], x: Shaped[Tensor, " batch *item"]
    ) -> Float[Tensor, "*sample batch"]:
        """log p(x | latent); there may be many latents of each item."""
        rows = latent.shape[:-1]
        items = x.expand(*rows[:-1], *x.shape).reshape(-1, *x.shape[1:])
        return -self.autoencoder[0].loss(latent.flatten(0, -2), items).float().reshape(rows)


@torch.no_grad()
def _blank(autoencoder: Autoencoder, latent_dim: int) -> Shaped[Tensor, "*item"]:
    """An item of zeros, of the shape and type that the autoencoder takes."""
    training = autoencoder.training
    weight = next(autoencoder.parameters(), torch.empty(0))
    item = autoencoder.eval().decode(weight.new_zeros(1, latent_dim))[0]
    autoencoder.train(training)
    return torch.zeros_like(item)
