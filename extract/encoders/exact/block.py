"""A transformer block over packed frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from extract.encoders.exact.packing import Packing
from extract.encoders.exact.products import frozen, is_gelu, linear


class BlockParts(NamedTuple):
    """What a block is made of, by whatever names a family calls it.

    Attributes
    ----------
    attention : Module
        With `q_proj`, `k_proj`, `v_proj`, `out_proj` and `num_heads`; with wavlm's gates, if any.
    norms : tuple of two Modules
        Of the attention and of the feed-forward.
    inner, outer : Linear
        Of the feed-forward.
    activation : callable
        Between the two.
    adapter : Module or None
        Added behind the block.
    clamped : bool
        Whether float16 states are kept finite, as transformers does for whisper.
    """

    attention: Any
    norms: tuple[nn.Module, nn.Module]
    inner: nn.Linear
    outer: nn.Linear
    activation: Any
    adapter: nn.Module | None = None
    clamped: bool = False


class Block(nn.Module):
    """One transformer block of any family, over packed frames.

    Parameters
    ----------
    parts : BlockParts
        Modules of transformers' `...EncoderLayer`, whose weights the block takes over.
    norm_first : bool
        Whether the norms stand before attention and feed-forward, or behind them.
    """

    def __init__(self, parts: BlockParts, norm_first: bool) -> None:
        super().__init__()
        attention = parts.attention
        self.norm_first = norm_first
        self.n_heads = attention.num_heads
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        self.weight = frozen(torch.cat([each.weight for each in projections]))
        biases = [
            torch.zeros_like(each.weight[:, 0]) if each.bias is None else each.bias
            for each in projections
        ]
        self.bias = frozen(torch.cat(biases))
        self.out = attention.out_proj
        self.norms = nn.ModuleList(parts.norms)
        self.inner, self.outer, self.activation = parts.inner, parts.outer, parts.activation
        self.is_gelu = is_gelu(self.activation)
        self.clamped = parts.clamped
        self.adapter = parts.adapter
        self.gate: Any = getattr(attention, "gru_rel_pos_linear", None)  # of wavlm
        if self.gate is not None:
            self.gate_constant = frozen(attention.gru_rel_pos_const.flatten())

    def forward(
        self, states: torch.Tensor, layout: Packing, position_bias: Sequence[torch.Tensor] = ()
    ) -> torch.Tensor:
        """Map packed states to packed states.

        Parameters
        ----------
        states : Tensor, shape (n_frames of all rows, hidden)
        layout : Packing
        position_bias : sequence of Tensor, optional
            One a run, shape (n_heads, n_frames, n_frames): of wavlm.

        Returns
        -------
        Tensor, shape (n_frames of all rows, hidden)
        """
        if self.norm_first:
            states = states + self._attention(self.norms[0](states), layout, position_bias)
            states = states + self._feed_forward(self.norms[1](states))
        else:
            states = self.norms[0](states + self._attention(states, layout, position_bias))
            states = self.norms[1](states + self._feed_forward(states))
        if self.adapter is not None:
            states = states + self.adapter(states)
        if self.clamped and states.dtype == torch.float16:
            most = torch.finfo(states.dtype).max - 1000
            states = states.clamp(-most, most)
        return states

    def _attention(
        self, states: torch.Tensor, layout: Packing, position_bias: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        gates = None if self.gate is None else self._gates(states)
        projected = linear(states, self.weight, self.bias)
        attended = []
        for i, run in enumerate(layout.runs):
            heads = run.of(projected).view(run.n_rows, run.n_frames, 3, self.n_heads, -1)
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            mask = None if layout.mask is None else layout.mask[:, None, None, :]
            if gates is not None:
                gate = run.of(gates).transpose(1, 2)[..., None]
                mask = gate * position_bias[i]
                if layout.mask is not None:
                    mask = mask.masked_fill(~layout.mask[:, None, None, :], -math.inf)
            output = scaled_dot_product_attention(query, key, value, attn_mask=mask)
            attended.append(output.transpose(1, 2).reshape(run.n_rows * run.n_frames, -1))
        together = attended[0] if len(attended) == 1 else torch.cat(attended)
        return linear(together, self.out.weight, self.out.bias)

    def _gates(self, states: torch.Tensor) -> torch.Tensor:
        """How much of the position bias each frame and head takes, shape (n_frames, n_heads)."""
        heads = states.view(len(states), self.n_heads, -1)
        projected = self.gate(heads).view(len(states), self.n_heads, 2, 4).sum(dim=-1)
        first, second = torch.sigmoid(projected).unbind(dim=-1)
        return first * (second * self.gate_constant - 1.0) + 2.0

    def _feed_forward(self, states: torch.Tensor) -> torch.Tensor:
        inner = linear(states, self.inner.weight, self.inner.bias, with_gelu=self.is_gelu)
        if not self.is_gelu:
            inner = self.activation(inner)
        return linear(inner, self.outer.weight, self.outer.bias)
