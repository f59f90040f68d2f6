"""Where published figures stand, and where they do not."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evaluate import published, score
from features.recipe import Recipe
from features.utterances import Finding, Table
from tests.evaluate import made

EMOTIONS = ("Anger", "Boredom")


def challenge(tmp_path: Path, models: list[str], **head: object) -> tuple[Recipe, dict[str, Table]]:
    """A recipe on the challenge's corpus, and a table that says what the real one would."""
    made_recipe = made.recipe(tmp_path).model_copy(
        update={
            "corpora": {"hume-prosody": made.recipe(tmp_path).corpora["mine"]},
            "targets": EMOTIONS,
            "models": dict.fromkeys(models, next(iter(made.recipe(tmp_path).models.values()))),
        }
    )
    fusion = made_recipe.fusion["mean"].model_copy(update={"members": tuple(models)})
    made_recipe = made_recipe.model_copy(
        update={
            "fusion": {"mean": fusion},
            "head": made_recipe.head.model_copy(update=head),
            "split": made_recipe.split.model_copy(update={"outer": "predefined"}),
        }
    )
    about = {"reader": "hume-prosody", "published": True}
    return made_recipe, {"hume-prosody": Table(pd.DataFrame(), {}, EMOTIONS, [], about)}


def scored(kind: str, member: str, stale: bool = False) -> score.Scored:
    return score.Scored(kind, member, Path(), stale, {}, {})


def test_published_figures_stand_beside_the_published_procedure_alone(tmp_path: Path) -> None:
    nine = [name for name in published.PUBLISHED["nmse"] if name != "fusion"]
    assert len(nine) == 9
    recipe, tables = challenge(tmp_path, nine)
    assert published.published(recipe, scored("model", "xlsr-2b"), tables) == {"devel": 0.4813}
    assert published.published(recipe, scored("fusion", "mean"), tables) == {
        "devel": 0.5236,
        "test": 0.537,
    }
    other, _ = challenge(tmp_path, nine, select="nmae")
    assert published.published(other, scored("fusion", "mean"), tables) == {"devel": 0.5266}

    for one in (scored("model", "mfcc"), scored("model", "xlsr-2b", stale=True)):
        assert published.published(recipe, one, tables) == {}
    few, _ = challenge(tmp_path, nine[:3])
    assert published.published(few, scored("fusion", "mean"), tables) == {}
    for head in ({"kind": "ridge"}, {"select": "spearman"}, {"per_target": True}):
        changed, _ = challenge(tmp_path, nine, **head)
        assert published.published(changed, scored("model", "xlsr-2b"), tables) == {}
    assert published.published(recipe, scored("model", "xlsr-2b"), {}) == {}
    table = tables["hume-prosody"]
    table.findings.append(Finding("counts", 1, (), "counts differ from the published ones"))
    assert published.published(recipe, scored("model", "xlsr-2b"), tables) == {}
    table.findings.clear()
    table.corpus["published"] = False
    assert published.published(recipe, scored("model", "xlsr-2b"), tables) == {}
