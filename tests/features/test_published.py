"""Tables of papers in a recipe: faults of the schema, and the figures that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.common.errors import RecipeError
from features.recipe.load import load_recipe
from features.recipe.published import PublishedTable, setting, unlike

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
GOOD = """
corpora = ["emodb"]
models = ["mfcc", "log-mel"]
target = "emotion"
[split]
outer = "leave-one-speaker-out"
[head]
kind = "svc"
select = "uar"
[fusion.mean]
method = "mean"
[fusion.subsets]
k = [1, 2]
[[published]]
name = "table-1"
title = "Table 1"
source = "Someone"
heading = "system"
needs = { "head.select" = "uar" }
columns = [
    { name = "UAR", metric = "uar" },
    { name = "theirs", ours = false },
]
rows = [
    { name = "MFCC", run = "mfcc", figures = [0.5, "-"] },
    { name = "fused", run = "fusion/mean", metric = "wa", figures = [0.6, 0.7] },
    { name = "best", k = 2, figures = ["-", 1] },
    { name = "mean", statistic = "mean", figures = ["-", 1] },
    { name = "baseline", figures = [0.4, 0.3] },
]
"""


def write(folder: Path, text: str, name: str = "toy") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def shipped(name: str) -> dict[str, PublishedTable]:
    return {one.name: one for one in load_recipe(RECIPES / f"{name}.toml").published}


def figures(table: PublishedTable) -> dict[str, list[float | str]]:
    return {row.name: row.figures for row in table.rows}


def test_rows_go_before_columns_and_columns_before_the_table(tmp_path: Path) -> None:
    (table,) = load_recipe(write(tmp_path, GOOD)).published
    found = {
        (column.name, row.name): (place.run, place.k, place.statistic, place.metric)
        for column, row, place in table.places()
    }
    assert found == {
        ("UAR", "MFCC"): ("mfcc", None, None, "uar"),
        ("UAR", "fused"): ("fusion/mean", None, None, "wa"),
        ("UAR", "best"): (None, 2, None, "uar"),
        ("UAR", "mean"): (None, None, "mean", "uar"),
    }
    assert {place.partition for _, _, place in table.places()} == {"test"}
    of_all = GOOD.replace('heading = "system"', 'heading = "system"\nrun = "log-mel"')
    (table,) = load_recipe(write(tmp_path, of_all)).published
    runs = [place.run for _, _, place in table.places()]
    assert runs == ["mfcc", "fusion/mean", None, None, "log-mel"]


def test_no_number_depends_on_the_tables(tmp_path: Path) -> None:
    with_tables = load_recipe(write(tmp_path, GOOD))
    without = load_recipe(write(tmp_path, GOOD.partition("[[published]]")[0]))
    assert with_tables.resolved() == without.resolved()
    assert with_tables.published
    assert not without.published


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('name = "table-1"', 'name = "../x"'), "[[published]] ../x: name: got '../x', allowed:"),
        (('title = "Table 1"\n', ""), "[[published]] table-1: title: missing"),
        (('heading =', 'headline ='), "headline: no such key; did you mean 'heading'?"),
        (('"mfcc", figures', '"mfc", figures'),
         "[[published]] table-1: MFCC: run: 'mfc' is no run of the recipe; did you mean 'mfcc'?"),
        (("fusion/mean", "fusion/median"), "did you mean 'fusion/mean'?"),
        (("[0.5, \"-\"]", "[0.5]"), "MFCC: 1 figures for 2 columns"),
        (("[0.5, \"-\"]", "[0.5, nan]"), "rows, MFCC: figures: got nan"),
        (("[0.5, \"-\"]", '[0.5, "x"]'), "figures: got 'x', allowed:"),
        (("k = 2,", "k = 3,"), "best: k: got 3, [fusion.subsets] has 1, 2"),
        (("k = 2,", "k = 2, statistic = 'mean',"), "best: statistic and k: give one of them"),
        (("k = 2,", "k = 2, corpus = 'emo',"), "'emo' is no corpus of the recipe; did you mean"),
        (("k = 2,", "k = 2, target = 'sad',"), "best: target: goes with a run"),
        (('metric = "wa"', 'metric = "spearman"'), "'spearman' is no metric of this task (uar"),
        (('metric = "wa"', 'metric = "uas"'), "rows, fused: metric: got 'uas', allowed: 'sp"),
        (('"head.select" =', '"head.selects" ='),
         "needs: 'head.selects' is no setting of the recipe; did you mean 'select'"),
        (("[fusion.subsets]\nk = [1, 2]\n", ""), "best: k: needs [fusion.subsets]"),
        (("[[published]]", "[published]"), "published: got {"),
        (('corpora =', 'published = "nobody"\ncorpora ='), "toy.toml: not valid TOML"),
        (('name = "UAR"', 'name = "UAR", recipe = "../x"'), "columns, UAR: recipe: got '../x'"),
        (("rows = [", "rows = 3\nrest = ["), "table-1: rows: got 3, allowed: list"),
    ],
)  # fmt: skip
def test_single_faults(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD.replace(*change, 1)))
    assert expected in str(caught.value)


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('"mfcc", figures', '"mfc", figures').replace("k = 2,", "k = 9,")
    text = text.replace('outer = "leave-one-speaker-out"', 'outer = "leave-one-speeker-out"')
    with pytest.raises(RecipeError, match="3 faults") as caught:
        load_recipe(write(tmp_path, text))
    for expected in ("[split] outer", "MFCC: run: 'mfc'", "best: k: got 9"):
        assert expected in str(caught.value)


def test_two_tables_of_one_name(tmp_path: Path) -> None:
    table = GOOD[GOOD.index("[[published]]") :]
    with pytest.raises(RecipeError, match=r"\[\[published\]\] table-1: a table of this name is"):
        load_recipe(write(tmp_path, GOOD + table))


def test_a_corpus_of_several_needs_its_own_search(tmp_path: Path) -> None:
    text = GOOD.replace('corpora = ["emodb"]', 'corpora = ["emodb", "turev-db"]')
    text = text.replace('target = "emotion"', 'target = "emotion"\nlabels.map = "four-class"')
    text = text.replace("k = 2,", 'k = 2, corpus = "emodb",')
    with pytest.raises(RecipeError, match=r"k, corpus: needs alone = true in \[fusion.subsets\]"):
        load_recipe(write(tmp_path, text))


def test_tables_of_the_recipe_beside(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    other = GOOD.partition("[[published]]")[0]
    beside = write(tmp_path, 'published = "toy"\n' + other, "beside")
    assert load_recipe(beside).published == load_recipe(tmp_path / "toy.toml").published
    for name, expected in (
        ("toi", r"published: .*toi.toml: no such recipe; did you mean 'toy.toml'"),
        ("beside", r"published: beside.toml has none of its own"),
        ("../toy", r"published: '../toy' cannot name a recipe"),
    ):
        path = write(
            tmp_path, f'published = "{name}"\n' + other, "third" if name != "beside" else name
        )
        with pytest.raises(RecipeError, match=expected):
            load_recipe(path)


def test_settings_that_are_not_as_needed() -> None:
    values = {"head": {"standardise": None, "grid": {"C": [1.0, 0.1]}}, "corpora": {"a": {}}}
    assert setting(values, "head.grid.C") == [1.0, 0.1]
    needs = {"head.standardise": False, "head.grid.C": [0.1, 1], "corpora": ["a"]}
    assert unlike(values, needs) == []
    assert unlike(values, {"corpora": ["a", "b"]}) == ["corpora is ['a'], not ['a', 'b']"]
    assert unlike(values, {"head.grid.C": [0.1]}) == ["head.grid.C is [1.0, 0.1], not [0.1]"]
    assert unlike(values, {"head.layer": "last"}) == ["head.layer is not there"]
    with pytest.raises(KeyError, match="'head.grids' is no setting of the recipe; did you mean"):
        setting(values, "head.grids")


# -- what is shipped -------------------------------------------------------------------------


def test_the_figures_of_the_emotion_shares() -> None:
    tables = shipped("emotion-share")
    assert tables == shipped("emotion-share-nmae")
    four = figures(tables["table-iv"])
    assert len(four) == 10
    assert four["wav2vec 2.0"] == [0.5022, 0.5001]
    assert four["XLSR-1B SP"] == [0.4451, 0.4440]
    assert four["fusion of all nine"] == [0.5236, 0.5266]
    assert sum(one[0] for one in list(four.values())[:9]) == pytest.approx(4.1841)
    assert sum(one[1] for one in list(four.values())[:9]) == pytest.approx(4.1820)
    assert [place.run for _, _, place in tables["table-iv"].places()][::2] == [
        *load_recipe(RECIPES / "emotion-share.toml").models,
        "fusion/mean",
    ]
    five = figures(tables["table-v"])
    assert five["late fusion of the four"] == [0.470, 0.476]
    assert five["fusion of all nine"] == [0.524, 0.537]
    six = figures(tables["table-vi"])
    assert list(six) == list(load_recipe(RECIPES / "emotion-share.toml").targets)
    # The mean of the nine emotions is the 0.537 of Table V.
    assert sum(one for (one,) in six.values()) / 9 == pytest.approx(0.537, abs=5e-4)


def test_the_figures_of_the_votes() -> None:
    tables = shipped("ravdess-vote")
    assert [one for (one,) in figures(tables["table-4"]).values()] == [
        0.90, 0.93, 0.92, 0.90, 0.91, 0.92, 0.9688, 0.9653,
    ]  # fmt: skip
    # 279 and 278 of 288 files.
    votes = [one for (one,) in figures(tables["table-3"]).values()]
    assert votes[:2] == [round(279 / 288, 4), round(278 / 288, 4)]
    recipe = load_recipe(RECIPES / "ravdess-vote.toml")
    left_out = set(recipe.models) - set(recipe.fusion["vote-of-five"].members)
    assert left_out == {"wav2vec2-large"}
    assert len(recipe.fusion["vote-of-three"].members) == 3


def test_the_figures_of_two_corpora() -> None:
    """To two decimals: the copy that they are of has misread digits."""
    recipe = load_recipe(RECIPES / "iemocap-jtes.toml")
    tables = {one.name: one for one in recipe.published}
    assert list(tables) == ["table-2", "table-3", "table-4", "table-5", "table-6"]
    for name in ("table-2", "table-3"):
        rows = [row.figures for row in tables[name].rows]
        for block in (rows[:5], rows[5:]) if name == "table-3" else (rows,):
            for mean, deviation, largest, least, late in zip(*block, strict=True):
                assert least < mean < largest <= late
                assert 2 * deviation < largest - least < 5 * deviation
    assert [round(one, 2) for one in tables["table-3"].rows[4].figures] == [0.77, 0.77, 0.77]
    assert figures(tables["table-6"])["late combination (max 30C9)"] == [0.7845, 0.7769]
    ours = {column.name for column, _, _ in tables["table-3"].places()}
    assert ours == {"vanilla"}
    assert not list(tables["table-4"].places())
    assert len(recipe.subsets.members) == 10
    assert set(recipe.fusion["late"].members) == set(recipe.subsets.members)
    side_by_side = next(place.run for _, _, place in tables["table-5"].places())
    assert side_by_side.partition("@")[2].split("+") == ["6", "12", "18", "24"]
    layers = [one.partition("@")[2] or "24" for one in recipe.fusion["late-four"].members]
    assert layers == ["6", "12", "18", "24"]
