"""`[head.training]`: how a network is trained."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from features.common.sections import Among, Section
from features.recipe.known.training import CLASS_LOSSES, OPTIMISERS, VALUE_LOSSES

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, strict=False)]
Rate = Annotated[float, Field(ge=0, lt=1, strict=False)]

_OF_ROWS = ("shares",)
"""Keys that say what rows are fitted to, and not how."""


class TrainingSpec(Section):
    """`[head.training]`: what is left out is the network's own default (`models/neural`).

    `epochs` or `steps` say how long; with `patience` (rows of the learning curve without a better
    score on the inner rows) that is the most, and a refit takes the median of the inner folds.
    `[head.grid]` searches over the same names, but for `shares`: class -> the column of the
    utterance tables that has its votes (`features.shares`). What came after runs were made without
    it is left out of what they record.
    """

    left_out: ClassVar[tuple[str, ...]] = ("speaker_width", "shares")

    loss: Annotated[str, Among((*CLASS_LOSSES, *VALUE_LOSSES))] | None = None
    hidden: list[Count] | None = None
    batch_norm: bool | None = None
    projection: Count | None = None
    dropout: Rate | None = None
    focal_gamma: Amount | None = None
    class_weight: Literal["balanced"] | dict[str, float] | None = None
    optimiser: Annotated[str, Among(OPTIMISERS)] | None = None
    learning_rate: Annotated[float, Field(gt=0, strict=False)] | None = None
    weight_decay: Amount | None = None
    momentum: Rate | None = None
    batch_size: Annotated[int, Field(ge=2)] | None = None
    epochs: Count | None = None
    steps: Count | None = None
    evaluate_every: Count | None = None
    patience: Count | None = None
    clip_norm: Amount | None = None
    mixup_alpha: Amount | None = None
    speaker_width: Count | None = None
    shares: Annotated[dict[str, str], Field(min_length=2)] | None = None

    @classmethod
    def parameters(cls) -> list[str]:
        """The keys that an estimator takes, too."""
        return [name for name in cls.model_fields if name not in _OF_ROWS]

    def given(self) -> dict[str, Any]:
        """What is said, by the estimators' names."""
        found = self.model_dump(exclude_none=True, exclude=set(_OF_ROWS))
        return {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
