"""The modality `pretrained-text`: texts with an encoder and decoder of the library transformers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field, JsonValue
from torch import Tensor
from torch.nn.functional import cross_entropy

from mld_core import LimitError, Modality, ModalityConfig, SpecError, hookimpl, require_library
from mld_pretrained.config import PretrainedConfig
from mld_pretrained.modality import PretrainedAutoencoder, PretrainedModality, Shape
from mld_pretrained.weights import TOKENIZER_FILES, TRANSFORMERS_FILES, PretrainedFiles, find_files
from mld_text import Text, TextConfig

require_library("transformers")

FILES = (*TRANSFORMERS_FILES, *TOKENIZER_FILES)
IGNORED = -100
"""Label of a position behind the end of a text."""

Bytes = Int64[Tensor, "batch byte"]
Sequences = Float[Tensor, "batch position channel"]


class PretrainedTextConfig(PretrainedConfig):
    """Settings of the modality `pretrained-text`."""

    max_bytes: int = Field(256, ge=1, le=1024, description="longest text, in bytes of UTF-8")
    max_tokens: int = Field(
        64, ge=2, le=1024, description="longest text, in tokens of the model: its latent's length"
    )
    too_long: Literal["error", "truncate"] = Field(
        "error", description="what to do with a longer text: truncate keeps its beginning"
    )


class SequenceAutoencoder(PretrainedAutoencoder):
    """An encoder and a decoder that says the text again, word by word, from the encoder's states.

    A latent has a state for each token, and in its last channel 1 for a token and −1 behind the end
    of the text, where the states are 0.
    """

    def __init__(self, files: PretrainedFiles, base: Text, latent_shape: Shape) -> None:
        from transformers import AutoModelForSeq2SeqLM

        model = files.load(AutoModelForSeq2SeqLM.from_pretrained, use_safetensors=True)
        super().__init__(model, files.reference(), latent_shape)
        self.base = base
        self.tokenizer = load_tokenizer(files)

    def latents(self, x: Bytes) -> Sequences:
        """The states of the encoder."""
        tokens, mask = self._tokens(x)
        encoded = self.model.get_encoder()(input_ids=tokens, attention_mask=mask.long())
        states = encoded.last_hidden_state * mask[..., None]
        return torch.cat([states.float(), 2.0 * mask[..., None] - 1.0], dim=2)

    def items(self, z: Sequences) -> Bytes:
        """The texts that the decoder finds most likely, token by token."""
        states, mask = _states(z)
        tokens = self.model.generate(
            encoder_outputs=_encoder_output(states),
            attention_mask=mask.long(),
            max_new_tokens=self.latent_shape[0],
            min_length=0,
            num_beams=1,
            do_sample=False,
            no_repeat_ngram_size=0,
            early_stopping=False,
        )
        texts = self.tokenizer.batch_decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return torch.stack([self.base.preprocess(text) for text in texts]).to(z.device)

    def loss(self, z: Float[Tensor, "batch latent"], x: Bytes) -> Float[Tensor, " batch"]:
        """Cross-entropy in nats, summed over the tokens of the text."""
        tokens, tokens_mask = self._tokens(x)
        labels = tokens.masked_fill(~tokens_mask, IGNORED)
        states, mask = _states(z.unflatten(1, self.latent_shape))
        outputs = self.model(
            encoder_outputs=_encoder_output(states), attention_mask=mask.long(), labels=labels
        )
        logits = outputs.logits.float().mT
        return cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").sum(1)

    def _tokens(
        self, x: Bytes
    ) -> tuple[Int64[Tensor, "batch position"], Bool[Tensor, "batch position"]]:
        """The tokens of texts, and which positions hold one."""
        tokens = self.tokenizer(
            [self.base.cell(row) for row in x],
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=self.latent_shape[0],
            return_tensors="pt",
        )
        return tokens.input_ids.to(x.device), tokens.attention_mask.to(x.device).bool()


class PretrainedText(PretrainedModality):
    """Texts with a pretrained encoder and decoder of transformers, such as BART.

    `raw` and items are those of the kind `text`. The latent is a sequence (max_tokens, channels):
    the encoder's states, and in the last channel whether there is a token. The decoder says the
    text again if it was trained to, as a denoising autoencoder such as BART was.
    """

    kind = "pretrained-text"
    Config = PretrainedTextConfig
    inline = True
    config: PretrainedTextConfig

    def base_modality(self) -> Text:
        """The kind `text` of the same length."""
        return self._text(self.config.too_long)

    @classmethod
    def fit(cls, config: ModalityConfig, raw: Iterable[Any]) -> dict[str, JsonValue]:
        """The shape of the latent. SpecError if the model takes fewer tokens."""
        assert isinstance(config, PretrainedTextConfig)
        unfitted = cls(config)
        shape = (config.max_tokens, 0)
        autoencoder = SequenceAutoencoder(find_files(config, FILES), unfitted._decoded(), shape)
        longest = getattr(autoencoder.model.config, "max_position_embeddings", config.max_tokens)
        if config.max_tokens > longest:
            raise SpecError(f"max_tokens: the pretrained model takes {longest} at most")
        with torch.no_grad():
            z = autoencoder.latents(unfitted.base.preprocess("")[None])
        return {"latent_shape": [*z.shape[1:]]}

    def autoencoder(self) -> SequenceAutoencoder:
        """The pretrained encoder and decoder."""
        files = find_files(self.config, FILES)
        return SequenceAutoencoder(files, self._decoded(), self.latent_shape)

    def _text(self, too_long: str) -> Text:
        settings = {"max_bytes": self.config.max_bytes, "too_long": too_long}
        return Text(TextConfig.model_validate(settings))

    def _decoded(self) -> Text:
        """The kind `text` as it takes decoded texts, which may be longer than an item."""
        return self._text("truncate")

    def preprocess(self, raw: Any) -> Int64[Tensor, " byte"]:
        """The bytes of a text, if it is short enough in bytes and in tokens."""
        item = self.base.preprocess(raw)
        text, max_tokens = self.base.cell(item), self.config.max_tokens
        tokenizer = _cached_tokenizer(self.config)
        needed = len(tokenizer(text).input_ids)
        if needed <= max_tokens:
            return item
        if self.config.too_long == "error":
            raise LimitError(
                f"the text has {needed} tokens, more than max_tokens = {max_tokens}: raise "
                "max_tokens, at the cost of every latent, or set too_long: truncate",
                "max_tokens",
                needed,
            )
        tokens = tokenizer(text, truncation=True, max_length=max_tokens).input_ids
        return self.base.preprocess(tokenizer.decode(tokens, skip_special_tokens=True))

    def cell(self, x: Int64[Tensor, " byte"]) -> str:
        """The text."""
        return self.base.cell(x)


def load_tokenizer(files: PretrainedFiles) -> Any:
    """The tokenizer of a model."""
    from transformers import AutoTokenizer

    return files.load(AutoTokenizer.from_pretrained)


@lru_cache(maxsize=4)
def _cached_tokenizer(config: PretrainedTextConfig) -> Any:
    """The tokenizer, which items need one by one."""
    return load_tokenizer(find_files(config, FILES))


def _states(z: Sequences) -> tuple[Sequences, Bool[Tensor, "batch position"]]:
    """The encoder's states, and which positions hold a token: the first one always does."""
    mask = z[..., -1] > 0
    mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1).cumprod(1).bool()
    return z[..., :-1] * mask[..., None], mask


def _encoder_output(states: Sequences) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=states)


@hookimpl
def register_modalities() -> list[type[Modality]]:
    """The modality of this module."""
    return [PretrainedText]
