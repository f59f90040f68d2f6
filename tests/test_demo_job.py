"""`make demo`, as a newcomer types it: the whole job, and a second time nothing left to do."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import agree
from tests.evaluate.page import read

TOP = Path(__file__).resolve().parents[1]
SINGLE = ("mfcc", "log-mel", "wav2vec2-tiny")

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is missing"
    ),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is missing"),
]


def make(folder: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    where = [f"{name.upper()}={folder / name}" for name in ("data", "stores", "runs")]
    return subprocess.run(
        ["make", "--no-print-directory", *targets, f"PYTHON={sys.executable}", *where], cwd=TOP,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=500,
    )  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = make(folder, "demo")
    assert done.returncode == 0, done.stdout
    assert "fused: mean (mean of 3)" in done.stdout
    assert "wav2vec2-tiny (untrained)" in done.stdout
    assert too_much(done.stdout, folder) == []
    return folder


def too_much(text: str, folder: Path) -> list[str]:
    """What a demo prints beyond 40 lines of 80 columns; names of folders are those of a clone."""
    lines = text.replace(f"{folder}/", "").splitlines()
    progress = [line for line in lines if line.endswith(" left")]  # more the slower the machine
    return [*(line for line in lines if len(line) > 80), *lines[40 + len(progress) :]]


def rho(folder: Path, run: str) -> float:
    scores = json.loads((folder / "runs/demo" / run / "scores.json").read_text())
    return scores["partitions"]["test"]["metrics"]["spearman"]["value"]


def test_fusion_is_not_below_the_median_of_the_single_models(demo: Path) -> None:
    assert rho(demo, "fusion/mean") >= statistics.median(rho(demo, one) for one in SINGLE)


def test_scores_have_intervals_over_the_ten_speakers_of_each_part(demo: Path) -> None:
    scores = json.loads((demo / "runs/demo/fusion/mean/scores.json").read_text())
    for partition in ("devel", "test"):
        part = scores["partitions"][partition]
        assert (part["n"], part["n_speakers"]) == (120, 10)
        one = part["metrics"]["spearman"]
        assert one["low"] < one["value"] < one["high"]


def test_the_report_has_every_run_and_its_recordings(demo: Path) -> None:
    pages = read(demo / "runs/demo/report")
    for name in (*SINGLE, "fused: mean"):
        assert name in pages["index.html"].shown
    assert pages["index.html"].all("svg")
    for name in SINGLE:  # of devel and of test
        assert len(pages[f"model-{name}.html"].all("audio")) == 40


@pytest.mark.parametrize("model", SINGLE)
def test_both_engines_choose_and_predict_the_same(demo: Path, tmp_path: Path, model: str) -> None:
    text = (TOP / "recipes/demo.toml").read_text(encoding="utf-8")
    assert len(agree(text, model, demo / "stores", tmp_path)) == 12


def test_a_second_time_nothing_is_left_to_do(demo: Path) -> None:
    kept = [*demo.glob("stores/demo/*.h5"), *demo.glob("runs/demo/*/predictions.csv")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(before) == 6
    again = make(demo, "demo")
    assert again.returncode == 0, again.stdout
    assert too_much(again.stdout, demo) == []
    assert again.stdout.count("Spearman's rho, mean of 9 targets") == 1
    assert again.stdout.count("600 of 600 cached, nothing to do") == 3
    for one in (*SINGLE, "fusion mean"):
        assert any(one in x and "nothing to do" in x for x in again.stdout.splitlines()), one
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_new_audio_is_predicted_and_asking_again_computes_nothing(
    demo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new audio"
    folder.mkdir()
    for name in ("0007", "0481"):
        shutil.copy(demo / f"data/demo/wav/{name}.wav", folder / f"it's {name}.wav")
    more = ["RECIPE=recipes/demo.toml", f"AUDIO='{folder}'", f"OUT={tmp_path / 'new.csv'}"]
    done = make(demo, "predict", *more)
    assert done.returncode == 0, done.stdout
    assert "\nit's 0481  " in done.stdout
    assert "mean (mean: mfcc, log-mel, wav2vec2-tiny)\n" in done.stdout
    header, *lines = (tmp_path / "new.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("path,utterance,Anger_pred,Boredom_pred,")
    assert [line.split(",")[0] for line in lines] == [
        str(folder / f"it's {name}.wav") for name in ("0007", "0481")
    ]
    again = make(demo, "predict", *more)
    assert again.stdout.count("2 of 2 cached, nothing to do") == 3
    assert make(demo, "predict").stdout.startswith('make predict AUDIO="folder or files"')
    (folder / "bad.wav").write_text("no audio")
    (tmp_path / "new.csv").unlink()
    for allowed, code in (("0", 2), ("1", 0)):  # 2 is make's own code for a line that failed
        done = make(demo, "predict", *more, f"ALLOW_FAILURES={allowed}")
        assert done.returncode == code, done.stdout
        assert f"1 of 3 files has no prediction:\n  {folder / 'bad.wav'}: " in done.stdout
        assert len((tmp_path / "new.csv").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        (["RECIPE=recipes/demo-fusion.toml"], "recipes/demo-fusion.toml"),
        ([], "recipes/demo.toml"),
    ],
)
def test_the_demo_takes_the_recipe_of_the_command_line(
    tmp_path: Path, words: list[str], recipe: str
) -> None:
    commands = make(tmp_path, "--dry-run", "demo", *words).stdout
    assert f'features.corpora.demo "{tmp_path / "data"}/demo"' in commands
    rooms = ("extract extract", "models train", "fusion fuse", "evaluate report")
    assert all(f'-m {room} "{recipe}"' in commands for room in rooms)


def test_runs_are_the_same_again(demo: Path) -> None:
    for run in ("wav2vec2-tiny", "fusion/mean"):
        done = make(demo, "reproduce", f"RUN={demo / 'runs/demo' / run}")
        assert done.returncode == 0, done.stdout
        assert "predictions.csv: 240 rows, equal" in done.stdout


HEADS = """
corpora = ["demo"]
models = ["mfcc", "log-mel"]
targets = ["Anger", "Boredom", "Calmness", "Concentration", "Determination", "Excitement",
           "Interest", "Sadness", "Tiredness"]
[split]
outer = "predefined"
inner = "devel"
[head]
select = "nmse"
[heads.svr]
kind = "linear-svr"
grid = { C = [1e-2, 1.0] }
[heads.ridge]
kind = "ridge"
grid = { alpha = [1.0, 100.0] }
[fusion.mean]
method = "mean"
"""


def test_two_heads_side_by_side(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "heads.toml").write_text(HEADS, encoding="utf-8")
    recipe, runs = f"RECIPE={tmp_path / 'heads.toml'}", demo / "runs/heads"
    done = make(demo, "train", recipe, "MODEL=mfcc", "HEAD=ridge")
    assert done.returncode == 0, done.stdout
    assert [path.name for path in runs.glob("*@*")] == ["mfcc@ridge"]
    done = make(demo, "train", "fuse", "report", recipe)
    assert done.returncode == 0, done.stdout
    assert "mfcc@ridge: nothing to do" in done.stdout
    assert "fused: mean (mean of 4)" in done.stdout
    pages = read(runs / "report")
    for name in ("mfcc@svr", "mfcc@ridge", "log-mel@svr", "log-mel@ridge"):
        assert f"model-{name}.html" in pages
        assert f"\n{name} " in done.stdout
    done = make(demo, "reproduce", f"RUN={runs / 'mfcc@svr'}")
    assert done.returncode == 0, done.stdout
    done = make(demo, "submission", recipe, "MODEL=log-mel@ridge")
    assert done.returncode == 0, done.stdout


def test_a_submission_has_the_files_of_the_label_file(demo: Path) -> None:
    lab = demo / "data/demo/lab"
    more = ["RECIPE=recipes/demo.toml", f"TEMPLATE={lab / 'test.csv'}"]
    done = make(demo, "submission", *more)
    assert done.returncode == 0, done.stdout
    folder = demo / "runs/demo/submission"
    names = [
        [line.split(",")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (folder / "test.csv", folder / "predictions.test.csv", lab / "test.csv")
    ]
    assert names[0] == names[1] == names[2]
    done = make(demo, "submission", *more[:1], f"TEMPLATE={lab / 'devel.csv'}")
    assert done.returncode == 2
    assert "120 predicted files are not in the template: 0481.wav" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "A=runs/a"], "make compare A=runs/a B=runs/b [TO=table.csv], make report"),
        (["compare", "B=runs/b"], "two folders of runs are compared: make compare A="),
        (["report", "COMPARE=runs/a"], "; got A= B= COMPARE=runs/a"),
        (["reproduce"], "make reproduce RUN=runs/<recipe>/<member>, or RUN=runs/<recipe>/fusion/"),
        (["predict"], """twice: AUDIO="'new audio' 'it is.wav'\""""),
    ],
)
def test_a_variable_that_is_missing_is_named(tmp_path: Path, words: list[str], said: str) -> None:
    done = make(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stdout
    assert "usage:" not in done.stdout


def test_without_the_corpus_make_says_what_is_missing(tmp_path: Path) -> None:
    done = make(tmp_path, "extract", "MODEL=xlsr-1b")
    assert done.returncode == 2  # make's own code for a recipe line that failed
    assert "hume-prosody: no such folder" in done.stdout
    assert "facebook/wav2vec2-xls-r-1b" in done.stdout
    assert "Traceback" not in done.stdout


def test_folders_may_have_blanks(tmp_path: Path) -> None:
    folder = tmp_path / "my folder"
    folder.mkdir()
    done = make(folder, "extract", "RECIPE=recipes/emodb.toml", "MODEL=mfcc, log-mel")
    assert f"{folder}/data/emodb: no such folder" in done.stdout


def test_help_lists_every_target() -> None:
    done = make(TOP, "help")
    for target in [
        "demo",
        "extract",
        "train",
        "fuse",
        "score",
        "report",
        "predict",
        "reproduce",
        "submission",
        "status",
        "test",
        "test-all",
        "lint",
        "bench",
        "clean",
        "help",
    ]:
        assert f"\n  {target}" in done.stdout
