"""What `[head] speaker`, `unseen` and `shift` may name; `models` computes it."""

from __future__ import annotations

SPEAKERS = ("embedding", "mean-mfcc")
"""What of a speaker `[head] speaker` adds to an embedding."""
SPEAKERS_OF = "mfcc"
"""The model whose stores `mean-mfcc` takes its means of."""
MEAN_ROW, OWN_ROWS = UNSEEN = ("mean", "own")
"""What `[head] unseen` gives to a speaker without a fitted row."""
SHIFTS = ("pldc",)
"""How `[head] shift` moves the predictions of a held-out speaker."""
