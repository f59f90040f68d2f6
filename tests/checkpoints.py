"""Tiny checkpoints with random weights, of every family, in the files that the Hub holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

# Everything that a configuration needs to be small; 7 convolutions, 400 samples a frame.
SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": [16] * 7,
    "num_conv_pos_embedding_groups": 4,
}
WHISPER: dict[str, Any] = {
    "d_model": 24,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 40,
    "num_mel_bins": 80,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
FRONT_ENDS: dict[str, dict[str, Any]] = {
    "group": {"feat_extract_norm": "group", "num_conv_pos_embeddings": 32},
    # An odd width: nothing is trimmed behind the positional convolution.
    "layer": {"feat_extract_norm": "layer", "num_conv_pos_embeddings": 33, "conv_bias": True},
}
PREFIXES = {
    "wav2vec2": "Wav2Vec2",
    "hubert": "Hubert",
    "unispeech": "UniSpeech",
    "unispeech-sat": "UniSpeechSat",
    "wavlm": "WavLM",
}
# name -> (class prefix in transformers, settings): every form that a family has.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{family}-{norm}-{'stable' if stable else 'plain'}": (
        prefix,
        {**settings, "do_stable_layer_norm": stable},
    )
    for family, prefix in PREFIXES.items()
    for norm, settings in FRONT_ENDS.items()
    for stable in (False, True)
} | {
    "hubert-batch-norm": ("Hubert", {**FRONT_ENDS["group"], "conv_pos_batch_norm": True}),
    "hubert-bare-projection": ("Hubert", {**FRONT_ENDS["layer"], "feat_proj_layer_norm": False}),
    "data2vec-audio": ("Data2VecAudio", {"conv_pos_kernel_size": 19, "num_conv_pos_embeddings": 5}),
    "whisper": ("Whisper", {}),
}


def build(form: str, head: str = "Model", **more: Any) -> Any:
    """A random model of a form in `FORMS`, with weights that make its layers differ.

    Initialisations leave biases at 0, norms at 1 and attention almost uniform; here nothing is.
    """
    import torch
    import transformers

    prefix, settings = FORMS[form]
    small = WHISPER if prefix == "Whisper" else SMALL
    config = getattr(transformers, f"{prefix}Config")(**{**small, **settings, **more})
    torch.manual_seed(0)
    model = getattr(transformers, f"{prefix}{head}")(config).eval()
    return stirred(model)


def stirred(model: Any) -> Any:
    """The model with noise of a seed on all of its weights."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if any(part in name for part in ("q_proj.weight", "k_proj.weight")):
                parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
            else:
                parameter.add_(0.1 * parameter.std(correction=0).clamp(min=0.3) * noise)
        for name, buffer in model.named_buffers():
            if "running_mean" in name:  # a batch norm that does something
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return model


def save(
    folder: Path, form: str, *, head: str = "Model", normalise: bool = True, **more: Any
) -> Any:
    """Build a model and write config, weights and preprocessor file to a folder."""
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    model = build(form, head, **more)
    model.save_pretrained(folder)
    if form == "whisper":
        WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).save_pretrained(folder)
    else:
        Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    return model


def edit(path: Path, **changes: Any) -> None:
    """Change members of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def speechlike(seconds: tuple[float, ...], seed: int = 0) -> list[np.ndarray]:
    """Tones that glide, with noise and an offset, float32 at 16 kHz."""
    rng = np.random.default_rng(seed)
    audio = []
    for duration in seconds:
        time = np.arange(round(duration * 16000)) / 16000
        pitch = rng.uniform(80, 300) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(1, 4) * time))
        tone = np.sin(2 * np.pi * np.cumsum(pitch) / 16000) * rng.uniform(0.05, 0.5)
        noise = rng.normal(0, rng.uniform(0.01, 0.1), len(time))
        audio.append((tone + noise + rng.uniform(-0.05, 0.05)).astype(np.float32))
    return audio


def alone(model: Any, folder: Path, samples: np.ndarray) -> np.ndarray:
    """Means of `frames_alone`, shape (n_layers + 1, hidden)."""
    return frames_alone(model, folder, samples).mean(axis=1)


def frames_alone(model: Any, folder: Path, samples: np.ndarray) -> np.ndarray:
    """States of every layer and frame by transformers' own forward on one file.

    float64, shape (n_layers + 1, n_frames, hidden). Layers 0..L-1 are `hidden_states[0..L-1]`,
    layer L is `last_hidden_state`; of Whisper the positions that the audio covers.
    """
    import torch
    from transformers import AutoFeatureExtractor

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")
    whisper = "input_features" in inputs
    with torch.no_grad():
        if whisper:
            encoder = model.encoder if hasattr(model, "encoder") else model.get_encoder()
            output = encoder(inputs["input_features"], output_hidden_states=True)
        else:
            output = model(inputs["input_values"], output_hidden_states=True)
    states = [*output.hidden_states[:-1], output.last_hidden_state]
    n_layers = model.config.num_hidden_layers
    if len(states) != n_layers + 1:
        raise RuntimeError(f"{len(states)} layers, expected {n_layers + 1}")
    covered = math.ceil(math.ceil(len(samples) / 160) / 2) if whisper else None
    return np.stack([state[0, :covered].double().numpy() for state in states])
