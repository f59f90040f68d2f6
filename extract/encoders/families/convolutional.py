"""wav2vec 2.0 and its kin: seven convolutions over the waveform, then transformer blocks.

Four families are alike to the last operation: wav2vec2, hubert, unispeech and unispeech-sat. Others
are made of this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.families.family import ConfigSetting, Family, Geometry, Preparation, Values
from extract.encoders.geometry import CONV_DIM, CONV_KERNEL, CONV_STRIDE
from extract.encoders.sizes import CHUNK_S, Sizes
from extract.encoders.values import as_json, checked_size
from features.common.errors import ModelError

if TYPE_CHECKING:
    import torch

    from extract.encoders.exact.packing import Packing

CPU_CHUNK = 200
"""Frames (4 s) that a CPU convolves at once."""


def _nothing_computed(settings: Values) -> dict[str, Any]:
    return {}


def _faults(settings: Values, whole: Values, config: Values) -> list[str]:
    """Settings of a waveform that cannot be honoured."""
    faults = []
    if whole["feature_size"] != 1:
        faults.append(f"feature_size is {as_json(whole['feature_size'])}; a waveform has 1")
    if not isinstance(whole["do_normalize"], bool):
        faults.append(f"do_normalize is {as_json(whole['do_normalize'])}; true or false")
    return faults


WAVEFORM = Preparation(
    "Wav2Vec2FeatureExtractor",
    {
        "feature_size": 1,
        "sampling_rate": SAMPLING_RATE_HZ,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": False,
        "do_normalize": True,
    },
    ("sampling_rate", "feature_size", "do_normalize", "dither"),
    _nothing_computed,
    _faults,
)


class Convolutional(Family):
    """A family of the kind, by transformers' `model_type`."""

    preparation = WAVEFORM
    width = ConfigSetting("hidden_size", 768)
    depth = ConfigSetting("num_hidden_layers", 12)

    def geometry(self, where: str, config: Values, settings: Values) -> Geometry:
        """Frames of the convolutions that config.json lists.

        Parameters
        ----------
        where : str
            What errors call the checkpoint.
        config, settings : mapping
            Of config.json; of the feature extractor, which changes nothing here.

        Returns
        -------
        Geometry
            All in samples at 16 kHz.
        """
        kernels, strides = _convolutions(where, config)
        # A frame sees the kernel of the first layer, widened by every later one.
        min_samples, stride = 1, 1
        for kernel, step in zip(kernels, strides, strict=True):
            min_samples += (kernel - 1) * stride
            stride *= step
        return Geometry(min_samples, stride, overlap=min_samples - stride)

    def normalisation(self, settings: Values) -> str:
        """Whether the waveform is scaled."""
        return "zero-mean-unit-variance" if settings["do_normalize"] else "none"

    def normalised(self, samples: np.ndarray, settings: Values) -> np.ndarray:
        """Zero mean and unit variance, where the checkpoint asks for it."""
        if not settings["do_normalize"]:
            return samples
        scaled: np.ndarray = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        return scaled

    def sizes(self, config: Values, hidden_size: int, n_layers: int) -> Sizes:
        """Sizes by the names of transformers' configuration.

        Parameters
        ----------
        config : mapping
            Of config.json; what it leaves out is as in transformers' configuration.
        hidden_size, n_layers : int
            As they were checked.

        Returns
        -------
        Sizes
        """
        return Sizes(
            hidden_size=hidden_size,
            n_layers=n_layers,
            n_heads=config.get("num_attention_heads", 12),
            intermediate_size=config.get("intermediate_size", 3072),
            conv_dim=tuple(config.get("conv_dim", CONV_DIM)),
            conv_kernel=tuple(config.get("conv_kernel", CONV_KERNEL)),
            conv_stride=tuple(config.get("conv_stride", CONV_STRIDE)),
            positional_kernel=config.get("num_conv_pos_embeddings", 128),
            positional_groups=config.get("num_conv_pos_embedding_groups", 16),
            positional_layers=1,
            group_norm=config.get("feat_extract_norm", "group") == "group",
        )

    def norm_first(self, config: Any) -> bool:
        """Whether a loaded model's norms stand before attention and feed-forward."""
        return bool(getattr(config, "do_stable_layer_norm", False))

    def forward(
        self, model: Any, extractor: Any, layers: Sequence[int], device: torch.device
    ) -> ConvolutionalForward:
        """Put exact parts in the place of a loaded model's."""
        return ConvolutionalForward(model, layers, device, self.norm_first(model.config))


def _convolutions(where: str, config: Values) -> tuple[list[int], list[int]]:
    """Kernels and strides of the convolutions; they and the channels are as many of each."""
    lists = []
    for name, default in (
        ("conv_kernel", CONV_KERNEL),
        ("conv_stride", CONV_STRIDE),
        ("conv_dim", CONV_DIM),
    ):
        values = config.get(name, default)
        if not isinstance(values, list | tuple) or not values:
            raise ModelError(
                f"{where}: {name} is {as_json(values)} in config.json; expected a list of integers"
            )
        lists.append([checked_size(where, f"{name}[{i}]", value) for i, value in enumerate(values)])
    if len({len(values) for values in lists}) > 1:
        raise ModelError(
            f"{where}: conv_kernel, conv_stride and conv_dim in config.json have "
            f"{', '.join(str(len(values)) for values in lists)} members; expected as many of each"
        )
    return lists[0], lists[1]


class ConvolutionalForward:
    """The exact forward.

    - Convolutions: file by file, or in padded rows, where a row's own frames see its own samples
      alone, and the statistics of a group norm are taken over them.
    - The positional convolutions: padded frames, where there are any, are zeroed before each.

    Parameters
    ----------
    model : Module
        transformers' `...Model`, whose parts are replaced.
    layers : sequence of int
        Stored layers, ascending: no block behind the last is kept.
    device : torch.device
    norm_first : bool
        Whether the norms stand before attention and feed-forward.
    """

    def __init__(
        self, model: Any, layers: Sequence[int], device: torch.device, norm_first: bool
    ) -> None:
        from extract.encoders.exact.front_end import FrontEnd

        self._model, self._stack = model, model.encoder
        self._device, self._norm_first = device, norm_first
        self._mask: torch.Tensor | None = None  # valid frames of a padded forward under way
        self.layers = self._stack.layers = self._stack.layers[: max(1, layers[-1])]
        for i, layer in enumerate(self.layers):
            self.layers[i] = self.block(layer)
        self.front_end = FrontEnd(model.feature_extractor, next(model.parameters()).dtype)
        model.feature_extractor = None
        self._place_positions()

    def block(self, layer: Any) -> torch.nn.Module:
        """An exact block in the place of a loaded model's.

        Parameters
        ----------
        layer : Module
            Of transformers' encoder.

        Returns
        -------
        Module
        """
        from extract.encoders.exact.block import Block, BlockParts

        feed = layer.feed_forward
        parts = BlockParts(
            layer.attention,
            (layer.layer_norm, layer.final_layer_norm),
            feed.intermediate_dense,
            feed.output_dense,
            feed.intermediate_act_fn,
            getattr(layer, "adapter_layer", None),
        )
        return Block(parts, self._norm_first)

    def _place_positions(self) -> None:
        """Positional convolutions with their weight norm multiplied out, blind to padding."""
        import torch

        from extract.encoders.exact.products import plain_convolution, positional

        for parent in list(self._stack.pos_conv_embed.modules()):
            if isinstance(getattr(parent, "conv", None), torch.nn.Conv1d):
                parent.conv = positional(plain_convolution(parent.conv), self._device)
                parent.conv.register_forward_pre_hook(self.zero_padding)

    def zero_padding(self, module: torch.nn.Module, args: tuple[torch.Tensor]) -> Any:
        """Zeros for padded frames, if any, in a convolution's input (n_rows, width, n_frames)."""
        if self._mask is None:
            return None
        return (args[0].masked_fill(~self._mask[:, None, :], 0),)

    def enter(
        self,
        pieces: Sequence[np.ndarray],
        n_frames: Sequence[int],
        *,
        file_by_file: bool,
        max_runs: float,
    ) -> tuple[torch.Tensor, Packing]:
        """What enters the first block, packed or padded.

        Parameters
        ----------
        pieces : sequence of float32 arrays, shape (n_samples,)
            Sorted by length, longest first.
        n_frames : sequence of int
        file_by_file : bool
            Whether the convolutions run on each file alone.
        max_runs : float
            Lengths up to which frames are packed; more are padded.

        Returns
        -------
        states : Tensor, shape (n_frames of all rows, hidden)
        layout : Packing
            Where each piece's frames lie in them.
        """
        import torch

        from extract.encoders.exact.packing import EqualRows, Packing, equal_runs, uploaded

        alone = self._one_by_one(pieces, n_frames) if file_by_file else self._rows(pieces, n_frames)
        runs = equal_runs(n_frames)
        self._mask = None
        if len(runs) <= max_runs:
            features, layout = torch.cat(alone), Packing(runs)
        else:
            features = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True).flatten(0, 1)
            counted = uploaded(np.array(n_frames), self._device)
            frames = torch.arange(n_frames[0], device=self._device)
            self._mask = frames < counted[:, None]
            layout = Packing((EqualRows(0, len(pieces), n_frames[0]),), counted, self._mask)
        projected = self._model.feature_projection(features)
        states = projected[0] if isinstance(projected, tuple) else projected
        return self.positioned(states, layout), layout

    def _one_by_one(
        self, pieces: Sequence[np.ndarray], n_frames: Sequence[int]
    ) -> list[torch.Tensor]:
        """Frames of each piece, convolved alone."""
        from extract.encoders.exact.packing import waveforms

        return [
            self.front_end.alone(waveforms([piece], len(piece), self._device)[0], n_own, CPU_CHUNK)
            for piece, n_own in zip(pieces, n_frames, strict=True)
        ]

    def _rows(self, pieces: Sequence[np.ndarray], n_frames: Sequence[int]) -> list[torch.Tensor]:
        """Frames of each piece, convolved in padded rows, so many seconds at once."""
        from extract.encoders.exact.packing import uploaded, waveforms

        front_end = self.front_end
        length = max(
            max(len(piece) for piece in pieces),
            (n_frames[0] - 1) * front_end.stride + front_end.min_samples,
        )
        length = -(-length // front_end.stride) * front_end.stride
        at_once = max(1, int(CHUNK_S * SAMPLING_RATE_HZ / length))
        found = []
        for first in range(0, len(pieces), at_once):
            some = pieces[first : first + at_once]
            counts = None
            if front_end.group_norm is not None:
                counts = uploaded(np.array([len(piece) for piece in some]), self._device)
            rows = front_end.rows(waveforms(some, length, self._device), counts)
            found += [row[:n_own] for row, n_own in zip(rows, n_frames[first:], strict=False)]
        return found

    def positioned(self, states: torch.Tensor, layout: Packing) -> torch.Tensor:
        """Add the positional convolution: what enters the first block."""
        import torch

        embed = self._stack.pos_conv_embed
        positions = [embed(run.of(states)).flatten(0, 1) for run in layout.runs]
        states = states + (positions[0] if len(positions) == 1 else torch.cat(positions))
        return states if self._norm_first else self._stack.layer_norm(states)

    def position_biases(self, layout: Packing) -> list[torch.Tensor]:
        """None."""
        return []

    def leave(self, states: torch.Tensor) -> torch.Tensor:
        """The norm behind the last block, where norms stand first."""
        normed: torch.Tensor = self._stack.layer_norm(states) if self._norm_first else states
        return normed


FAMILY = Convolutional
"""What `extract.encoders.families.table` finds here."""
