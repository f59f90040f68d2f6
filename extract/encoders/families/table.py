"""The families whose forward is exact here, by transformers' `model_type`.

`features.recipe.known.encoder_families` declares them, each with its module of this folder; a
module has its class of families as `FAMILY`.
"""

from __future__ import annotations

from importlib import import_module

from extract.encoders.families.family import Family
from features.recipe.known.encoder_families import ENCODER_FAMILIES, computed_by
from features.recipe.known.engines import EXACT


def _made(key: str) -> Family:
    """A family of the class that its record's module has."""
    module = import_module(f"{__package__}.{ENCODER_FAMILIES[key].module}")
    kind: type[Family] = module.FAMILY
    return kind(key)


FAMILIES: dict[str, Family] = {key: _made(key) for key in computed_by(EXACT)}
PREPARATIONS = {family.preparation.name: family.preparation for family in FAMILIES.values()}
"""The classes that prepare their input, by name."""
