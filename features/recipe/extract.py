"""`[extract]`, `[corpora]` and `[models]`: what is stored, of which corpora, by which models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    ConfigDict,
    Field,
    field_validator,
)

from features.common.sections import Among, Section
from features.recipe.head import HeadSpec
from features.recipe.heads import table_of
from features.recipe.known.engines import ENGINES
from features.recipe.known.frame_kinds import LEAST_SEGMENTS, MOST_SEGMENTS
from features.recipe.known.precisions import FRAME_DTYPES, PRECISIONS


class CorpusSpec(Section):
    """`[corpora.NAME]`: where a corpus lies and who reads it; further keys go to the reader."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    root: str | None = None
    reader: str | None = None
    strict_counts: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Keys that the reader itself understands."""
        return dict(self.model_extra or {})


SEGMENTS_RANGE = Field(ge=LEAST_SEGMENTS, le=MOST_SEGMENTS)

LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
"""Of a part of `a+b`. Beyond them one part counts alone, and sums lose the digits of the others."""


class ModelSpec(Section):
    """`[models.NAME]`: a model that the registry lacks, or another checkpoint of one it has.

    Of `a+b`, `weights` are what the columns of each part are multiplied by behind the scaler: one a
    part, or "size", the square root of the mean number of columns of the parts over its own. Behind
    a standard scaler all parts then have the same variance, summed over their columns, and that of
    all columns together stays what it is: a grid fits as well as without weights.

    `context_s` is of encoders that pad all audio to one length (Whisper's 30 s): seconds that take
    its place. `frames` and `segments` are those of `[extract]` for this model alone. At their
    defaults all three are left out of what a run records.
    """

    left_out: ClassVar[tuple[str, ...]] = ("context_s", "frames", "segments")

    hub: str | None = None
    revision: str | None = None
    path: str | None = None
    context_s: Annotated[float, Field(ge=0.1, le=30, strict=False)] | None = None
    frames: list[Literal["last"] | Annotated[int, Field(ge=0)]] | None = None
    segments: Literal[0] | Annotated[int, SEGMENTS_RANGE] | None = None
    weights: Literal["size"] | list[Annotated[float, Field(strict=False)]] | None = None

    @field_validator("weights", mode="before")
    @classmethod
    def _known_weights(cls, value: Any) -> Any:
        numbers = isinstance(value, list) and all(type(weight) in (int, float) for weight in value)
        in_range = numbers and all(LEAST_WEIGHT <= weight <= MOST_WEIGHT for weight in value)
        if value is not None and value != "size" and not in_range:
            raise ValueError(
                f"'size', or one number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g} for each part"
            )
        return value


def model_parts(model: str) -> list[str]:
    """The models whose columns stand side by side in `a+b`; a single one has itself.

    Examples
    --------
    >>> model_parts("xlsr-1b+hubert-large"), model_parts("mfcc")
    (['xlsr-1b', 'hubert-large'], ['mfcc'])
    """
    return model.split("+")


class ExtractSpec(Section):
    """`[extract]`: what is computed and stored. `batch_seconds` and `workers` change no number.

    `engine` says whose forward computes, `frames` of which layers the states of every frame are
    stored, too, `segments` of how many equal parts of every utterance the means of all stored
    layers are; at their defaults they are left out of what a run records.
    """

    left_out: ClassVar[tuple[str, ...]] = ("engine", "frames", "frames_dtype", "segments")

    layers: Literal["all"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = (
        "all"
    )
    precision: Annotated[str, Among(PRECISIONS)] = "float32"
    engine: Annotated[str, Among(ENGINES)] = "auto"
    frames: list[Literal["last"] | Annotated[int, Field(ge=0)]] = []
    frames_dtype: Annotated[str, Among(FRAME_DTYPES)] = "float16"
    segments: Annotated[int, SEGMENTS_RANGE] | None = None
    max_seconds: Annotated[float, Field(ge=1, le=3600, strict=False)] = 60.0
    batch_seconds: Annotated[float, Field(gt=0, strict=False)] | None = None
    workers: Annotated[int, Field(ge=0)] | None = None


def stored_frames(model: str, spec: ModelSpec, extract: ExtractSpec) -> list[int | str]:
    """The layers of a model whose frames are stored; none of `a+b`."""
    if len(model_parts(model)) > 1:
        return []
    return list(extract.frames if spec.frames is None else spec.frames)


def stored_segments(model: str, spec: ModelSpec, extract: ExtractSpec) -> int | None:
    """Parts of every utterance whose means are stored of a model; None: none, as of `a+b`."""
    if len(model_parts(model)) > 1:
        return None
    return (extract.segments if spec.segments is None else spec.segments) or None


def concatenation_faults(
    models: Mapping[str, ModelSpec], heads: Mapping[str, HeadSpec]
) -> list[str]:
    """Faults of models `a+b`.

    Parameters
    ----------
    models : mapping
        Name -> its table; names with + are made of the others.
    heads : mapping
        As `features.recipe.heads.heads_of` gives them.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = []
    for name, spec in models.items():
        parts = model_parts(name)
        if len(parts) == 1:
            if spec.weights is not None:
                faults.append(f"[models.{name}] weights: go with models side by side, as in a+b")
            continue
        if not all(parts) or len(set(parts)) < len(parts):
            faults.append(f"models: '{name}': between + stand names of models, each once")
        if spec.model_copy(update={"weights": None}) != ModelSpec():
            faults.append(f"[models.{name}] it is made of others; give {parts[0]} and the like")
        if isinstance(spec.weights, list) and len(spec.weights) != len(parts):
            faults.append(
                f"[models.{name}] weights: got {len(spec.weights)}, one for each of {len(parts)} "
                "parts"
            )
        for head, settings in heads.items():
            if not settings.takes(name):
                continue
            own = [layer for layer in ("weighted", "best") if layer in settings.layers]
            if own:
                table = table_of(head)
                faults.append(f"[{table}] layer: {own} are of a single model; models has '{name}'")
    return faults
