"""The autoencoder and the classifier of rows of SELFIES tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier
from mld_molecule.selfies_vocabulary import END, Alphabet

Rows = Int[Tensor, "batch length"]

EMBEDDING = 24
HIDDEN = 256
WRITING = 192
"""Width of what writes the next symbol: narrow, since it works at every place."""
FEATURES = 64
BEFORE = 3
"""Symbols before another that are read with it."""
NOISE = 0.2
"""Standard deviation of the noise on latents in training, where a latent's mean square is 1."""
COUNT_STD = 0.2
"""Standard deviation of an element's number of atoms, as the latent tells it."""
UNFIT = -1e4
"""The logit of a symbol that does not fit the composition: written only where nothing fits."""


class SymbolAutoencoder(Autoencoder):
    """A perceptron to a latent of unit mean square, and one that writes a row from it.

    The latent must tell how many atoms of each element there are: so molecules of like composition
    lie together, and one that was never seen is read right by whoever reads latents. The row is
    written symbol by symbol, knowing the latent, the last symbols, and how many atoms of the told
    composition are still to come: so what is written has that composition.
    """

    def __init__(self, alphabet: Alphabet, latent_dim: int) -> None:
        super().__init__()
        elements = alphabet.atomic_numbers()
        known = elements.unique()[1:]
        self.register_buffer("starts", alphabet.starts(), persistent=False)
        self.register_buffer("spelt", alphabet.spelt(), persistent=False)
        self.register_buffer("atoms", (elements[:, None] == known).float(), persistent=False)
        self.length = alphabet.length
        self.embed = nn.Embedding(len(elements), EMBEDDING)
        self.to_latent = _perceptron(self.length * EMBEDDING, latent_dim)
        self.to_composition = _perceptron(latent_dim, len(known))
        self.from_latent = nn.Linear(latent_dim, WRITING)
        self.from_place = nn.Embedding(self.length, WRITING)
        self.from_missing = nn.Linear(len(known), WRITING)
        self.from_before = nn.Linear(BEFORE * EMBEDDING, WRITING)
        self.to_logits = nn.Sequential(
            nn.SiLU(), nn.Linear(WRITING, WRITING), nn.SiLU(), nn.Linear(WRITING, len(elements))
        )

    def encode(self, x: Rows) -> Float[Tensor, "batch latent"]:
        """The latent of each row; in training with noise, which makes the latent space smooth."""
        latent = self.to_latent(self.embed(x).flatten(1)).float()
        z = functional.rms_norm(latent, latent.shape[1:])
        return z + NOISE * torch.randn_like(z) if self.training else z

    def decode(self, z: Float[Tensor, "batch latent"]) -> Rows:
        """The likeliest symbol after those before it; the first is one that may begin a row."""
        z = _direction(z)
        missing = self.to_composition(z).float().round()
        rows = torch.full((len(z), BEFORE + self.length), END, device=z.device)
        to_spell, ended = torch.zeros_like(rows[:, 0]), torch.zeros_like(rows[:, 0]).bool()
        for place in range(self.length):
            before = rows[:, None, place : place + BEFORE]
            logits = self._logits(z, torch.tensor([place]), missing[:, None], before)[:, 0]
            fits = self._fits(missing) | (to_spell > 0)[:, None]
            logits = logits.masked_fill(~fits, UNFIT)
            if not place:
                logits = logits.masked_fill(~self.starts, -torch.inf)
            symbol = logits.argmax(dim=1).masked_fill(ended, END)
            rows[:, BEFORE + place] = symbol
            ended |= symbol == END
            atoms, to_spell = self._read(symbol, to_spell)
            missing = missing - atoms
        return rows[:, BEFORE:]

    def loss(self, z: Float[Tensor, "batch latent"], x: Rows) -> Float[Tensor, " batch"]:
        """−log p(x | z): a categorical per symbol, a Gaussian per element's number of atoms."""
        z = _direction(z)
        told = self.to_composition(z).float()
        atoms = self.atoms_before(x)
        apart = (told - atoms[:, -1]) / COUNT_STD
        before = functional.pad(x, (BEFORE, 0), value=END).unfold(1, BEFORE, 1)[:, :-1]
        places = torch.arange(self.length, device=x.device)
        logits = self._logits(z, places, told[:, None] - atoms[:, :-1], before)
        nats = functional.cross_entropy(logits.mT, x, reduction="none")
        return nats.sum(dim=1) + apart.square().sum(dim=1) / 2

    def _fits(self, missing: Float[Tensor, "batch element"]) -> Bool[Tensor, "batch token"]:
        """Whether a symbol adds no atom too many, and the end comes only where none is missing."""
        fits = (missing < 0.5).float() @ self.atoms.T == 0
        fits[:, END] = (missing < 0.5).all(dim=1)
        return fits

    def atoms_before(self, x: Rows) -> Float[Tensor, "batch length+1 element"]:
        """Atoms of each element before every place of a row, and in the whole row."""
        found = [torch.zeros_like(self.atoms[x[:, 0]])]
        to_spell = torch.zeros_like(x[:, 0])
        for symbol in x.unbind(dim=1):
            atoms, to_spell = self._read(symbol, to_spell)
            found.append(found[-1] + atoms)
        return torch.stack(found, dim=1)

    def _read(
        self, symbol: Int[Tensor, " batch"], to_spell: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch element"], Int[Tensor, " batch"]]:
        """The atoms that symbols add, none where they spell a size; how many still spell one."""
        is_size = to_spell > 0
        return (
            self.atoms[symbol] * ~is_size[:, None],
            torch.where(is_size, to_spell - 1, self.spelt[symbol]),
        )

    def _logits(
        self,
        z: Float[Tensor, "batch latent"],
        places: Int[Tensor, " place"],
        missing: Float[Tensor, "batch place element"],
        before: Int[Tensor, "batch place symbol"],
    ) -> Float[Tensor, "batch place token"]:
        known = self.from_latent(z)[:, None] + self.from_place(places.to(z.device))
        seen = self.from_missing(missing) + self.from_before(self.embed(before).flatten(2))
        return self.to_logits(known + seen).float()


class SymbolClassifier(Classifier):
    """A perceptron on sums over positions, since most of what labels molecules is counted.

    Each symbol is summed once alone and once with those before it: after a ring or branch symbol
    the next ones are numbers and not atoms.
    """

    def __init__(self, tokens: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, EMBEDDING)
        self.in_context = nn.Linear((BEFORE + 1) * EMBEDDING, FEATURES)
        self.counts = nn.Linear(EMBEDDING + FEATURES, HIDDEN)
        # Sums reach far: biases spread over their range let the units divide it from the start.
        nn.init.uniform_(self.counts.bias, -3.0, 3.0)
        self.shown = nn.Linear(HIDDEN, FEATURES)
        self.logits = nn.Linear(FEATURES, classes)

    def features(self, x: Rows) -> Float[Tensor, "batch feature"]:
        """What a molecule holds, 64 numbers."""
        inside = ((x == END).cumsum(dim=1) == 0).unsqueeze(2)
        h = self.embed(x) * inside
        padded = functional.pad(h, (0, 0, BEFORE, 0))
        window = torch.cat([padded[:, i : i + x.shape[1]] for i in range(BEFORE + 1)], dim=2)
        in_context = functional.silu(self.in_context(window)) * inside
        sums = 0.3 * torch.cat([h.sum(dim=1), in_context.sum(dim=1)], dim=1)
        return functional.silu(self.shown(functional.silu(self.counts(sums))))

    def forward(self, x: Rows) -> Float[Tensor, "batch classes"]:
        """The logits of each row over the classes."""
        return self.logits(self.features(x))


def _direction(z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
    """The latent where encoded ones lie: a generated one may have left the sphere."""
    return functional.rms_norm(z.float(), z.shape[1:], eps=1e-6)


def _perceptron(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, out))
