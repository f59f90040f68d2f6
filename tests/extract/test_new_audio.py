"""`python -m extract --audio`: files of no corpus, cached; and from there to predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from extract.__main__ import main, parser
from features.common.command import run_chosen
from features.common.errors import ModelError, UserError
from features.common.folders import Folders
from features.matrix import load_matrix
from features.new_audio import corpus_name
from features.recipe.load import load_recipe
from features.stores.read import Store
from features.stores.write import write_store
from fusion.__main__ import parser as fused
from models.__main__ import parser as heads
from models.outputs import load_head
from models.single import apply
from models.train import Training
from tests.extract.test_run import extract  # noqa: F401
from tests.models import synthetic


@pytest.fixture
def study(extract, tmp_path: Path, make_corpus) -> Path:  # noqa: F811
    """A recipe of the trained models mfcc and log-mel; `tmp_path/new` holds other audio."""
    fusion = '[fusion.both]\nmethod = "mean"'
    assert extract(models='["mfcc", "log-mel"]', extra=fusion)[0] == 0
    recipe = load_recipe(tmp_path / "tones.toml")
    for model in recipe.models:
        synthetic.train(
            recipe,
            model,
            folders=Folders(stores=tmp_path / "stores", runs=tmp_path / "runs"),
            jobs=1,
        )
    (tmp_path / "new").mkdir()
    for name in ("u01", "u07"):
        source = tmp_path / "data/tones" / f"{name}.wav"
        (tmp_path / "new" / f"as-{name}.wav").write_bytes(source.read_bytes())
    return Path(recipe.path)


def take(recipe: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    words = [str(recipe), "--stores", str(recipe.parent / "stores"), "--jobs", "1", *more]
    capsys.readouterr()
    args = parser().parse_args([*words, "--audio", str(recipe.parent / "new")])
    return main(args), "".join(capsys.readouterr())


def test_from_audio_to_the_table(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = take(study, capsys)
    corpus = corpus_name([str(tmp_path / "new")])
    assert code == 0
    for model in ("mfcc", "log-mel"):
        assert f"{corpus}/{model}: 2 computed, 0 cached" in text
    words = [str(study), "--stores", str(tmp_path / "stores"), "--runs", str(tmp_path / "runs")]
    audio = ["--audio", str(tmp_path / "new")]
    run_chosen(heads().parse_args(["predict", *words, *audio]))
    assert run_chosen(fused().parse_args(["predict", *words, *audio])) == 0
    found = pd.read_csv(tmp_path / "runs/tones/predict" / corpus / "both.csv")
    assert found["path"].tolist() == [str(tmp_path / f"new/as-u{i}.wav") for i in ("01", "07")]
    # The same audio under its name in the corpus has the same features, and so the same scores.
    matrix = load_matrix(load_recipe(study), tmp_path / "stores", "mfcc")
    X = matrix.X[matrix.rows["utterance"].isin(["u01", "u07"])]
    alone = ["predict", *words, "--model", "mfcc", "--to", str(tmp_path / "one.csv"), *audio]
    run_chosen(fused().parse_args(alone))
    scores = pd.read_csv(tmp_path / "one.csv").filter(like="score_").to_numpy()
    head = load_head(tmp_path / "runs/tones/mfcc/head.skops")
    np.testing.assert_allclose(scores, apply(head, X, ("high", "low")), rtol=1e-4, atol=1e-5)


def test_asked_again_only_what_changed_is_computed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take(study, capsys)
    _, text = take(study, capsys)
    assert text.count("2 of 2 cached, nothing to do") == 2
    samples = np.random.default_rng(3).normal(0, 0.1, 9_000)
    sf.write(tmp_path / "new/as-u01.wav", samples, 16_000)
    _, text = take(study, capsys)
    assert text.count("1 computed, 1 cached") == 2
    (tmp_path / "new/as-u07.wav").unlink()
    _, text = take(study, capsys)
    assert text.count("1 to be removed") == 2


def test_only_the_models_that_predict_are_extracted(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = tmp_path / "stores" / corpus_name([str(tmp_path / "new")])
    for option in (["--member", "mfcc"], ["--model", "mfcc@0"], ["--model", "mfcc", "--listed"]):
        _, text = take(study, capsys, *option)
        assert "mfcc: 2 " in text, option
        assert "log-mel" not in text, option
        assert not (stores / "log-mel.h5").exists()
    with pytest.raises(SystemExit, match="2"):
        take(study, capsys, "--model", "mfcc", "--fusion", "both")


def test_what_cannot_be_read_is_named_and_the_rest_is_predicted(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new/bad.wav").write_bytes(b"no audio at all")
    words = [str(study), "--stores", str(tmp_path / "stores"), "--runs", str(tmp_path / "runs")]
    audio = ["--model", "mfcc", "--audio", str(tmp_path / "new")]
    assert take(study, capsys, "--model", "mfcc")[0] == 0
    run_chosen(heads().parse_args(["predict", *words, *audio]))
    assert run_chosen(fused().parse_args(["predict", *words, *audio])) == 1
    bad = f"\n  {tmp_path / 'new/bad.wav'}: cannot be read as audio: "
    text = capsys.readouterr().out
    assert "\nas-u01  " in text
    assert f"1 of 3 files has no prediction:{bad}" in text
    allowed = ["--allow-failures", "1", *audio]
    assert run_chosen(fused().parse_args(["predict", *words, *allowed])) == 0
    for name in ("as-u01.wav", "as-u07.wav"):
        (tmp_path / "new" / name).unlink()
    (tmp_path / "stores" / corpus_name([str(tmp_path / "new")]) / "mfcc.h5").unlink()
    take(study, capsys, "--model", "mfcc")
    with pytest.raises(UserError, match=f"mfcc.h5: no file could be read:{bad}"):
        run_chosen(heads().parse_args(["predict", *words, *audio]))


def test_imported_features_cannot_be_made_of_new_audio(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stores/tones/mfcc.h5"
    with Store(path) as store:
        key, index, X = {**store.key, "source": "imported:x"}, store.index, store.read(0, "mean")
    key |= {"model": "other", "statistics": ["mean"]}
    write_store(
        path.with_name("other.h5"), key, index, [0], lambda _, i, start, stop: X[start:stop],
        default=["mean"], columns={"mean": X.shape[1]},
    )  # fmt: skip
    study.write_text(study.read_text().replace('["mfcc", "log-mel"]', '["mfcc", "other"]'))
    with pytest.raises(ModelError, match="other: imported features of another program, which new"):
        take(study, capsys)
    assert take(study, capsys, "--model", "mfcc")[0] == 0


def test_what_predicts_goes_with_audio_alone(study: Path) -> None:
    with pytest.raises(UserError, match="--fusion and --member go with --audio"):
        main(parser().parse_args([str(study), "--fusion", "both"]))


def test_what_a_folder_passes_over_is_said(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new/self").symlink_to(".")
    (tmp_path / "new/gone.wav").symlink_to("nowhere.wav")
    _, text = take(study, capsys, "--model", "mfcc")
    lines = text.splitlines()
    assert lines[0] == (
        "1 link or folder leads to what is listed already and is passed over: self (is .)"
    )
    assert lines[1].startswith("1 link leads to nothing that is there (datalad get, ")
    assert any("/mfcc: 2 computed, 0 cached" in line for line in lines)


HEADS = """
[heads.svm]
[heads.near]
kind = "knn"
grid = {n_neighbors = [1, 3]}
[fusion.both]
method = "mean"
"""


def test_every_head_predicts_new_audio(
    extract,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert extract(extra=HEADS)[0] == 0
    recipe = load_recipe(tmp_path / "tones.toml")
    training = Training(recipe, Folders(stores=tmp_path / "stores", runs=tmp_path / "runs"), jobs=1)
    for member in recipe.members():
        training.train(member)
    (tmp_path / "new").mkdir()
    source = tmp_path / "data/tones/u03.wav"
    (tmp_path / "new/same.wav").write_bytes(source.read_bytes())
    text = take(Path(recipe.path), capsys)[1]
    assert text.count("/mfcc: 1 computed") == 1  # both heads are of one store
    where = ["--stores", str(tmp_path / "stores"), "--runs", str(tmp_path / "runs")]
    words = ["predict", recipe.path, *where, "--audio", str(tmp_path / "new")]
    run_chosen(heads().parse_args(words))
    assert run_chosen(fused().parse_args(words)) == 0
    assert "both (mean: mfcc@svm, mfcc@near)" in capsys.readouterr().out
    folder = tmp_path / "runs/tones/predict" / corpus_name([str(tmp_path / "new")])
    assert {path.name for path in folder.iterdir()} == {"mfcc@svm", "mfcc@near", "both.csv"}
    X = load_matrix(recipe.of_head("near"), tmp_path / "stores", "mfcc").X[3:4]
    for name in ("svm", "near"):
        alone = [*words, "--model", f"mfcc@{name}", "--to", str(tmp_path / f"{name}.csv")]
        assert run_chosen(fused().parse_args(alone)) == 0
        found = pd.read_csv(tmp_path / f"{name}.csv").filter(like="score_").to_numpy()
        head = load_head(tmp_path / f"runs/tones/mfcc@{name}/head.skops")
        np.testing.assert_allclose(found, apply(head, X, ("high", "low")), rtol=1e-4, atol=1e-5)
