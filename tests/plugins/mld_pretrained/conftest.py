"""Small random models, saved in the formats of diffusers and transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

REASON = "needs the extra pretrained"
PHRASES = ["the number one", "it says two!", "just three, please", "i see four again", "my five."]


def _autoencoder_kl(diffusers: Any, channels: int = 3) -> Any:
    return diffusers.AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )


def _autoencoder_dc(diffusers: Any) -> Any:
    return diffusers.AutoencoderDC(
        latent_channels=8,
        attention_head_dim=4,
        encoder_block_types=("ResBlock",) * 2,
        decoder_block_types=("ResBlock",) * 2,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
    )


def _autoencoder_tiny(diffusers: Any) -> Any:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
    )


def _encodec(transformers: Any, **settings: Any) -> Any:
    return transformers.EncodecModel(
        transformers.EncodecConfig(
            sampling_rate=8000,
            num_filters=4,
            upsampling_ratios=[8, 8],
            hidden_size=8,
            codebook_dim=8,
            codebook_size=16,
            num_lstm_layers=1,
            target_bandwidths=[1.5],
            **settings,
        )
    )


def _dac(transformers: Any) -> Any:
    return transformers.DacModel(
        transformers.DacConfig(
            sampling_rate=8000,
            encoder_hidden_size=4,
            decoder_hidden_size=16,
            downsampling_ratios=[8, 8],
            upsampling_ratios=[8, 8],
            n_codebooks=2,
            codebook_size=16,
            codebook_dim=4,
        )
    )


IMAGE_MODELS: dict[str, Callable[..., Any]] = {
    "AutoencoderKL": _autoencoder_kl,
    "AutoencoderDC": _autoencoder_dc,
    "AutoencoderTiny": _autoencoder_tiny,
}
AUDIO_MODELS: dict[str, Callable[..., Any]] = {"encodec": _encodec, "dac": _dac}


@pytest.fixture(scope="session")
def save_image_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a random model of diffusers, by class, and returns its folder."""
    diffusers = pytest.importorskip("diffusers", reason=REASON)

    def save(name: str, seed: int = 0, **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(seed)
        IMAGE_MODELS[name](diffusers, **settings).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def save_audio_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that saves a random codec, by model type, and returns its folder."""
    transformers = pytest.importorskip("transformers", reason=REASON)

    def save(name: str, **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        AUDIO_MODELS[name](transformers, **settings).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BART and a tokenizer of bytes that are merged."""
    transformers = pytest.importorskip("transformers", reason=REASON)
    import tokenizers

    tokenizer = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>"]
    tokenizer.train_from_iterator(
        PHRASES, vocab_size=300, special_tokens=special, show_progress=False
    )
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    torch.manual_seed(0)
    model = transformers.BartForConditionalGeneration(
        transformers.BartConfig(
            vocab_size=len(fast),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=64,
            init_std=0.5,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
            forced_eos_token_id=2,
        )
    )
    folder = tmp_path_factory.mktemp("bart")
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
