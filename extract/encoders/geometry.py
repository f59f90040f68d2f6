"""Convolutions of wav2vec 2.0 and its kin, and the untrained model of the demo and the tests."""

from __future__ import annotations

from typing import Any

# Defaults of all six configuration classes in transformers, for keys that a config.json omits.
CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)  # samples, then frames of the layer below

CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)

CONV_DIM = (512,) * 7

TINY_SEED = 0

TINY_CONFIG: dict[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32] * 7,
    "conv_kernel": list(CONV_KERNEL),
    "conv_stride": list(CONV_STRIDE),
    "conv_bias": False,
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}
