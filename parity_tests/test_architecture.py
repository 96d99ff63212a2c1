"""The house: imports go one way, reading needs no torch, help needs neither torch nor time."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {"converters": set(), "weights": {"converters"}, "fcn_port": {"converters", "weights"}}
QUESTIONS = {"What", "How", "Whether", "Where", "Which", "Who", "When", "Why"}
HOUSE = {"converters", "weights", "fcn_port", "parity_tests", "benchmarks"}


@cache
def tree_of(path: Path) -> ast.Module:
    """A file's syntax tree, for all tests here: parsing takes most of their time."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_packages(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level > len(path.relative_to(ROOT).parts) - 1:
            found.add("outside the package")
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        wrong = imported_packages(path) & (HOUSE - {package} | {"outside the package"}) - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", ["weights", "fcn_port"])
def test_packages_are_used_through_their_faces(package: str) -> None:
    """What another package has is imported from it or from one of its rooms, never from deeper inside."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            module = node.module if isinstance(node, ast.ImportFrom) and node.level == 0 else None
            if module and module.split(".")[0] in MAY_IMPORT[package]:
                assert module.count(".") <= 1, f"{path.relative_to(ROOT)}, line {node.lineno}: {module}"


def test_imports_make_no_circles() -> None:
    """Modules of one package, with what is imported for type checkers and inside functions."""
    for package in MAY_IMPORT:
        graph = {name: set(imported_modules(path, name)) for name, path in modules_of(package).items()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(" -> ".join(error.args[1]))


def test_converters_know_no_data_set() -> None:
    """What the releases were trained on is known to `weights` and `fcn_port`; Caffe's files say nothing of it."""
    for path in (ROOT / "converters").rglob("*.py"):
        found = re.search("nyud|pascal|siftflow|sift flow|voc[^a]", path.read_text(encoding="utf-8"), re.IGNORECASE)
        assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"


def test_no_class_has_the_name_of_another() -> None:
    """Not even a private one, nor an alias: Caffe's messages in schema.py and aliases of the same thing aside."""
    classes: dict[str, set[str]] = {}
    aliases: dict[str, set[str]] = {}
    for package in MAY_IMPORT:
        for name, path in modules_of(package).items():
            for node in tree_of(path).body if not name.endswith(".schema") else ():
                if isinstance(node, ast.ClassDef):
                    classes.setdefault(node.name.lstrip("_"), set()).add(name)
                for target in node.targets if isinstance(node, ast.Assign) else ():
                    if isinstance(target, ast.Name) and re.fullmatch("_?[A-Z][a-z0-9].*", target.id):
                        aliases.setdefault(target.id.lstrip("_"), set()).add(name)
    found = {own: modules | aliases.get(own, set()) for own, modules in classes.items()}
    assert not {own: modules for own, modules in found.items() if len(modules) > 1}


def test_nothing_is_there_for_tests_alone() -> None:
    """What a module defines is used by the code, a benchmark, or people, for whom a page has it that a person wrote."""
    code = {path: tree_of(path) for package in MAY_IMPORT for path in python(package)}
    others = {path: tree_of(path) for path in (*python("benchmarks"), *python("docs"))}
    pages = [ROOT / "README.md", *(path for path in (ROOT / "docs").glob("*.md") if path.name != "api.md")]
    used = {name for path, tree in (code | others).items() for name in names_used(path, tree)}
    used |= {word for path in pages for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    alone = {name: path for path, tree in code.items() for name in names_made(tree) if name not in used}
    assert set(alone) <= {"CaffeAdapter"}, alone  # Model Explorer asks a module for its adapter


def python(folder: str) -> Iterator[Path]:
    yield from (ROOT / folder).rglob("*.py")


def names_made(tree: ast.Module) -> Iterator[str]:
    """What a module defines; what a decorator may have put into a table, and what Python asks for, aside."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.decorator_list and node.name[:2] != "__":
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (each.id for each in targets if isinstance(each, ast.Name) and not each.id.startswith("__"))


def names_used(path: Path, tree: ast.Module) -> Iterator[str]:
    """What is read, called or imported in a module, or named in a string of one word; a face's imports aside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif path.name != "__init__.py":
            if isinstance(node, ast.alias):
                yield node.name
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                yield from re.findall(r"\w+", node.value)


def test_every_pass_has_a_test_named_after_it() -> None:
    passes = {path.stem for path in (ROOT / "converters" / "passes").glob("[a-z]*.py")}
    tests = {path.stem for path in (ROOT / "parity_tests" / "passes").glob("test_*.py")}
    assert passes and {f"test_{name}" for name in passes} <= tests


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_docstrings_lead_with_what_the_thing_is(folder: str) -> None:
    """A docstring that opens with a question word says what it answers, and not what the thing is or does."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            for text in docstrings(node):
                assert text.split()[0].rstrip(",") not in QUESTIONS, f"{path}: {text}"
                assert not text.partition("\n")[0].endswith("?"), f"{path}: {text}"


def docstrings(node: ast.AST) -> Iterator[str]:
    """The strings below a module, class or function, its own and those of its attributes."""
    for statement in node.body if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) else ():
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            value = statement.value.value
            yield from [value] if isinstance(value, str) else []


@cache
def modules_of(package: str) -> dict[str, Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported_modules(path: Path, name: str) -> Iterator[str]:
    """The modules of its own package that a module imports anywhere, faces aside."""
    known = modules_of(name.split(".")[0])
    parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            base = parent.split(".")[: len(parent.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                target = f"{source}.{alias.name}" if f"{source}.{alias.name}" in known else source
                if target in known and target != name and known[target].name != "__init__.py":
                    yield target


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_file_is_longer_than_a_subject_takes() -> None:
    files = [path for folder in HOUSE for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert len(lengths) > 300
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_reading_needs_no_torch() -> None:
    run_python(
        "import sys, converters\n"
        "converters.read_caffemodel('parity_tests/golden/formats/v1-mini.caffemodel')\n"
        "converters.read_caffemodel('parity_tests/golden/formats/fcn8s-mini.caffemodel.h5')\n"
        "spec = converters.read_prototxt('parity_tests/golden/formats/layer-zoo-0.prototxt')\n"
        "assert all(layer.params for layer in spec.layers)\n"
        "assert 'torch' not in sys.modules"
    )


def test_every_help_answers_without_torch() -> None:
    run_python(
        "import sys\n"
        "from fcn_port.cli import run\n"
        "from fcn_port.cli.program import VERBS\n"
        "for verb in VERBS:\n"
        "    assert run([verb, '--help']) == 0\n"
        "assert run(['--help']) == run(['--version']) == 0\n"
        "assert 'torch' not in sys.modules"
    )


def test_the_compiled_schema_is_that_of_caffe_proto(tmp_path: Path) -> None:
    from grpc_tools import protoc

    out = tmp_path / "caffe.desc"
    folder = ROOT / "converters"
    assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={out}", str(folder / "caffe.proto")]) == 0
    assert out.read_bytes() == (folder / "caffe.desc").read_bytes(), "run `make proto`"


def test_no_file_names_a_place_outside_the_project() -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    outside = "../" + "shared"
    wrong = [name for name in tracked if (ROOT / name).suffix in {".py", ".md", ".toml", ""}]
    wrong = [name for name in wrong if outside in (ROOT / name).read_text(encoding="utf-8", errors="ignore")]
    assert not wrong
