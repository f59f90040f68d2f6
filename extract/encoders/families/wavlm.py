"""WavLM: as wav2vec 2.0, with a gated bias of relative positions in every block's attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from extract.encoders.families.convolutional import Convolutional, ConvolutionalForward
from extract.encoders.families.family import Values
from extract.encoders.sizes import Sizes

if TYPE_CHECKING:
    import torch

    from extract.encoders.exact.packing import Packing


class WavLM(Convolutional):
    """The family; the bias is computed by the first block's attention, the gates by each."""

    def sizes(self, config: Values, hidden_size: int, n_layers: int) -> Sizes:
        """Those of wav2vec 2.0; each block holds a bias a pair of frames."""
        return replace(super().sizes(config, hidden_size, n_layers), position_bias=True)

    def forward(
        self, model: Any, extractor: Any, layers: Sequence[int], device: torch.device
    ) -> WavLMForward:
        """As of wav2vec 2.0."""
        return WavLMForward(model, layers, device, norm_first=self.norm_first(model.config))


class WavLMForward(ConvolutionalForward):
    """The exact forward."""

    def __init__(
        self, model: Any, layers: Sequence[int], device: torch.device, norm_first: bool
    ) -> None:
        self._relative = model.encoder.layers[0].attention
        super().__init__(model, layers, device, norm_first)
        # Of its projections the block has a copy.
        self._relative.q_proj = self._relative.k_proj = self._relative.v_proj = None

    def position_biases(self, layout: Packing) -> list[torch.Tensor]:
        """One a run, shape (n_heads, n_frames, n_frames)."""
        return [self._relative.compute_bias(run.n_frames, run.n_frames) for run in layout.runs]


FAMILY = WavLM
"""What `extract.encoders.families.table` finds here."""
