"""What `[extract]` stores in time beside the means: states of frames, or means of segments."""

from __future__ import annotations

FRAMES, SEGMENTS = "frames", "segments"
FRAME_KINDS = (FRAMES, SEGMENTS)
"""Each is a key of `[extract]`, a folder of every corpus's stores, `kind` in the key of its files,
and what the name of a sealed part begins with."""

NONE_OF = {FRAMES: "frames = []", SEGMENTS: "segments = 0"}
"""What `[models.NAME]` says of a model of which none are stored."""

LEAST_SEGMENTS, MOST_SEGMENTS = 2, 64
"""Parts of an utterance. One is its mean; 64 of three seconds have two or three frames each."""
