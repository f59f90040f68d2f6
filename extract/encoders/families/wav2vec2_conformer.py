"""wav2vec2-conformer: the convolutions of wav2vec 2.0, then conformer blocks.

No convolution gives positions: attention does, relative or rotary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from extract.encoders.families.convolutional import Convolutional, ConvolutionalForward
from extract.encoders.families.family import Values
from extract.encoders.sizes import Sizes

if TYPE_CHECKING:
    import torch

    from extract.encoders.exact.packing import Packing


class Wav2Vec2Conformer(Convolutional):
    """The family."""

    def __init__(self) -> None:
        super().__init__("wav2vec2-conformer")

    def norm_first(self, config: Any) -> bool:
        """Always: a last norm stands behind the blocks."""
        return True

    def sizes(self, config: Values, hidden_size: int, n_layers: int) -> Sizes:
        """Those of wav2vec 2.0; a block has two feed-forwards and a convolution in its middle."""
        found = super().sizes(config, hidden_size, n_layers)
        return replace(
            found,
            # Of two feed-forwards, and the 4 * hidden**2 of convolution and positions.
            intermediate_size=2 * (found.intermediate_size + hidden_size),
            positional_kernel=0,
            positional_layers=0,
            position_bias=True,
        )

    def forward(
        self, model: Any, extractor: Any, layers: Sequence[int], device: torch.device
    ) -> Wav2Vec2ConformerForward:
        """As of wav2vec 2.0."""
        return Wav2Vec2ConformerForward(model, layers, device, norm_first=True)


class Wav2Vec2ConformerForward(ConvolutionalForward):
    """The exact forward: transformers' own blocks, run by run, blind to padding."""

    def block(self, layer: Any) -> Any:
        """The block itself, over packed frames; its convolution is blind to padding."""
        layer.conv_module.depthwise_conv.register_forward_pre_hook(self.zero_padding)
        layer.forward = functools.partial(_by_runs, layer.forward)
        return layer

    def _place_positions(self) -> None:
        """None are added; transformers loads a convolution that it does not use."""
        self._stack.pos_conv_embed = None

    def positioned(self, states: torch.Tensor, layout: Packing) -> torch.Tensor:
        """As they are."""
        return states

    def position_biases(self, layout: Packing) -> list[torch.Tensor]:
        """Embeddings of relative or rotary positions, one a run, where the checkpoint has any."""
        import torch

        embed = self._stack.embed_positions
        if embed is None:
            return []
        dtype = next(self._model.parameters()).dtype
        with self._device:  # so that nothing is made on the CPU and copied
            return [
                embed(torch.empty(1, run.n_frames, 0, dtype=dtype, device=self._device))
                for run in layout.runs
            ]


def _by_runs(
    block: Callable[..., torch.Tensor],
    states: torch.Tensor,
    layout: Packing,
    positions: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Packed states by a block that takes rows of one length."""
    import torch

    mask = None
    if layout.mask is not None:
        mask = torch.zeros_like(layout.mask, dtype=states.dtype)
        mask = mask.masked_fill(~layout.mask, torch.finfo(states.dtype).min)[:, None, None, :]
    found = []
    for i, run in enumerate(layout.runs):
        own = positions[i] if positions else None
        rows = block(run.of(states), attention_mask=mask, relative_position_embeddings=own)
        found.append(rows.flatten(0, 1))
    return found[0] if len(found) == 1 else torch.cat(found)
