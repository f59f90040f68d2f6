"""What a speech model costs, from its configuration alone: operations and bytes.

Imports neither torch nor transformers: a batch's size is chosen before the weights are loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.description import Description
from extract.encoders.families.table import FAMILIES
from extract.encoders.geometry import TINY_CONFIG
from extract.encoders.sizes import Sizes

PRECISION_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MOST_S = 480.0
"""Padded seconds a batch, at most: 24,000 frames should fill any GPU (not measured)."""
FRACTION = 0.7
"""Of the free memory: the rest is for libraries' workspaces and what an allocator cannot fill."""
WORKSPACE_BYTES = 1_000_000_000
"""Of the context, the libraries and the positional convolution's bounded copies."""


def read_sizes(description: Description) -> Sizes:
    """Sizes as the checkpoint's config.json says; what it omits is transformers' default."""
    if description.folder is None:
        config: Mapping[str, Any] = TINY_CONFIG
    else:
        config = json.loads((description.folder / "config.json").read_text(encoding="utf-8"))
    family = FAMILIES[description.key["family"]]
    sizes = family.sizes(config, description.hidden_size, description.n_layers)
    if sizes.fixed_s is None:
        return sizes
    return replace(sizes, fixed_s=description.padded_samples / SAMPLING_RATE_HZ)


def budget_s(description: Description, free_bytes: float, longest_s: float) -> float:
    """Padded seconds a batch for a GPU.

    Parameters
    ----------
    description : Description
    free_bytes : float
        Of the device's memory, before the weights are loaded: the first value of
        `torch.cuda.mem_get_info`.
    longest_s : float
        The longest utterance, in seconds.

    Returns
    -------
    float
        At most `MOST_S`, at least the longest utterance (of at most the description's
        `max_samples`): whether that fits shows when it runs.
    """
    sizes, item = read_sizes(description), PRECISION_BYTES[description.key["precision"]]
    longest_s = min(longest_s, description.max_samples / SAMPLING_RATE_HZ)
    longest_s = max(longest_s, description.padded_samples / SAMPLING_RATE_HZ)
    room = FRACTION * free_bytes - sizes.n_parameters * item - WORKSPACE_BYTES
    least, most = longest_s, max(MOST_S, longest_s)
    if sizes.batch_bytes(item, most, longest_s) <= room:
        return most
    while most - least > 1:  # what fits grows with the seconds, but not linearly
        middle = (least + most) / 2
        fits = sizes.batch_bytes(item, middle, longest_s) <= room
        least, most = (middle, most) if fits else (least, middle)
    return max(longest_s, float(math.floor(least)))
