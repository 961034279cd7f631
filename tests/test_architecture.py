"""DESIGN's laws and STYLE's budgets, each a test with a message that says what to do."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("runtime", "nodes", "cli", "server", "demo", "bench")
FILES = [p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
GRAPHS = sorted((ROOT / "graphs").glob("*.yaml"))
# The layers of runtime/, lowest first: a module imports from its own layer and from those below.
LAYERS = [
    "errors",
    "moved",
    "paths",
    "standard_streams",
    "events",
    "device",
    "contract",
    "files",
    "settings",
    "graph",
    "checkpoint",
    "plan",
    "configure",
    "provenance",
    "observe",
    "rehearse",
    "run",
    "result",
    "api",
    "inspect",
    "verify",
    "visualize",
]
DEVICES = re.compile(r"""["'](cuda|mps|cpu)(:\d+)?["']|\.cuda\(|torch\.(cuda|mps|xpu)\b""")

MAX_FILE, MEDIAN_FILE, MAX_FUNCTION = 400, 150, 50
LONG_FUNCTIONS: dict[str, str] = {}  # "file:function": why it is longer
MAY_TOUCH_FILES = {"nodes/save.py", "nodes/upload.py", "nodes/diffusers.py"}
MAY_READ_ARGV = {"runtime/visualize.py", "server/engine_process.py"}


# What no file name has: encoders, and how people write two of the families.
EXTRA_FAMILIES = {"umt5", "llama", "gemma", "cogvideo", "kontext", "sd3", "zimage"}


def family_names() -> set[str]:
    """Words by which a graph's name tells its family: `wan`, `flux`, `z_image`; not `t2v`."""
    common = {"demo", "diffusers", "edit", "image", "video", "fast", "layered", "turbo", "plus"}
    heads = {re.split(r"[\d]", path.stem)[0].strip("_") for path in GRAPHS}
    words = {word for head in heads for word in (head, *head.split("_"))}
    return {word for word in words if len(word) > 2 and word not in common} | EXTRA_FAMILIES


FAMILIES = re.compile(rf"(?<![a-z])({'|'.join(sorted(family_names()))})(?![a-z])", re.IGNORECASE)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    """Modules a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def tops(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(path)}


def of(package: str) -> list[Path]:
    return [p for p in FILES if p.is_relative_to(ROOT / package)]


def code(path: Path) -> str:
    """A file without comments and docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return ast.unparse(tree)


TEXT_IMPORTS = re.compile(
    r"^ *from ((?:runtime|nodes|cli|server|demo|tests)[\w.]*) import ([\w, ]+)$", re.M
)


def test_code_in_texts_of_tests_imports_what_there_is() -> None:
    """Code that tests run in a fresh process is text: neither mypy nor a renaming sees it."""
    missing: list[str] = []
    files = {module(file) for file in FILES + TESTS}
    for path in TESTS:
        texts = (
            node.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        for found, names in TEXT_IMPORTS.findall("\n".join(texts)):
            public = dir(importlib.import_module(found)) if find_spec(found) else []
            wanted = names.replace(" ", "").split(",")
            gone = [x for x in wanted if x not in public and f"{found}.{x}" not in files]
            missing += [f"{name(path)}: {found}.{x}" for x in gone]
    assert not missing


@pytest.mark.parametrize("path", of("runtime"), ids=name)
def test_law_1_runtime_imports_no_nodes_cli_or_server(path: Path) -> None:
    assert not tops(path) & {"nodes", "cli", "server", "demo", "bench"}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(p): p for p in of("runtime")}


def imported(path: Path) -> set[str]:
    """Modules of runtime/ that a file imports: also inside functions and for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in MODULES else node.module for full in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES)


def layer(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


@pytest.mark.parametrize("path", [p for m, p in MODULES.items() if m != "runtime"], ids=name)
def test_imports_point_down_the_layers(path: Path) -> None:
    here = layer(module(path))
    upward = [m for m in imported(path) if m == "runtime" or layer(m) > here]
    assert not upward, f"{module(path)} is below {upward}: move what it needs down"


def test_no_imports_are_circular() -> None:
    edges = networkx.DiGraph((m, to) for m, p in MODULES.items() for to in imported(p))
    assert not list(networkx.simple_cycles(edges))


@pytest.mark.parametrize("path", of("nodes"), ids=name)
def test_nodes_import_what_is_theirs(path: Path) -> None:
    """Third parties see `runtime.contract`; our own nodes use errors and files beside it."""
    theirs = (
        "runtime.contract",
        "runtime.errors",
        "runtime.events",
        "runtime.files",
        "runtime.checkpoint",
    )
    others = [m for m in imported(path) if not m.startswith(theirs)]
    assert not others, f"nodes import {theirs}; {name(path)} also {others}"


@pytest.mark.parametrize("path", of("nodes"), ids=name)
def test_law_1_nodes_import_no_cli_or_server(path: Path) -> None:
    assert not tops(path) & {"cli", "server", "demo", "bench"}


# Options of `python -m runtime.visualize` itself, which reads flags as `sglang generate` has them.
MAY_NAME_FLAGS = {
    "runtime/visualize.py", "runtime/inspect/option_names.py", "runtime/inspect/perf_file.py",
}  # fmt: skip


@pytest.mark.parametrize("path", of("runtime") + of("nodes"), ids=name)
def test_messages_name_options_by_config_path(path: Path) -> None:
    """`request.height` in backticks: the command line writes its flag, the server its parameter."""
    texts = [n.value for n in ast.walk(ast.parse(code(path))) if isinstance(n, ast.Constant)]
    flags = [t for t in texts if isinstance(t, str) and re.search(r"(?<![\w-])--[a-z]", t)]
    assert not flags or name(path) in MAY_NAME_FLAGS, f"write `group.name=VALUE`: {flags}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_law_2_one_place_for_each_outside_thing(path: Path) -> None:
    here = name(path)
    if here != "runtime/graph/compose.py":
        assert not tops(path) & {"hydra", "omegaconf"}, "only runtime/graph/compose.py knows Hydra"
    if here not in {"runtime/device.py"} and not here.startswith(("demo/", "bench/")):
        found = DEVICES.search(code(path))
        on_host = (
            here == "runtime/contract/values.py"
        )  # the generator of an Rng is the host's, by definition
        assert not found or on_host, f"only runtime/device.py names devices: {found}"
    if not here.startswith("server/"):
        assert not tops(path) & {"starlette", "uvicorn"}, "HTTP types live in server/"
    if not here.startswith(("cli/", "demo/", "bench/")) and here not in MAY_READ_ARGV:
        assert "sys.argv" not in code(path), "argv is read in cli/"
        assert "argparse" not in tops(path), "argv is read in cli/"


@pytest.mark.parametrize("path", of("nodes"), ids=name)
def test_law_3_nodes_move_nothing_and_touch_nothing(path: Path) -> None:
    text = code(path)
    moves = re.search(r"\.(cuda|cpu)\(|\.to\([^)]*device", text)
    assert not moves, f"the executor moves tensors: {moves}"
    assert "os" not in tops(path), "nodes read no environment"
    if name(path) not in MAY_TOUCH_FILES:
        assert not re.search(r"\bopen\(|\.write_|\.read_text|\.read_bytes", text)
        assert "pathlib" not in tops(path), "nodes touch no files"


@pytest.mark.parametrize("path", of("runtime") + of("cli") + of("server"), ids=name)
def test_law_4_no_family_outside_graphs_and_nodes(path: Path) -> None:
    found = FAMILIES.search(code(path))
    assert not found, f"a family's name: {found}"


@pytest.mark.parametrize("path", sorted((ROOT / "conf").rglob("*.yaml")), ids=name)
def test_law_4_no_family_in_policies(path: Path) -> None:
    assert not FAMILIES.search(path.read_text("utf-8"))


@pytest.mark.parametrize("path", GRAPHS, ids=name)
def test_law_4_no_device_or_policy_in_a_graph(path: Path) -> None:
    text = re.sub(r"#.*", "", path.read_text("utf-8"))
    assert not re.search(r"\b(cuda|mps|cpu|offload|placement|parallel)\b", text)


def test_law_5_the_command_line_loads_no_torch() -> None:
    check = (
        "import sys, cli.main, runtime; "
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", FILES + TESTS, ids=name)
def test_files_and_functions_keep_their_budget(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= MAX_FILE, "split the file by concept"
    for node in functions(ast.parse(text)):
        length = (node.end_lineno or 0) - node.lineno + 1
        allowed = f"{name(path)}:{node.name}" in LONG_FUNCTIONS
        assert length <= MAX_FUNCTION or allowed, f"{node.name} has {length} lines"


def test_the_median_file_is_short() -> None:
    lengths = sorted(p.read_text("utf-8").count("\n") for p in FILES)
    assert lengths[len(lengths) // 2] <= MEDIAN_FILE


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=name)
def test_names_say_what_is_inside(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "base"}
    classes = [n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ClassDef)]
    assert not [c for c in classes if c.endswith(("Manager", "Mixin", "Impl"))]


def test_every_package_is_listed_in_the_architecture_page() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    folders = sorted({name(p.parent) for p in FILES} - {"runtime"})
    missing = [folder for folder in folders if f"`{folder}`" not in page]
    assert not missing, f"say in docs/architecture.md what these are for: {missing}"


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=name)
def test_every_package_says_what_is_in_it(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), "say it in its docstring"


def test_no_machine_path_or_note_to_oneself_is_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.yaml", "*.md", "*.toml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    pattern = re.compile(r"(?<![.\w])/(?:work|root|home)/[a-z]|\b(?:TODO|FIXME|XXX)\b")
    found = [
        f for f in listed
        if (ROOT / f).is_file() and f != "tests/test_architecture.py"
        and pattern.search((ROOT / f).read_text("utf-8"))
    ]  # fmt: skip
    assert not found
