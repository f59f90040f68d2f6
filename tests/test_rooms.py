"""The house: one order of imports, heavy packages where they belong."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
ROOMS = ("features", "extract", "evaluate", "models", "fusion")
LOWER_EVALUATE = {
    "evaluate.metrics.calibration",
    "evaluate.statistics.permutations",
    "evaluate.metrics.complementarity",
    "evaluate.runs.arrays",
    "evaluate.statistics.resampling",
    "evaluate.metrics.metrics",
    "evaluate.statistics.rank_sums",
    "evaluate.runs.reproduction",
    "evaluate.runs.record",
}
MAY_IMPORT = {
    "features": {"features"},
    "extract": {"extract", "features"},
    "lower evaluate": {"features", "lower evaluate"},
    "models": {"models", "features", "lower evaluate"},
    "fusion": {"fusion", "features", "lower evaluate"},
    "upper evaluate": {"features", "lower evaluate", "upper evaluate", "fusion"},
}
SOURCES = sorted(path for room in ROOMS for path in (TOP / room).rglob("*.py"))


@functools.cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module (`from a import b` gives `a` and `a.b`), and whether at the top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(tree.body)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found += [(f"{node.module}.{alias.name}", node in top) for alias in node.names]
    return found


def part(module: str) -> str | None:
    """The part of the house that a module is in; None for what is not ours."""
    room = module.split(".")[0]
    if room not in ROOMS:
        return None
    if room == "evaluate":
        lower = ".".join(module.split(".")[:2]) in LOWER_EVALUATE
        return "lower evaluate" if lower else "upper evaluate"
    return room


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(TOP)))
def test_imports_run_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(TOP).with_suffix("").parts)
    here = part(module)
    if module == "evaluate.__init__":
        assert not [name for name, _ in imports(path) if part(name)]
        return
    wrong = [name for name, _ in imports(path) if part(name) and part(name) not in MAY_IMPORT[here]]
    assert not wrong, f"{module} imports against the way of the data: {wrong}"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        (
            "torch",
            {
                "extract/encoders/encoder.py",
                "extract/encoders/forward.py",
                "extract/encoders/pooling.py",
                "extract/job/compute.py",
            },
        ),
        ("h5py", {"features/stores/read.py"}),
        ("matplotlib", {"evaluate/report/plots.py"}),
        ("skops", {"models/train.py"}),
        ("transformers", {"extract/encoders/encoder.py", "extract/acoustic.py"}),
        (
            "distributed",
            {"features/common/workers.py", "extract/job/cluster.py", "models/cluster.py"},
        ),
        ("dask_jobqueue", {"features/common/workers.py"}),
    ],
)
def test_heavy_packages_stay_where_they_belong(package: str, allowed: set[str]) -> None:
    found = {
        str(path.relative_to(TOP))
        for path in SOURCES
        if any(name.split(".")[0] == package for name, _ in imports(path))
    }
    assert found <= allowed, f"{package} is imported by {found - allowed}"


@pytest.mark.parametrize(
    "path",
    [
        "extract/job/cluster.py",
        "extract/job/compute.py",
        "extract/acoustic.py",
        "features/common/workers.py",
        "models/cluster.py",
        "models/train.py",
    ],
)
def test_heavy_packages_are_imported_when_they_are_needed(path: str) -> None:
    at_the_top = {name.split(".")[0] for name, top in imports(TOP / path) if top}
    heavy = {"torch", "transformers", "skops", "dask", "distributed", "dask_jobqueue"}
    assert not at_the_top & heavy


def test_no_assert_outside_the_tests() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert"


def test_heads_of_the_recipe_schema_are_those_of_the_registry() -> None:
    from features.recipe.load import CLASSIFICATION_HEADS, REGRESSION_HEADS
    from models.heads import HEADS

    assert {key for key, head in HEADS.items() if head.task == "regression"} == set(
        REGRESSION_HEADS
    )
    assert {key for key, head in HEADS.items() if head.task == "classification"} == set(
        CLASSIFICATION_HEADS
    )
