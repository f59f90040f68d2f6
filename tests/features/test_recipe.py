"""Recipes: what a good one resolves to, and that every fault of a bad one is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.common.errors import RecipeError
from features.recipe.load import load_recipe
from features.recipe.model import Recipe

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.toml"))

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
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_load(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.models
    assert all(one.members for one in recipe.fusion.values())


def test_the_paper_s_ten_cells_nine_models_nine_targets() -> None:
    recipe = load_recipe(SHIPPED[0].parent / "emotion-share.toml")
    assert len(recipe.head.scalers) * len(recipe.head.grid["C"]) == 10
    assert len(recipe.models) == len(recipe.targets) == 9
    assert (recipe.split.outer, recipe.split.inner) == ("predefined", "devel")
    assert recipe.fusion["mean"].members == list(recipe.models)
    other = load_recipe(SHIPPED[0].parent / "emotion-share-nmae.toml")
    assert (recipe.head.select, other.head.select) == ("nmse", "nmae")


def test_defaults_and_resolved_form(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.task == "classification"
    assert recipe.extract.max_seconds == 60
    assert recipe.head.layers == ["last"]
    assert recipe.fusion["mean"].members == ["mfcc", "log-mel"]
    resolved = recipe.resolved()
    assert resolved["split"]["seed"] == 0
    assert resolved["evaluate"]["bootstrap"] == 1000


def test_the_command_line_restricts_and_wins(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(path, models=["mfcc"], overrides={"extract": {"precision": "bfloat16"}})
    assert list(recipe.models) == ["mfcc"]
    assert recipe.extract.precision == "bfloat16"
    assert recipe.fusion["mean"].members == ["mfcc", "log-mel"]  # a fusion is of all models
    with pytest.raises(RecipeError, match=r"MODEL=mfc: not in .*did you mean 'mfcc'\?"):
        load_recipe(path, models=["mfc"])
    with pytest.raises(RecipeError, match="CORPUS=iemocap: not in the recipe's list"):
        load_recipe(path, corpora=["iemocap"])


def test_default_members_are_at_the_recipe_s_layer(tmp_path: Path) -> None:
    def members(layer: str) -> list[str]:
        text = GOOD.replace("[head]", f"[head]\nlayer = {layer}")
        return load_recipe(write(tmp_path, text)).fusion["mean"].members

    assert members("6") == ["mfcc@6", "log-mel@6"]
    assert members('[3, 6, "last"]') == ["mfcc", "log-mel"]
    assert members('"6+12"') == ["mfcc@6+12", "log-mel@6+12"]
    with pytest.raises(RecipeError, match=r"name them, as in \[\"mfcc@3\", ...\]"):
        members("[3, 6]")


def test_models_and_corpora_as_tables_and_inline_tables(tmp_path: Path) -> None:
    text = GOOD.replace('["mfcc", "log-mel"]', '["mfcc", {name = "mine", path = "/w"}]')
    assert load_recipe(write(tmp_path, text)).models["mine"].path == "/w"
    text = (
        'target = "emotion"\n[models.mfcc]\n[models.mine]\nhub = "org/repo"\nrevision = "abc"\n'
        '[corpora.own]\nreader = "manifest"\nroot = "/x"\nfile = "list.csv"\n'
        '[head]\nkind = "svc"\nselect = "wa"\n'
    )
    recipe = load_recipe(write(tmp_path, text))
    assert list(recipe.models) == ["mfcc", "mine"]
    assert recipe.models["mine"].hub == "org/repo"
    assert recipe.corpora["own"].options == {"file": "list.csv"}


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    text = """
    corpora = ["emodbb"]
    models = ["mfcc", "mfcc"]
    target = "emotion"
    targets = ["recognised"]
    colour = 1
    [split]
    outer = "leave-one-speaker"
    seed = "0"
    [head]
    kind = "svcc"
    select = "uar"
    scaler = ["standard"]
    [fusion.mean]
    method = "mean"
    members = ["mfcc", "mfccs"]
    """
    path = write(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{path}: {len(lines) - 1} faults"
    for expected in (
        "colour: no such key",
        "corpora: 'emodbb' is no known corpus",
        "did you mean 'emodb'",
        "models: mfcc is named twice",
        "target, targets: give one of the two",
        "[split] outer: got 'leave-one-speaker', allowed: 'predefined'",
        "did you mean 'leave-one-speaker-out'",
        "[split] seed: got '0', allowed: integer",
        "[head] kind: got 'svcc'",
        "[head] scaler: no such key; did you mean 'scalers'",
        "[fusion.mean] members: 'mfccs' is no run of the recipe; did you mean 'mfcc'?",
    ):
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("svc", "linear-svr"), "[head] kind: got 'linear-svr', for classification: linear-svc"),
        (("uar", "nmse"), "[head] select: got 'nmse', for classification: uar, wa"),
        (('"emotion"', '"emotions"'), "target: emodb has no label set 'emotions'"),
        (
            ('[split]', '[split]\ninner = "devel"'),
            "[split] inner: 'devel' goes with outer = 'predefined'",
        ),
        (('[head]', '[head]\nlayer = -1'), "[head] layer: got -1"),
        (('[head]', '[head]\nlayer = "6+"'), "got '6+', allowed: an index from 0, 'last', 'mean'"),
        (('[head]', '[extract]\nlayers = [1]\n[head]\nlayer = "1+2"'), "[2] not among [extract]"),
        (('[head]', '[head]\nlayer = [3, 3]'), "a layer is named twice"),
        (('[head]', '[extract]\nlayers = [1]\n[head]\nlayer = 2'), "[2] not among [extract]"),
        (('[head]', '[head]\nper_target = true'), "per_target: goes with targets"),
        (('[head]', '[head]\ngrid = {C = [1.0]}\nfixed = {C = 1.0}'), "C: in grid and in fixed"),
        (('"mean"\n', '"mode"\n'), "[fusion.mean] method: got 'mode'"),
        (('[split]', 'labels = ["angry", "sadness"]\n[split]'), "labels: 'angry' is no emotion"),
        (('select = "uar"\n', ''), "[head] select: missing; allowed: uar, wa"),
        (('[head]', '[head]\nlayer = "1+1"'), "got '1+1', allowed: '6+12' (each layer once)"),
        (('kind = "svc"\n', ''), "kind: missing; allowed: linear-svc, svc, logistic"),
        (('["mfcc", "log-mel"]', '["a/b", "log-mel"]'), "'a/b' cannot name a folder"),
        (('["mfcc", "log-mel"]', '["report", "log-mel"]'), "'report' is a folder beside the runs"),
        (('models = ["mfcc", "log-mel"]', ''), "models: missing; give a list"),
        (('"mean"\n', '"trimmed"\n'), "'trimmed' leaves out 1 of 2 members at each end: none"),
        (('"mean"\n', '"weighted"\nweights = [1]\n'), "weights: got 1, one for each of 2 members"),
        (('"mean"\n', '"weighted"\nweights = [0, 0]\n'), "weights: all are 0"),
        (('"mean"\n', '"mean"\nweights = [1, 2]\n'), "weights: go with method = 'weighted'"),
        (('"mean"\n', '"mean"\ntrim = 1\n'), "trim: goes with method = 'trimmed'"),
        (('"mean"\n', '"vote"\ncalibrate = true\n'), "calibrate: changes nothing of 'vote'"),
        (('["mfcc", "log-mel"]', '["mfcc", "mfcc+mfcc"]'), "between + stand names of models, each"),
        (("[fusion.mean]", '[fusion."../x"]'), "fusion: '../x' cannot name a folder; no / \\ @"),
        (('[split]', 'split = 3\n[extract]'), "[split] got 3, expected a table"),
        (('["mfcc", "log-mel"]', '3'), "models: got 3, allowed: a list of keys, or [models.NAME]"),
        (('"log-mel"]', '4]'), "models: got 4, allowed: a key, or a table with a name"),
        (('"mean"\n', '"mean"\nmembers = ["mfcc", "mfcc"]\n'), "members: a run is named twice"),
        (
            ('target = "emotion"', 'targets = ["natural"]\nlabels = ["a", "b"]'),
            "labels: goes with target (classification)",
        ),
        (
            ('[split]', 'published = [5]\n[split]'),
            "published: got 5, allowed: a table [[published]]",
        ),
        (
            ('outer = "leave-one-speaker-out"',
             'outer = "cross-corpus"\npool = true\nwithin = "speaker-k-fold"'),
            "within: goes with single corpora that train",
        ),
    ],
)  # fmt: skip
def test_single_faults(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD.replace(*change, 1)))
    assert expected in str(caught.value)


@pytest.mark.parametrize("weights", ["size", [1, 2.5], [1e-6, 1e6]])
def test_weights_of_models_side_by_side(tmp_path: Path, weights: str | list[float]) -> None:
    listed = f'{{name = "mfcc+log-mel", weights = {weights!r}}}'
    recipe = load_recipe(write(tmp_path, GOOD.replace('"log-mel"]', f'"log-mel", {listed}]')))
    tables = f'[models.mfcc]\n[models.log-mel]\n[models."mfcc+log-mel"]\nweights = {weights!r}\n'
    text = GOOD.replace('models = ["mfcc", "log-mel"]', "").replace("[split]", f"{tables}[split]")
    assert load_recipe(write(tmp_path, text)).models == recipe.models
    assert recipe.weights_of("mfcc+log-mel") == weights
    assert recipe.weights_of("mfcc") is None
    assert recipe.resolved()["models"]["mfcc+log-mel"]["weights"] == weights
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe.single_models == ["mfcc", "log-mel"]


@pytest.mark.parametrize(
    "weights",
    ["[1, 0]", "[-1, 2]", "[1, nan]", "[inf, 1]", "[1e7, 1]", f"[1, {10**400}]", "[true, 1]",
     '["1", 1]', '"sizes"', "2", "{}"],
)  # fmt: skip
def test_weights_that_are_none(tmp_path: Path, weights: str) -> None:
    models = f'["mfcc", "log-mel", {{name = "mfcc+log-mel", weights = {weights}}}]'
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD.replace('["mfcc", "log-mel"]', models)))
    assert len(str(caught.value).split("\n")) == 2
    assert "[models.mfcc+log-mel] weights: got " in str(caught.value)
    allowed = "allowed: 'size', or one number from 1e-06 to 1e+06 for each part"
    assert str(caught.value).endswith(allowed)


def test_all_faults_of_weights_are_reported_at_once(tmp_path: Path) -> None:
    models = """[
      {name = "mfcc", weights = [1]}, {name = "log-mel", weights = "size"},
      {name = "mfcc+log-mel", weights = [1, 2, 3], path = "here"},
      {name = "mfcc+egemaps", weights = []},
    ]"""
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD.replace('["mfcc", "log-mel"]', models)))
    assert str(caught.value).split("\n")[1:] == [
        "  [models.mfcc] weights: go with models side by side, as in a+b",
        "  [models.log-mel] weights: go with models side by side, as in a+b",
        "  [models.mfcc+log-mel] it is made of others; give mfcc and the like",
        "  [models.mfcc+log-mel] weights: got 3, one for each of 2 parts",
        "  [models.mfcc+egemaps] weights: got 0, one for each of 2 parts",
    ]


def test_layers_that_are_learned_are_of_single_models(tmp_path: Path) -> None:
    text = GOOD.replace('"log-mel"]', '"mfcc+log-mel"]').replace("[head]", '[head]\nlayer = "best"')
    with pytest.raises(RecipeError, match=r"layer: \['best'\] are of a single model; models has"):
        load_recipe(write(tmp_path, text))


def test_vote_of_regressions_is_impossible(tmp_path: Path) -> None:
    text = GOOD.replace('target = "emotion"', 'targets = ["natural"]').replace("svc", "svr")
    text = text.replace('"uar"', '"nmse"').replace('method = "mean"', 'method = "vote"')
    with pytest.raises(RecipeError, match="'vote' needs classes"):
        load_recipe(write(tmp_path, text))


def test_stratified_splits_need_classes(tmp_path: Path) -> None:
    text = GOOD.replace('target = "emotion"', 'targets = ["natural"]').replace("svc", "svr")
    text = text.replace('"uar"', '"nmse"').replace("leave-one-speaker-out", "stratified-holdout")
    with pytest.raises(RecipeError, match="outer: 'stratified-holdout' needs classes"):
        load_recipe(write(tmp_path, text))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(RecipeError, match=r"toi.toml: no such recipe; did you mean 'toy.toml'\?"):
        load_recipe(tmp_path / "toi.toml")
    with pytest.raises(RecipeError, match="not valid TOML: Invalid value"):
        load_recipe(write(tmp_path, "corpora = ["))
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5_000 + "]" * 5_000,
        "x = " + "{a = " * 5_000 + "1" + "}" * 5_000,
        ".".join(["x"] * 100_000) + " = 1",
        "x = {" + ".".join(["x"] * 100_000) + " = 1}",
    ],
    ids=["arrays", "tables", "key", "inline key"],
)
def test_nesting_without_end(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"toy.toml: not valid TOML: nested too deeply"):
        load_recipe(write(tmp_path, text))


def test_a_number_beyond_all_measure(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not valid TOML: Exceeds the limit"):
        load_recipe(write(tmp_path, GOOD.replace("[split]", f"x = {'9' * 5_000}\n[split]")))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert list(load_recipe(write(tmp_path, "\ufeff" + GOOD)).models) == ["mfcc", "log-mel"]


def test_a_recipe_below_a_file(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(RecipeError, match="cannot be read: Not a directory"):
        load_recipe(tmp_path / "toy.toml" / "x.toml")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ('outer = "speaker-k-fold"\ndevel_size = 0.2', "devel_size: goes with outer = 'stratified"),
        ('outer = "stratified-holdout"\ndevel_size = 0.8', "nothing is left to train"),
        ('outer = "stratified-holdout"\ninner = "devel"', "'stratified-holdout' with a devel_size"),
        ('outer = "emobox"', 'emobox: missing; the folder of a copy'),
        ('outer = "cross-corpus"', "'cross-corpus' needs two or more, got"),
        ('outer = "cross-corpus"\ntrain = ["emodv"]', "'emodv' is no corpus.*did you mean 'emodb'"),
        ('outer = "speaker-k-fold"\npool = true', "pool: goes with outer = 'cross-corpus'"),
        ('outer = "four-to-one-in-five"\ninner_folds = 4', "has inner_folds = 5, got 4"),
        ('expect_overlap = ["speakers"]', "expect_overlap"),
    ],
)  # fmt: skip
def test_faulty_protocols(tmp_path: Path, split: str, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        f'corpora = ["emodb"]\nmodels = ["mfcc"]\ntarget = "emotion"\n[split]\n{split}\n'
        '[head]\nkind = "svc"\nselect = "uar"\n'
    )
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def mapped(tmp_path: Path, labels: str, corpora: str = '["emodb", "crema-d"]') -> Recipe:
    path = tmp_path / "r.toml"
    path.write_text(
        f'corpora = {corpora}\nmodels = ["mfcc"]\ntarget = "emotion"\n{labels}\n'
        '[split]\nouter = "cross-corpus"\n[head]\nkind = "svc"\nselect = "uar"\n'
    )
    return load_recipe(path)


def test_label_maps_by_name_and_by_table(tmp_path: Path) -> None:
    named = mapped(tmp_path, '[labels]\nmap = "four-class"')
    assert named.labels == ("angry", "happy", "neutral", "sad")
    assert named.label_maps["emodb"]["happiness"] == "happy"
    assert named.label_maps["crema-d"]["anger"] == "angry"
    both = '[labels]\norder = ["sad", "angry"]\n[labels.map]\ncrema-d = "four-class"\n'
    table = mapped(tmp_path, both + '[labels.map.emodb]\nsadness = "sad"\nanger = "angry"')
    assert table.labels == ("sad", "angry")
    assert table.label_maps["emodb"] == {"sadness": "sad", "anger": "angry"}
    assert named.split.outer == "cross-corpus"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ('[labels]\nmap = "four-clas"', "emodb has no map 'four-clas'.*did you mean 'four-class'"),
        ('[labels.map.emodb]\nanger = "angry"', r"\[labels.map\] crema-d: missing"),
        ('[labels.map.emodv]\nanger = "angry"', "emodv: no corpus.*did you mean 'emodb'"),
        ('[labels.map]\ncrema-d = "four-class"\n[labels.map.emodb]\nangre = "angry"',
         r"\[labels.map.emodb\] 'angre' is no emotion of emodb.*did you mean 'anger'"),
        ('[labels]\nmap = "four-class"\norder = ["sad", "angri"]', "'angri' is no label of the"),
        ('[labels]\norder = ["sad", "angry"]', r"\[labels\] map: missing"),
    ],
)  # fmt: skip
def test_faulty_label_maps(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        mapped(tmp_path, labels)


def protocols(tmp_path: Path, split: str) -> Recipe:
    path = tmp_path / "r.toml"
    path.write_text(
        'corpora = ["emodb"]\nmodels = ["mfcc"]\ntarget = "emotion"\n[split]\n'
        f'outer = "leave-one-speaker-out"\n{split}\n[head]\nkind = "svc"\nselect = "uar"\n'
    )
    return load_recipe(path)


def test_protocols_beside_the_main_one(tmp_path: Path) -> None:
    split = """
    seed = 4
    inner_folds = 3
    expect_overlap = ["speaker"]
    also = [
        "stratified-holdout",
        { outer = "stratified-holdout", name = "half", test_size = 0.5, seed = 5 },
        "four-to-one-in-five",
    ]
    """
    main, holdout, half, five = protocols(tmp_path, split).protocols()
    assert [one.name for one in (main, holdout, half, five)] == [
        "r",
        "r/protocols/stratified-holdout",
        "r/protocols/half",
        "r/protocols/four-to-one-in-five",
    ]
    assert [holdout.split.seed, holdout.split.inner_folds, holdout.split.test_size] == [4, 3, 0.2]
    assert [half.split.seed, half.split.test_size] == [5, 0.5]
    assert [five.split.seed, five.split.inner, five.split.inner_folds] == [
        4,
        "stratified-k-fold",
        5,
    ]
    assert holdout.split.expect_overlap == ["speaker"]
    assert "also" not in main.split.settings()


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ('["stratified-hold"]', "also, stratified-hold: outer: got 'stratified-hold'"),
        ('["speaker-k-fold", "speaker-k-fold"]', "speaker-k-fold is named twice"),
        ('["cross-corpus"]', "needs two or more"),
        ('[{ outer = "speaker-k-fold", devel_size = 0.2 }]', "speaker-k-fold: devel_size: goes"),
        ('[{ outer = "speaker-k-fold", name = "a/b" }]', "a name for a folder"),
        ('[{ outer = "speaker-k-fold", also = ["predefined"] }]', "list them all in"),
        ('["leave-one-speaker-out"]', "leave-one-speaker-out is the main protocol again; leave it"),
        ('[{ outer = "leave-one-speaker-out", name = "x", expect_overlap = ["audio"] }]',
         "also: x is the main protocol again"),
        ('["speaker-k-fold", { outer = "speaker-k-fold", name = "y" }]',
         "also: y is speaker-k-fold again"),
        ('[{ outer = "speaker-k-fold", fold = 2 }]', "fold: no such key"),
    ],
)  # fmt: skip
def test_faulty_protocols_beside(tmp_path: Path, also: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        protocols(tmp_path, f"also = {also}")


def test_repeats_take_all_of_the_split_and_their_seeds(tmp_path: Path) -> None:
    split = """
    inner_folds = 3
    expect_overlap = ["speaker"]
    also = ["stratified-holdout"]
    seeds = [7, 8]
    """
    recipe = protocols(tmp_path, split)
    names = ["r", *(f"r/protocols/{one}" for one in ("stratified-holdout", "seed-7", "seed-8"))]
    assert [one.name for one in recipe.protocols()] == names
    seven = recipe.repeats()[7]
    assert seven.split.settings() == {**recipe.split.settings(), "seed": 7, "shuffle": True}
    assert seven.head == recipe.head.model_copy(update={"random_state": 7})
    assert seven.fusion == recipe.fusion
    assert seven.protocols() == [seven]
    assert "seeds" not in recipe.split.settings()


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("seeds = [1]", r"seeds: got \[1\], allowed: two or more"),
        ("seeds = [1, 2, 1]", "two or more, each once"),
        ("seeds = [-1, 2]", "seeds: got -1"),
        ('inner = "stratified-k-fold"\nshuffle = true', "shuffle: goes with folds of groups"),
        ('seeds = [1, 2]\nalso = [{ outer = "speaker-k-fold", name = "seed-2" }]',
         "seed-2 is the name of a repeat"),
        ('also = [{ outer = "speaker-k-fold", seeds = [1, 2] }]', "has seeds; list them all in"),
    ],
)  # fmt: skip
def test_faulty_seeds(tmp_path: Path, split: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        protocols(tmp_path, split)


@pytest.mark.parametrize(
    ("head", "repeats"),
    [
        ('kind = "svc"', False),
        ('kind = "linear-svc"', False),
        ('kind = "linear-svc"\nengine = "sklearn"', True),
        ('kind = "linear-svc"\nengine = "sklearn"\nfixed = { dual = false }', False),
        ('kind = "logistic"', False),
        ('kind = "logistic"\ngrid = { solver = ["lbfgs", "saga"] }', True),
    ],
)
def test_seeds_that_change_nothing_are_a_fault(tmp_path: Path, head: str, repeats: bool) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'corpora = ["emodb"]\nmodels = ["mfcc"]\ntarget = "emotion"\n[split]\ninner = "devel"\n'
        f'seeds = [1, 2]\n[head]\nselect = "uar"\n{head}\n'
    )
    if repeats:
        assert list(load_recipe(path).repeats()) == [1, 2]
    else:
        with pytest.raises(RecipeError, match="seeds: they change nothing: outer = 'predefined'"):
            load_recipe(path)


def test_subsets_have_a_table_of_their_own(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD + "\n[fusion.subsets]\n"))
    assert recipe.subsets is not None
    assert list(recipe.fusion) == ["mean"]
    assert recipe.subsets.members == ["mfcc", "log-mel"]
    assert recipe.subsets.metrics == ["uar", "wa"]
    assert recipe.subsets.sizes == [1, 2]
    assert load_recipe(write(tmp_path, GOOD)).subsets is None
    text = GOOD + "\n[fusion.subsets]\nk = [2, 1, 2]\nmetrics = ['wa']\n"
    spec = load_recipe(write(tmp_path, text)).subsets
    assert spec is not None
    assert (spec.sizes, spec.metrics) == ([1, 2], ["wa"])


def test_faults_of_subsets_are_reported_together(tmp_path: Path) -> None:
    table = """
    [fusion.subsets]
    k = [2, 3]
    methods = ["mean", "mean"]
    metrics = ["spearman"]
    members = ["mfcc", "log-mell"]
    """
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD + table))
    for fault in (
        r"[fusion.subsets] k: got 3, there are 2 members",
        r"[fusion.subsets] methods: got ['mean', 'mean'], one is named twice",
        r"[fusion.subsets] metrics: got 'spearman', for classification: uar, wa",
        r"[fusion.subsets] members: 'log-mell' is no run of the recipe; did you mean 'log-mel'",
    ):
        assert fault in str(caught.value)
    for table, fault in (
        ("k = 'every'", r"\[fusion.subsets\] k: got 'every', allowed: 'all', or "),
        (
            "k = [0]",
            r"\[fusion.subsets\] k: got \[0\], allowed: 'all', or greater than or equal to 1",
        ),
        ("method = 'mean'", r"\[fusion.subsets\] method: no such key; did you mean 'methods'"),
        ("methods = []", r"\[fusion.subsets\] methods: got \[\]"),
    ):
        with pytest.raises(RecipeError, match=fault):
            load_recipe(write(tmp_path, f"{GOOD}\n[fusion.subsets]\n{table}\n"))
    with pytest.raises(RecipeError, match=r"\[fusion\] subsets: got 3, allowed: a table"):
        load_recipe(write(tmp_path, GOOD + "\n[fusion]\nsubsets = 3\n"))
    regression = GOOD.replace('target = "emotion"', 'targets = ["arousal"]')
    with pytest.raises(RecipeError, match="methods: 'vote' needs classes; use 'mean'"):
        load_recipe(write(tmp_path, regression + "\n[fusion.subsets]\nmethods = ['vote']\n"))


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("corpora", '[corpora.mine]\nreader = "manifest"'),
        ("models", '[models."mine"]\npath = "/weights"'),
        ("models", "[ models . mine ]"),
        ("corpora", "[corpora.mine.labels]\nmood = 1"),
    ],
)
def test_a_list_with_tables_beside_it(tmp_path: Path, key: str, table: str) -> None:
    with pytest.raises(
        RecipeError,
        match=rf"toy.toml: {key} is a list and has \[{key}.mine\] beside it; .* leave the list out "
        r".* or write \{name = 'mine', \.\.\.\} into the list$",
    ):
        load_recipe(write(tmp_path, f"{GOOD}{table}\n"))


def test_both_ways_of_writing_members_are_the_same(tmp_path: Path) -> None:
    own = 'reader = "manifest"'
    inline = GOOD.replace('["emodb"]', f'["emodb", {{name = "mine", {own}}}]')
    tables = GOOD.replace('corpora = ["emodb"]', "") + f"[corpora.emodb]\n[corpora.mine]\n{own}\n"
    assert load_recipe(write(tmp_path, inline)) == load_recipe(write(tmp_path, tables))


def test_the_engine_of_an_extraction_is_recorded_where_it_was_chosen(tmp_path: Path) -> None:
    plain = load_recipe(write(tmp_path, GOOD))
    assert plain.extract.engine == "auto"
    assert "engine" not in plain.resolved()["extract"]
    chosen = load_recipe(write(tmp_path, f'{GOOD}\n[extract]\nengine = "reference"\n'))
    assert chosen.resolved()["extract"]["engine"] == "reference"
    with pytest.raises(RecipeError, match="engine"):
        load_recipe(write(tmp_path, f'{GOOD}\n[extract]\nengine = "other"\n'))


def test_what_is_shown_goes_with_the_task(tmp_path: Path) -> None:
    plain = load_recipe(write(tmp_path, GOOD))
    assert plain.shown == ("uar", "wa")
    assert "show" not in plain.resolved()["evaluate"]
    other = load_recipe(write(tmp_path, GOOD), settings=["evaluate.show=[macro-f1, wa]"])
    assert other.shown == ("macro_f1", "wa")
    assert other.resolved()["evaluate"]["show"] == ["macro-f1", "wa"]
    for given, fault in (
        ("[ccc]", r"\[evaluate\] show: got 'ccc', for classification: uar, wa, macro-f1"),
        ("[mse]", r"\[evaluate\] show: got 'mse', allowed: uar, wa, macro-f1"),
        ("[uar, uar]", r"\[evaluate\] show: got .*, one is named twice"),
    ):
        with pytest.raises(RecipeError, match=fault):
            load_recipe(write(tmp_path, GOOD), settings=[f"evaluate.show={given}"])


def test_the_default_metrics_of_subsets_stay_what_they_were(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD + "\n[fusion.subsets]\n"))
    assert recipe.subsets is not None
    assert recipe.subsets.metrics == ["uar", "wa"]


def test_a_recipe_cut_to_one_model_goes_without_its_fusions(tmp_path: Path) -> None:
    text = GOOD.replace('["mfcc", "log-mel"]', '["mfcc"]') + "\n[fusion.subsets]\nk = [1]\n"
    recipe = load_recipe(write(tmp_path, text))
    assert (recipe.fusion, recipe.subsets) == ({}, None)
    assert recipe.notes == [
        f"[fusion.{name}] is left out: the recipe has one model, mfcc, and a fusion takes two or "
        "more"
        for name in ("mean", "subsets")
    ]


def test_a_fusion_that_is_left_out_is_read_all_the_same(tmp_path: Path) -> None:
    text = GOOD.replace('["mfcc", "log-mel"]', '["mfcc"]').replace('"mean"\n', '"mode"\n')
    with pytest.raises(RecipeError, match=r"1 fault\n  \[fusion.mean\] method: got 'mode'"):
        load_recipe(write(tmp_path, text))


def test_members_that_are_named_are_not_left_out(tmp_path: Path) -> None:
    text = GOOD.replace('["mfcc", "log-mel"]', '["mfcc"]')
    text = text.replace("[fusion.mean]", '[fusion.mean]\nmembers = ["mfcc", "log-mel"]')
    with pytest.raises(RecipeError, match="'log-mel' is no run of the recipe"):
        load_recipe(write(tmp_path, text))
