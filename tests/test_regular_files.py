"""What somebody else may have put into a folder is opened as a regular file, or not at all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
ROOMS = ("extract", "features", "models", "fusion", "evaluate")
SOURCES = sorted(path for room in ROOMS for path in (TOP / room).rglob("*.py"))

READERS = {
    "open", "io.open", "os.open", "numpy.load", "numpy.fromfile", "numpy.memmap", "numpy.loadtxt",
    "pandas.read_csv", "pandas.read_parquet", "pandas.read_json", "tomllib.load", "zipfile.ZipFile",
    "h5py.File", "skops.io.load", "joblib.load",
}  # fmt: skip
METHODS = {"open", "read_text", "read_bytes"}
READ_ELSEWHERE = {
    "features/common/files.py": "the opener itself",
    "extract/audio.py": "audio, which has an opener of its own",
    "extract/encoders/encoder.py": "weights",
    "extract/encoders/fetch.py": "weights",
    "extract/encoders/registry.py": "weights",
    "extract/encoders/costs.py": "weights",
    "evaluate/report/book.py": "the program's own templates",
}
"""By file: what is read there lies in no folder of stores, runs or corpora."""
MAY = {
    ("features/common/command.py", "os.open(os.devnull, os.O_WRONLY)"),
    ("features/common/lock.py", "os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 420)"),
    ("features/audio/containers/video.py", "av.open(path, metadata_errors='ignore')"),
    ("features/common/watchdog.py", "(process / 'cmdline').read_bytes()"),
    ("features/common/watchdog.py", "(process / 'environ').read_bytes()"),
    ("features/common/lock.py", "Path(f'/proc/{pid}/stat').read_text(encoding='utf-8')"),
}


def direct(text: str) -> list[str]:
    """Calls that read a file by its name; what writes, or reads an open `file`, is none."""
    tree = ast.parse(text)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname: one.name for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        name = names.get(first, first) + dot + rest
        first_argument = ast.unparse(node.args[0]) if node.args else ""
        method = isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
        modes = [ast.unparse(one) for one in [*node.args, *(k.value for k in node.keywords)]]
        writes = any(one.strip("'") in ("w", "wb", "x", "xb", "w+b") for one in modes)
        ours = name.startswith("features.common.files.")
        if (name in READERS or method) and not writes and not ours and first_argument != "file":
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_files_are_opened_by_the_opener(path: Path) -> None:
    name = str(path.relative_to(TOP))
    if name not in READ_ELSEWHERE:
        found = [one for one in direct(path.read_text(encoding="utf-8")) if (name, one) not in MAY]
        assert not found, (
            f"{name}: use open_regular, read_bytes, read_text of features.common.files"
        )


@pytest.mark.parametrize(
    "text",
    [
        "open(path)",
        "with path.open('rb') as file: pass",
        "(folder / 'a').read_text('utf-8')",
        "Path(x).read_bytes()",
        "import numpy as np\nnp.load(path)",
        "from pandas import read_csv\nread_csv(path)",
        "import h5py\nh5py.File(path, 'r')",
        "from skops import io\nio.load(path, trusted=OURS)",
        "import os\nos.open(path, os.O_RDONLY)",
    ],
)
def test_what_reads_by_name_is_found(text: str) -> None:
    assert len(direct(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "open(path, 'w', encoding='utf-8')",
        "path.open('wb')",
        "from features.common.files import read_bytes\nread_bytes(path)",
        "from features.common.files import open_regular\nopen_regular(path)",
        "import pandas as pd\npd.read_parquet(file)",
    ],
)
def test_what_writes_or_reads_an_open_file_is_not(text: str) -> None:
    assert direct(text) == []
