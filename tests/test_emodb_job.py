"""`recipes/emodb.toml` on the real corpus: both engines choose and predict the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHARED_DATA
from tests.engines import agree

TOP = Path(__file__).resolve().parents[1]
RECIPE = TOP / "recipes/emodb.toml"
LINEAR = {
    'kind = "svc"': 'kind = "linear-svc"',
    'kernel = ["linear", "rbf"]\n': "",
    "C = [0.01, 0.1, 1.0, 10.0]": "C = [1e-4, 1e-3, 1e-2]",
    'gamma = "scale"\n': "dual = false\nmax_iter = 100000\n",
}

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not (SHARED_DATA / "emodb").is_dir(), reason=f"no EmoDB in {SHARED_DATA}"),
]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    subprocess.run(
        [sys.executable, "-m", "extract", RECIPE, "--data", SHARED_DATA, "--stores", folder]
        + ["--members", "mfcc,log-mel"],
        cwd=TOP, check=True, stdout=subprocess.DEVNULL, timeout=500,
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("model", ["mfcc", "log-mel"])
def test_both_engines_choose_and_predict_the_same(stores: Path, tmp_path: Path, model: str) -> None:
    table = agree(RECIPE.read_text(encoding="utf-8"), model, stores, tmp_path)
    assert len(table) == 88  # 8 cells in each of 10 folds and over all rows


def test_linear_svc_chooses_and_predicts_the_same(stores: Path, tmp_path: Path) -> None:
    text = RECIPE.read_text(encoding="utf-8")
    for old, new in LINEAR.items():
        assert old in text
        text = text.replace(old, new)
    assert len(agree(text, "mfcc", stores, tmp_path)) == 33
