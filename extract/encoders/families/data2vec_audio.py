"""data2vec-audio: as wav2vec 2.0, with several positional convolutions and norms behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from extract.encoders.families.convolutional import Convolutional
from extract.encoders.families.family import Values
from extract.encoders.sizes import Sizes


class Data2VecAudio(Convolutional):
    """The family; its blocks have their norms behind, whatever its config.json asks for."""

    def more_key(self, config: Values) -> dict[str, Any]:
        """`norms`, where config.json asks for what transformers' model does not have.

        A store that lacks this member has followed it.
        """
        return {"norms": "behind"} if config.get("do_stable_layer_norm") else {}

    def norm_first(self, config: Any) -> bool:
        """Never."""
        return False

    def sizes(self, config: Values, hidden_size: int, n_layers: int) -> Sizes:
        """Those of wav2vec 2.0, but `num_conv_pos_embeddings` counts layers here."""
        return replace(
            super().sizes(config, hidden_size, n_layers),
            positional_kernel=config.get("conv_pos_kernel_size", 19),
            positional_layers=config.get("num_conv_pos_embeddings", 5),
            group_norm=False,
        )


FAMILY = Data2VecAudio
"""What `extract.encoders.families.table` finds here."""
