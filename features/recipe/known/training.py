"""What `[head.training]` may name; `models.neural` computes it."""

from __future__ import annotations

CLASS_LOSSES = ("cross-entropy", "focal", "kl")
VALUE_LOSSES = ("mse", "ccc")
OPTIMISERS = ("adam", "adamw", "sgd")
