"""What `[head.training]` may name; `models.neural` computes it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CLASS_LOSSES = ("cross-entropy", "focal", "kl")
VALUE_LOSSES = ("mse", "ccc")
OPTIMISERS = ("adam", "adamw", "sgd")

# The settings that are of some networks alone.
_CONVOLUTIONS = ("projection", "dropout")
NETWORK_SETTINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mlp": ("hidden", "batch_norm", "dropout"),
        "superb": ("projection",),
        "emobox": ("hidden",),
        "attention": ("projection", "hidden"),
        "fcn": _CONVOLUTIONS,
        "cnn-attention": (*_CONVOLUTIONS, "hidden"),
        "hgfm": ("projection", "hidden"),
        "cnn-lstm": ("projection", "hidden", "dropout"),
    }
)
"""Network -> which of the settings of shape it has."""
SHAPE_SETTINGS = ("hidden", "batch_norm", "projection", "dropout")
ON_FRAMES = tuple(name for name in NETWORK_SETTINGS if name not in ("mlp", "superb"))
"""The networks whose rows are frames of utterances."""
