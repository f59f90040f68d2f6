"""Sizes of a speech model, and what follows from them: operations and bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from extract.audio import SAMPLING_RATE_HZ

CHUNK_S = 120.0
"""Padded seconds that a GPU convolves at once; their activations dominate its memory."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model, most by the names of transformers' configurations.

    Attributes
    ----------
    n_inputs : int
        Channels that the first convolution takes: 1 of a waveform, or bands of a spectrum.
    inputs_hz : int
        Samples or spectra a second.
    fixed_s : float or None
        Seconds that every utterance is made to have, if any.
    projected : bool
        Whether a projection stands between the convolutions and the blocks.
    positional_kernel, positional_groups, positional_layers : int
        Of the positional convolutions; a kernel of 0 without any.
    group_norm, position_bias : bool
        Of the first convolution; of the attention.
    """

    hidden_size: int
    n_layers: int
    n_heads: int
    intermediate_size: int
    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    n_inputs: int = 1
    inputs_hz: int = SAMPLING_RATE_HZ
    fixed_s: float | None = None
    projected: bool = True
    positional_kernel: int = 0
    positional_groups: int = 1
    positional_layers: int = 0
    group_norm: bool = False
    position_bias: bool = False

    @property
    def frames_hz(self) -> float:
        """Frames a second of audio."""
        return self.inputs_hz / math.prod(self.conv_stride)

    @property
    def n_parameters(self) -> int:
        """Weights of the encoder, biases and norms left out.

        Returns
        -------
        int
        """
        inputs = (self.n_inputs, *self.conv_dim)
        convolutions = sum(
            kernel * before * after
            for kernel, before, after in zip(
                self.conv_kernel, inputs[:-1], self.conv_dim, strict=True
            )
        )
        hidden = self.hidden_size
        block = 4 * hidden**2 + 2 * hidden * self.intermediate_size
        return convolutions + self._projection() + self._positional() + self.n_layers * block

    def _projection(self) -> int:
        """Multiplications of the projection a frame; also its weights."""
        return self.conv_dim[-1] * self.hidden_size if self.projected else 0

    def _positional(self) -> int:
        """Multiplications of the positional convolutions a frame; also their weights."""
        each = self.hidden_size**2 * self.positional_kernel // self.positional_groups
        return self.positional_layers * each

    def operations(self, seconds: float) -> float:
        """Floating-point operations for an utterance, a multiplication and an addition each one.

        Counted are the convolutions, the projection, the positional convolutions, the blocks'
        projections and feed-forward, and attention's two products, quadratic in the length. Norms,
        activations, softmax and pooling are not.

        Parameters
        ----------
        seconds : float
            Of audio; of no effect where the encoder computes a fixed length.

        Returns
        -------
        float
        """
        seconds = self.fixed_s or seconds
        rate = float(self.inputs_hz)
        total, before = 0.0, self.n_inputs
        for after, kernel, stride in zip(
            self.conv_dim, self.conv_kernel, self.conv_stride, strict=True
        ):
            rate /= stride
            total += rate * seconds * kernel * before * after
            before = after
        n_frames = self.frames_hz * seconds
        hidden = self.hidden_size
        block = 4 * hidden**2 + 2 * hidden * self.intermediate_size + 2 * n_frames * hidden
        each = self._projection() + self._positional() + self.n_layers * block
        return 2 * (total + n_frames * each)

    def batch_bytes(self, item: int, padded_s: float, longest_s: float) -> float:
        """Bytes that a batch needs at its peak beside the weights, as the encoder works.

        Parameters
        ----------
        item : int
            Bytes of a number.
        padded_s : float
            Padded seconds of the batch.
        longest_s : float
            Its longest utterance, in seconds.

        Returns
        -------
        float
            The larger of two: what lies there while the last rows are convolved (two buffers of
            the first convolution's output, its windows, the features that are done), and what lies
            there in a block (states, norm, projections, attention), masks counted.
        """
        of_waveforms = self.n_inputs == 1
        frames, hidden = self.frames_hz * padded_s, self.hidden_size
        features = frames * self.conv_dim[-1] * item
        first_hz = self.inputs_hz / self.conv_stride[0]
        windows = 16 * (8 + item + (24 if self.group_norm else 0)) if of_waveforms else 0
        convolved_s = min(CHUNK_S, max(padded_s, longest_s)) if of_waveforms else padded_s
        samples = 4 * SAMPLING_RATE_HZ
        front = convolved_s * (first_hz * (2 * self.conv_dim[0] * item + windows) + samples)
        block = frames * item * max(7 * hidden, 3 * hidden + self.intermediate_size)
        scores = frames * longest_s * self.frames_hz * (1 + 2 * item)
        if self.position_bias:
            scores += 2 * frames * longest_s * self.frames_hz * self.n_heads * item
        return max(front + features, 2 * features, block + scores)
