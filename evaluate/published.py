"""Published figures, and where they may stand beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evaluate.score import Scored
from features.utterances import Table

if TYPE_CHECKING:
    from features.recipe import Recipe

# Atmaja and Sasou (2023), Tables IV (devel) and V (test): mean of Spearman's rho over nine targets,
# by the score that chose the head.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "nmse": {
        "wav2vec": {"devel": 0.5022},
        "xlsr-53": {"devel": 0.4328},
        "xlsr-53-en": {"devel": 0.4732},
        "xlsr-53-sp": {"devel": 0.4687},
        "xlsr-300m": {"devel": 0.4555},
        "xlsr-1b": {"devel": 0.4694},
        "xlsr-1b-en": {"devel": 0.4559},
        "xlsr-1b-sp": {"devel": 0.4451},
        "xlsr-2b": {"devel": 0.4813},
        "fusion": {"devel": 0.5236, "test": 0.537},
    },
    "nmae": {
        "wav2vec": {"devel": 0.5001},
        "xlsr-53": {"devel": 0.4341},
        "xlsr-53-en": {"devel": 0.4739},
        "xlsr-53-sp": {"devel": 0.4691},
        "xlsr-300m": {"devel": 0.4561},
        "xlsr-1b": {"devel": 0.4679},
        "xlsr-1b-en": {"devel": 0.4533},
        "xlsr-1b-sp": {"devel": 0.4440},
        "xlsr-2b": {"devel": 0.4835},
        "fusion": {"devel": 0.5266},
    },
}


def published(recipe: Recipe, one: Scored, tables: Mapping[str, Table]) -> dict[str, float]:
    """Published figures to stand beside a run: `{partition: figure}`.

    Only for the published procedure on a corpus with the published counts.
    """
    if len(recipe.corpora) != 1 or one.stale or set(tables) != set(recipe.corpora):
        return {}
    (table,) = tables.values()
    counts_differ = any(finding.kind == "counts" for finding in table.findings)
    figures = PUBLISHED.get(recipe.head.select, {})
    models = set(figures) - {"fusion"}
    if (
        table.corpus.get("reader") != "hume-prosody"
        or not table.corpus.get("published")
        or counts_differ
        or recipe.head.kind != "linear-svr"
        or recipe.head.per_target
        or recipe.head.standardise
        or recipe.split.outer != "predefined"
        or set(recipe.targets) != set(table.targets)
    ):
        return {}
    if one.kind == "model":
        return figures.get(one.member, {})
    fusion = recipe.fusion[one.member]
    whole = fusion.method == "mean" and set(fusion.members) == models
    return figures.get("fusion", {}) if whole else {}
