"""HGFM as one writes it with torch's modules: what ours is compared with, numbers and time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.neural.frame_heads import Hgfm
from models.neural.masks import attention_weights, mean_over_frames, weighted


class PackedHgfm(Hgfm):
    """The same parameters; packed sequences through torch's recurrent layer, torch's gradients."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs, shape (n, n_outputs)."""
        features = self.projection(x)
        packed = pack_padded_sequence(
            features, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, last = self.recurrent(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])
        attended = []
        for i, half in enumerate(padded.chunk(2, dim=2)):
            asked = self.query[i](last[i]).unsqueeze(1)
            scores = self.score[i](torch.tanh(self.first[i](half) + asked)).squeeze(2)
            attended.append(weighted(half, attention_weights(scores, lengths)))
        parts = [*last, *attended, mean_over_frames(features, lengths)]
        found: Tensor = self.out(torch.cat(parts, dim=1))
        return found
