"""Every other family of transformers: what planning asks of it, from its files alone."""

from __future__ import annotations

from typing import Any

from extract.encoders.families.family import Geometry, Values
from extract.encoders.families.table import FAMILIES
from extract.encoders.values import is_count

WINDOW = 400
"""Samples of a spectrum's window (25 ms), where the settings name none."""


class Other:
    """Any family by its own forward."""

    def geometry(self, where: str, config: Values, settings: Values) -> Geometry:
        """Least samples of a frame as far as the files say; its frames are the model's matter.

        Fewer than a model really needs are refused utterance by utterance.
        """
        padded = _count(settings.get("n_samples"), 0)
        if "conv_kernel" in config and "conv_stride" in config:
            family = FAMILIES["wav2vec2"]
            of_convolutions = family.geometry(where, config, settings)
            return of_convolutions._replace(overlap=0, padded_samples=padded)
        return Geometry(_count(settings.get("n_fft"), WINDOW), 0, 0, padded)

    def key_members(self, config: Values, settings: Values) -> dict[str, Any]:
        """Who prepares the input, and that the forward is transformers' own."""
        return {
            "input_normalisation": settings["feature_extractor_type"],
            "engine": "reference",
        }


def _count(value: Any, otherwise: int) -> int:
    return int(value) if is_count(value) else otherwise


REFERENCE = Other()
