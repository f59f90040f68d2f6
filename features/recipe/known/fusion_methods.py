"""The methods of `[fusion.NAME]`; `fusion.methods` and `fusion.stacking` do them."""

from __future__ import annotations

from dataclasses import dataclass

from features.recipe.known.records import CLASSIFICATION, TASKS, by_key

_CLASSES = (CLASSIFICATION,)


@dataclass(frozen=True)
class FusionMethod:
    """One way of making the predictions of several models one.

    Attributes
    ----------
    key : str
        What a recipe calls it.
    tasks : tuple of str
    gives : str
        What its class scores are: of `evaluate.metrics.calibration.KINDS`.
    learns : bool
        Whether it is fitted on the rows that a fusion may learn from (`weighted` where it is given
        no weights).
    calibrates : bool
        Whether a temperature a member changes what it gives.
    of_subsets : bool
        Whether subsets are searched by it: its winner is that of a sum over the members.
    """

    key: str
    tasks: tuple[str, ...]
    gives: str
    learns: bool = False
    calibrates: bool = True
    of_subsets: bool = False


FUSION_METHODS = by_key(
    [
        FusionMethod("mean", TASKS, "probability", of_subsets=True),
        FusionMethod("weighted", TASKS, "probability", learns=True),
        FusionMethod("median", TASKS, "probability"),
        FusionMethod("trimmed", TASKS, "probability"),
        FusionMethod("rank-mean", TASKS, "mean ranks", learns=True, calibrates=False),
        FusionMethod("product", _CLASSES, "probability"),
        FusionMethod("max", _CLASSES, "probability"),
        FusionMethod("logit-sum", _CLASSES, "score", of_subsets=True),
        FusionMethod("vote", _CLASSES, "votes", calibrates=False, of_subsets=True),
        FusionMethod("nnls", TASKS, "share", learns=True),
        FusionMethod("ridge", TASKS, "least-squares values", learns=True),
        FusionMethod("logistic", _CLASSES, "score", learns=True),
    ]
)
SUBSET_METHODS = tuple(key for key, method in FUSION_METHODS.items() if method.of_subsets)
