"""`[evaluate]`: how scores are judged."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from features.common.sections import Section


class EvaluateSpec(Section):
    """`[evaluate]`: bootstrap intervals."""

    bootstrap: Annotated[int, Field(ge=100)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
