"""What a speech model costs, from its configuration alone: operations and bytes.

Imports neither torch nor transformers: a batch's size is chosen before the weights are loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.description import Description
from extract.encoders.geometry import (
    CONV_DIM,
    CONV_KERNEL,
    CONV_STRIDE,
    TINY_CONFIG,
)

PRECISION_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MOST_S = 480.0
"""Padded seconds a batch, at most: 24,000 frames should fill any GPU (not measured)."""
FRACTION = 0.7
"""Of the free memory: the rest is for libraries' workspaces and what an allocator cannot fill."""
CHUNK_S = 120.0
"""Padded seconds that a GPU convolves at once; their activations dominate its memory."""
WORKSPACE_BYTES = 1_000_000_000
"""Of the context, the libraries and the positional convolution's bounded copies."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, by the names of transformers' configurations.

    `mel` is 0 but for whisper, whose convolutions take so many mel bands every 10 ms; its
    `positional_kernel` is 0.
    """

    hidden_size: int
    n_layers: int
    n_heads: int
    intermediate_size: int
    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    positional_kernel: int
    positional_groups: int
    positional_layers: int
    mel: int
    group_norm: bool
    position_bias: bool

    @property
    def frames_hz(self) -> float:
        """Frames a second of audio."""
        return (100 if self.mel else SAMPLING_RATE_HZ) / math.prod(self.conv_stride)

    @property
    def n_parameters(self) -> int:
        """Weights of the encoder, biases and norms left out."""
        inputs = (self.mel or 1, *self.conv_dim)
        convolutions = sum(
            kernel * before * after
            for kernel, before, after in zip(
                self.conv_kernel, inputs[:-1], self.conv_dim, strict=True
            )
        )
        hidden = self.hidden_size
        block = 4 * hidden**2 + 2 * hidden * self.intermediate_size
        projection = 0 if self.mel else self.conv_dim[-1] * hidden
        return convolutions + projection + self._positional() + self.n_layers * block

    def _positional(self) -> int:
        """Multiplications of the positional convolutions a frame; also their weights."""
        each = self.hidden_size**2 * self.positional_kernel // self.positional_groups
        return self.positional_layers * each

    def operations(self, seconds: float) -> float:
        """Floating-point operations for an utterance, a multiplication and an addition each one.

        Counted are the convolutions, the projection, the positional convolutions, the blocks'
        projections and feed-forward, and attention's two products, quadratic in the length. Norms,
        activations, softmax and pooling are not. Whisper's utterances have 30 s each.
        """
        seconds = 30.0 if self.mel else seconds
        rate = 100.0 if self.mel else float(SAMPLING_RATE_HZ)
        total, before = 0.0, self.mel or 1
        for after, kernel, stride in zip(
            self.conv_dim, self.conv_kernel, self.conv_stride, strict=True
        ):
            rate /= stride
            total += rate * seconds * kernel * before * after
            before = after
        n_frames = self.frames_hz * seconds
        hidden = self.hidden_size
        block = 4 * hidden**2 + 2 * hidden * self.intermediate_size + 2 * n_frames * hidden
        projection = 0 if self.mel else self.conv_dim[-1] * hidden
        return 2 * (total + n_frames * (projection + self._positional() + self.n_layers * block))

    def batch_bytes(
        self, item: int, padded_s: float, longest_s: float, chunk_s: float = CHUNK_S
    ) -> float:
        """Bytes that a batch needs at its peak beside the weights, as the encoder works.

        Parameters
        ----------
        item : int
            Bytes of a number.
        padded_s : float
            Padded seconds of the batch.
        longest_s : float
            Its longest utterance, in seconds.
        chunk_s : float
            Padded seconds convolved at once.

        Returns
        -------
        float
            The larger of two: what lies there while the last rows are convolved (two buffers of
            the first convolution's output, its windows, the features that are done), and what lies
            there in a block (states, norm, projections, attention), masks counted.
        """
        frames, hidden = self.frames_hz * padded_s, self.hidden_size
        features = frames * self.conv_dim[-1] * item
        first_hz = (100 if self.mel else SAMPLING_RATE_HZ) / self.conv_stride[0]
        windows = 0 if self.mel else 16 * (8 + item + (24 if self.group_norm else 0))
        convolved_s = padded_s if self.mel else min(chunk_s, max(padded_s, longest_s))
        samples = 4 * SAMPLING_RATE_HZ
        front = convolved_s * (first_hz * (2 * self.conv_dim[0] * item + windows) + samples)
        block = frames * item * max(7 * hidden, 3 * hidden + self.intermediate_size)
        scores = frames * longest_s * self.frames_hz * (1 + 2 * item)
        if self.position_bias:
            scores += 2 * frames * longest_s * self.frames_hz * self.n_heads * item
        return max(front + features, 2 * features, block + scores)


def read_sizes(description: Description) -> Sizes:
    """Sizes as the checkpoint's config.json says; what it omits is transformers' default."""
    if description.folder is None:
        config: Mapping[str, Any] = TINY_CONFIG
    else:
        config = json.loads((description.folder / "config.json").read_text(encoding="utf-8"))
    if description.key["family"] == "whisper":
        hidden = description.hidden_size
        return Sizes(
            hidden_size=hidden,
            n_layers=description.n_layers,
            n_heads=config.get("encoder_attention_heads", 6),
            intermediate_size=config.get("encoder_ffn_dim", 1536),
            conv_dim=(hidden, hidden),
            conv_kernel=(3, 3),
            conv_stride=(1, 2),
            positional_kernel=0,
            positional_groups=1,
            positional_layers=0,
            mel=config.get("num_mel_bins", 80),
            group_norm=False,
            position_bias=False,
        )
    stacked = description.key["family"] == "data2vec-audio"
    kernel = config.get("num_conv_pos_embeddings", 5 if stacked else 128)
    return Sizes(
        hidden_size=description.hidden_size,
        n_layers=description.n_layers,
        n_heads=config.get("num_attention_heads", 12),
        intermediate_size=config.get("intermediate_size", 3072),
        conv_dim=tuple(config.get("conv_dim", CONV_DIM)),
        conv_kernel=tuple(config.get("conv_kernel", CONV_KERNEL)),
        conv_stride=tuple(config.get("conv_stride", CONV_STRIDE)),
        positional_kernel=config.get("conv_pos_kernel_size", 19) if stacked else kernel,
        positional_groups=config.get("num_conv_pos_embedding_groups", 16),
        positional_layers=kernel if stacked else 1,
        mel=0,
        group_norm=not stacked and config.get("feat_extract_norm", "group") == "group",
        position_bias=description.key["family"] == "wavlm",
    )


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
