"""No source reads a format that runs code, and none runs text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
ROOMS = ("extract", "features", "models", "fusion", "evaluate", "benchmarks")
SOURCES = sorted(path for room in ROOMS for path in (TOP / room).rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"}
CALLS = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec",
    "joblib.load", "joblib.dump", "pandas.read_pickle", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "torch.save", "torch.jit.load", "torch.hub.load", "skops.io.get_untrusted",
}  # fmt: skip
METHODS = {"to_pickle", "read_pickle"}


def faults(text: str) -> list[str]:
    """What a source does that may run what it reads, `line: what`; names as they were imported."""
    tree = ast.parse(text)
    names: dict[str, str] = {}
    found = []
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [one.name for one in node.names]
            names |= {one.asname or one.name.split(".")[0]: one.asname and one.name
                      or one.name.split(".")[0] for one in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{one.name}" for one in node.names]
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        found += [
            f"{node.lineno}: import {module}"
            for module in modules
            if module.split(".")[0] in MODULES or MODULES & set(module.split("."))
        ]

    def named(node: ast.expr) -> str:
        first, _, rest = ast.unparse(node).partition(".")
        return names.get(first, first) + ("." + rest if rest else "")

    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and named(node) in CALLS:
            found.append(f"{node.lineno}: {named(node)}")
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            found.append(f"{node.lineno}: .{node.attr}")
        if isinstance(node, ast.Call):
            given = {one.arg: ast.unparse(one.value) for one in node.keywords}
            if named(node.func) == "torch.load" and given.get("weights_only") != "True":
                found.append(f"{node.lineno}: torch.load without weights_only=True")
            for name in ("allow_pickle", "trust_remote_code"):
                if given.get(name, "False") != "False":
                    found.append(f"{node.lineno}: {name}")
            if given.get("weights_only", "True") != "True":
                found.append(f"{node.lineno}: weights_only")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TOP)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import cPickle as p",
        "import dill, json",
        "from joblib.externals import cloudpickle",
        "import shelve",
        "import marshal",
        "import joblib\njoblib.load(p)",
        "from joblib import load\nload(p)",
        "import joblib as j\nj.dump(x, p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy as np\nnp.load(p, allow_pickle=flag)",
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "from torch import load as read\nread(p)",
        "import torch\ntorch.save(x, p)",
        "model(p, trust_remote_code=True)",
        "model(p, weights_only=False)",
        "import pandas as pd\npd.read_pickle(p)",
        "frame.to_pickle(p)",
        "eval(text)",
        "run = exec",
        "import builtins\nbuiltins.eval(text)",
        "import yaml\nyaml.load(text)",
        "from yaml import load\nload(text)",
    ],
)
def test_each_way_is_seen(text: str) -> None:
    assert faults(text)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(p, weights_only=True)",
        "import numpy as np\nnp.load(p, allow_pickle=False)",
        "import numpy as np\nnp.load(p)",
        "model.eval()",
        "import re\nre.compile(p)",
        "import joblib\njoblib.Parallel(2)",
        "import yaml\nyaml.safe_load(text)",
        "from extract.audio import load\nload(clip)",
    ],
)
def test_what_is_harmless_is_let_be(text: str) -> None:
    assert faults(text) == []
