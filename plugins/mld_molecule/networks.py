"""The autoencoder and the classifier of rows of SELFIES tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mld_core import Autoencoder, Classifier
from mld_molecule.selfies_vocabulary import END, SelfiesVocabulary

Rows = Int[Tensor, "batch length"]
Latents = Float[Tensor, "batch latent"]

EMBEDDING_DIM = 24
HIDDEN_WIDTH = 256
DECODER_WIDTH = 192
"""Width of the next-symbol network: small, because it runs at every position."""
FEATURE_DIM = 64
"""Width of the classifier's features."""
CONTEXT = 3
"""Number of previous symbols that the networks see with each symbol."""
LATENT_NOISE_STD = 0.2
"""Standard deviation of the noise on latents in training; their root mean square is 1."""
COUNT_STD = 0.2
"""Standard deviation of an element's number of atoms around its prediction from the latent."""
EXCLUDED_LOGIT = -1e4
"""Logit of a symbol that does not fit the composition: chosen only if no symbol fits."""


class MoleculeAutoencoder(Autoencoder):
    """Perceptron encoder, and autoregressive decoder that follows a predicted composition.

    The root mean square of a latent is 1. The number of atoms of each element is predicted from the
    latent, so molecules with similar compositions have similar latents, and the composition of an
    unseen molecule is decoded correctly. The decoder writes one symbol after another; it sees the
    latent, the previous symbols, and the number of atoms of each element that are still missing
    from the predicted composition. Symbols that would exceed that composition are excluded.
    """

    can_start: Tensor
    index_lengths: Tensor
    atoms: Tensor

    def __init__(self, vocabulary: SelfiesVocabulary, latent_dim: int) -> None:
        super().__init__()
        atomic_numbers = vocabulary.atomic_numbers()
        elements = atomic_numbers.unique()[1:]
        atoms = (atomic_numbers[:, None] == elements).float()
        self.register_buffer("can_start", vocabulary.can_start(), persistent=False)
        self.register_buffer("index_lengths", vocabulary.index_lengths(), persistent=False)
        self.register_buffer("atoms", atoms, persistent=False)
        self.length = vocabulary.length
        self.embed = nn.Embedding(len(atomic_numbers), EMBEDDING_DIM)
        self.to_latent = _perceptron(self.length * EMBEDDING_DIM, latent_dim)
        self.to_composition = _perceptron(latent_dim, len(elements))
        self.from_latent = nn.Linear(latent_dim, DECODER_WIDTH)
        self.from_place = nn.Embedding(self.length, DECODER_WIDTH)
        self.from_missing = nn.Linear(len(elements), DECODER_WIDTH)
        self.from_before = nn.Linear(CONTEXT * EMBEDDING_DIM, DECODER_WIDTH)
        self.to_logits = nn.Sequential(
            nn.SiLU(),
            nn.Linear(DECODER_WIDTH, DECODER_WIDTH),
            nn.SiLU(),
            nn.Linear(DECODER_WIDTH, len(atomic_numbers)),
        )

    def encode(self, x: Rows) -> Latents:
        """The latent of each row; noisy in training, which makes the latent space smooth."""
        latent: Tensor = self.to_latent(self.embed(x).flatten(1)).float()
        z = functional.rms_norm(latent, latent.shape[1:])
        return z + LATENT_NOISE_STD * torch.randn_like(z) if self.training else z

    def decode(self, z: Latents) -> Rows:
        """Greedy decoding: the most likely allowed symbol at each position in turn."""
        z = _project_to_sphere(z)
        missing: Tensor = self.to_composition(z).float().round()
        from_latent = self.from_latent(z)
        rows = torch.full((len(z), CONTEXT + self.length), END, device=z.device)
        index_left = torch.zeros_like(rows[:, 0])
        ended = torch.zeros_like(rows[:, 0]).bool()
        for position in range(self.length):
            before = rows[:, position : position + CONTEXT]
            place = torch.full_like(ended, position, dtype=torch.int64)
            logits = self._logits(from_latent, place, missing, before)
            # A symbol fits if it adds no surplus atom; the end token, if no atom is missing.
            complete = missing < 0.5
            fits = complete.float() @ self.atoms.T == 0
            fits[:, END] = complete.all(dim=1)
            allowed = fits | (index_left > 0)[:, None]
            logits = logits.masked_fill(~allowed, EXCLUDED_LOGIT)
            if position == 0:
                logits = logits.masked_fill(~self.can_start, -torch.inf)
            symbol = logits.argmax(dim=1).masked_fill(ended, END)
            rows[:, CONTEXT + position] = symbol
            ended |= symbol == END
            added, index_left = self._count_atoms(symbol, index_left)
            missing = missing - added
        return rows[:, CONTEXT:]

    def loss(self, z: Latents, x: Rows) -> Float[Tensor, " batch"]:
        """−log p(x | z): a categorical per symbol, a Gaussian per element's number of atoms.

        The symbols up to and including the first end token; later ones are certain.
        """
        z = _project_to_sphere(z)
        composition: Tensor = self.to_composition(z).float()
        atoms = self.atoms_before(x)
        count_error = (composition - atoms[:, -1]) / COUNT_STD
        is_end = x == END
        predicted = is_end.cumsum(dim=1) - is_end.long() == 0
        row, place = predicted.nonzero(as_tuple=True)
        before = functional.pad(x, (CONTEXT, 0), value=END).unfold(1, CONTEXT, 1)[row, place]
        # As embeddings, whose gradient is several times as fast as that of indexing.
        missing = functional.embedding(row, composition) - atoms[row, place]
        from_latent = functional.embedding(row, self.from_latent(z))
        logits = self._logits(from_latent, place, missing, before)
        nats = functional.cross_entropy(logits, x[row, place], reduction="none")
        per_molecule = nats.new_zeros(x.shape).masked_scatter(predicted, nats).sum(dim=1)
        return per_molecule + count_error.square().sum(dim=1) / 2

    def atoms_before(self, x: Rows) -> Float[Tensor, "batch length+1 element"]:
        """Atoms of each element before each position of a row, and last those of the whole row."""
        counts = [torch.zeros_like(self.atoms[x[:, 0]])]
        index_left = torch.zeros_like(x[:, 0])
        for symbol in x.unbind(dim=1):
            added, index_left = self._count_atoms(symbol, index_left)
            counts.append(counts[-1] + added)
        return torch.stack(counts, dim=1)

    def _count_atoms(
        self, symbol: Int[Tensor, " batch"], index_left: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch element"], Int[Tensor, " batch"]]:
        """Atoms that a symbol adds, none if it is an index; and the index symbols left after it.

        Index symbols follow a branch or ring symbol and write its size.
        """
        is_index = index_left > 0
        added = self.atoms[symbol] * ~is_index[:, None]
        return added, torch.where(is_index, index_left - 1, self.index_lengths[symbol])

    def _logits(
        self,
        from_latent: Float[Tensor, "symbol width"],
        place: Int[Tensor, " symbol"],
        missing: Float[Tensor, "symbol element"],
        before: Int[Tensor, "symbol context"],
    ) -> Float[Tensor, "symbol token"]:
        """Of several symbols, each from its molecule's latent, its place and what precedes it."""
        context = self.from_before(self.embed(before).flatten(1))
        hidden = from_latent + self.from_place(place) + self.from_missing(missing) + context
        logits: Tensor = self.to_logits(hidden)
        return logits.float()


class MoleculeClassifier(Classifier):
    """Perceptron on sums over positions, because most labels of molecules are counts.

    Each symbol is summed once by itself and once with its context, because the symbols after a ring
    or branch symbol are numbers and not atoms.
    """

    def __init__(self, tokens: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, EMBEDDING_DIM)
        self.in_context = nn.Linear((CONTEXT + 1) * EMBEDDING_DIM, FEATURE_DIM)
        self.counts = nn.Linear(EMBEDDING_DIM + FEATURE_DIM, HIDDEN_WIDTH)
        # Sums have a wide range: biases spread over it let the units divide it from the start.
        nn.init.uniform_(self.counts.bias, -3.0, 3.0)
        self.shown = nn.Linear(HIDDEN_WIDTH, FEATURE_DIM)
        self.logits = nn.Linear(FEATURE_DIM, classes)

    def features(self, x: Rows) -> Float[Tensor, "batch feature"]:
        """The 64 activations before the last layer."""
        before_end = ((x == END).cumsum(dim=1) == 0).unsqueeze(2)
        h = self.embed(x) * before_end
        padded = functional.pad(h, (0, 0, CONTEXT, 0))
        window = torch.cat([padded[:, i : i + x.shape[1]] for i in range(CONTEXT + 1)], dim=2)
        in_context = functional.silu(self.in_context(window)) * before_end
        sums = 0.3 * torch.cat([h.sum(dim=1), in_context.sum(dim=1)], dim=1)
        return functional.silu(self.shown(functional.silu(self.counts(sums))))

    def forward(self, x: Rows) -> Float[Tensor, "batch classes"]:
        """The logits of each row over the classes."""
        logits: Tensor = self.logits(self.features(x))
        return logits


def _project_to_sphere(z: Latents) -> Latents:
    """Latents scaled to a root mean square of 1, as encoded ones have; in float32."""
    return functional.rms_norm(z.float(), z.shape[1:], eps=1e-6)


def _perceptron(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN_WIDTH), nn.SiLU(), nn.Linear(HIDDEN_WIDTH, out))
