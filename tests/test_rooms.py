"""The house: one order of imports, heavy packages where they belong."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
ROOMS = ("features", "extract", "evaluate", "models", "fusion")
BELOW = {
    "features": (),
    "extract": ("features",),
    "evaluate": ("features",),
    "models": ("features", "evaluate"),
    "fusion": ("features", "evaluate"),
}
"""The rooms that each one imports beside itself."""
LADDERS = {
    "features": ("common", "audio", "corpora", "recipe", "stores", "exchange", "splits"),
    "extract": ("encoders", "plan", "job"),
    "evaluate": ("metrics", "statistics", "runs", "scores", "report"),
    "models": ("exact", "neural"),
    "fusion": ("subsets",),
}
"""The folders of each room; each imports those before it."""
FAMILIES = sorted((TOP / "extract/encoders/families").glob("*.py"))
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


def module_of(path: Path) -> str:
    """The dotted name of a module; a package goes by its own."""
    return ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in SOURCES}


def ours(path: Path) -> set[str]:
    """The modules of the house that a module imports."""
    found = set()
    for name, _ in imports(path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", module_of(path)}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """What still stands where everything is taken away that stands on nothing: [] without a circle.

    >>> circle({"a": {"b"}, "b": set()}), circle({"a": {"b"}, "b": {"a"}})
    ([], ['a', 'b'])
    """
    left = {name: set(below) for name, below in arrows.items()}
    while free := [name for name, below in left.items() if not below & set(left)]:
        for name in free:
            del left[name]
    return sorted(left)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(TOP)))
def test_imports_run_one_way(path: Path) -> None:
    room, *inside = module_of(path).split(".")
    ladder = LADDERS[room]
    for name in sorted(ours(path)):
        other, *there = name.split(".")
        assert other == room or other in BELOW[room], f"{path}: {room} imports {name}"
        if other == room and inside and there and inside[0] in ladder and there[0] in ladder:
            assert ladder.index(there[0]) <= ladder.index(inside[0]), f"{path} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_of_a_room_has_its_place(room: str) -> None:
    folders = {path.parent.relative_to(TOP / room).parts[:1] for path in (TOP / room).rglob("*.py")}
    assert {parts[0] for parts in folders if parts} == set(LADDERS[room])


@pytest.mark.parametrize("depth", [2, 99], ids=["rooms inside the rooms", "modules"])
def test_nothing_imports_in_a_circle(depth: int) -> None:
    arrows: dict[str, set[str]] = {}
    for path in SOURCES:
        here = ".".join(module_of(path).split(".")[:depth])
        there = {".".join(name.split(".")[:depth]) for name in ours(path)}
        arrows.setdefault(here, set()).update(there - {here})
    assert circle(arrows) == []


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("torch", {"extract/encoders", "extract/job", "models/neural"}),
        ("h5py", {"features/stores/write.py"}),
        ("matplotlib", {"evaluate/report"}),
        ("skops", {"models/outputs.py"}),
        ("transformers", {"extract/encoders", "extract/acoustic.py"}),
        ("distributed", {"features/common/workers.py", "extract/job", "models/cluster.py"}),
        ("dask_jobqueue", {"features/common/workers.py"}),
    ],
)
def test_heavy_packages_stay_where_they_belong(package: str, allowed: set[str]) -> None:
    found = [
        path.relative_to(TOP)
        for path in SOURCES
        if any(name.split(".")[0] == package for name, _ in imports(path))
    ]
    wrong = [path for path in found if not {str(path), *map(str, path.parents)} & allowed]
    assert found
    assert not wrong, f"{package} is imported by {wrong}"


@pytest.mark.parametrize(
    "path",
    [
        *(f"extract/encoders/families/{path.name}" for path in FAMILIES),
        "extract/job/cluster.py",
        "extract/job/compute.py",
        "extract/job/device.py",
        "extract/acoustic.py",
        "features/common/workers.py",
        "models/cluster.py",
        "models/outputs.py",
        "models/train.py",
    ],
)
def test_heavy_packages_are_imported_when_they_are_needed(path: str) -> None:
    at_the_top = {name.split(".")[0] for name, top in imports(TOP / path) if top}
    heavy = {"torch", "transformers", "skops", "dask", "distributed", "dask_jobqueue"}
    assert not at_the_top & heavy


NEURAL = ("models.neural", "models.network_fits")


def test_neural_heads_are_imported_when_they_are_needed() -> None:
    for path in SOURCES:
        if not module_of(path).startswith(NEURAL):
            top = [name for name, top in imports(path) if top and name.startswith(NEURAL)]
            assert not top, f"{path} imports {top} at its top"


def test_stores_are_read_without_the_package_that_writes_them() -> None:
    paths = {module_of(path): path for path in SOURCES}
    reached: set[str] = set()
    todo = {"features.matrix"}
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= ours(paths[name]) - reached
    assert "features.stores.read" in reached
    assert "features.stores.write" not in reached


def test_no_assert_outside_the_tests() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert"


PRINTING = ("main",)
"""Functions of a command: they may print. All others tell (`features.common.telling`)."""


@pytest.mark.parametrize("room", ["models", "fusion"])
def test_functions_of_a_library_do_not_print(room: str) -> None:
    for path in SOURCES:
        if module_of(path).split(".")[0] != room:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name in PRINTING:
                continue
            for inner in ast.walk(node):
                assert not (isinstance(inner, ast.Name) and inner.id == "print"), (
                    f"{path}:{inner.lineno}: prints"
                )


def test_no_two_classes_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module_of(path))
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
