"""Imports point down, heavy libraries stay where they belong, and every module says what it is."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = ("edge", "export")  # the packages themselves import nothing of ours, so all may import them
STAGES = ("edge.capture", "edge.model", "edge.answer", "edge.deliver", "edge.host")
BASE = ("edge.config", "edge.messages", "edge.records", "edge.errors", "edge.share")

# Of our own modules, what a module may import: the first prefix that fits decides.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "edge.errors": (),
    "edge.records": (),
    "edge.messages": ("edge.messages", "edge.records", "edge.errors"),
    "edge.share": ("edge.errors",),
    "edge.config": BASE,
    **{stage: (stage, *BASE) for stage in STAGES},
    "edge.pipeline": (*STAGES, *BASE),
    "edge.daemon": ("edge.daemon", "edge.pipeline", *STAGES, *BASE),
    "edge": ("edge",),
    "export.demo": ("edge", "export"),
    "export.calibration": ("export", "edge.demo", "edge.model", "edge.records", "edge.errors"),
    "export": ("export", "edge.model", "edge.messages", "edge.records", "edge.errors"),
}
# Where a foreign library may be imported; elsewhere in edge and export it may not.
MAY_BE_IMPORTED_BY: dict[str, tuple[str, ...]] = {
    "torch": ("export.reference", "export.demo"),
    "torchvision": ("export.reference",),
    "transformers": ("export.reference", "export.demo"),
    "optimum": ("export.reference",),
    "onnx": ("export",),
    "onnx_ir": ("export",),
    "onnxscript": ("export",),
    "safetensors": ("export",),
    "huggingface_hub": ("export",),
    "tests": (),
    "av": ("edge.capture", "edge.demo", "export.footage", "export.demo"),
    "onnxruntime": ("edge.model", "export"),
    "llguidance": ("edge.model",),
    "paho": ("edge.deliver", "edge.demo", "edge.check"),
    "sqlite3": ("edge.deliver",),
    "amqtt": ("edge.demo",),
    "sdnotify": ("edge.host",),
}
# Imported in a fresh interpreter, these load none of those.
HEAVY = frozenset(
    {
        "av",
        "onnxruntime",
        "llguidance",
        "tokenizers",
        "onnx",
        "torch",
        "torchvision",
        "transformers",
        "optimum",
    }
)


def modules() -> dict[str, Path]:
    found = {}
    for package in ROOTS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports(module: str) -> Iterator[str]:
    """Yield what a module imports, anywhere in it; ``from a import b`` is ``a.b`` where that is a module."""
    path = MODULES[module]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    allowed = next(below for prefix, below in MAY_IMPORT.items() if within(module, (prefix,)))
    if module in ROOTS:
        allowed = ()
    ours = {name for name in imports(module) if within(name, ROOTS)}
    assert {name for name in ours - set(ROOTS) if not within(name, allowed)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_the_libraries_of_its_place(module: str) -> None:
    foreign = {name.split(".")[0] for name in imports(module)}
    misplaced = {
        library
        for library in foreign & MAY_BE_IMPORTED_BY.keys()
        if not within(module, MAY_BE_IMPORTED_BY[library])
    }
    assert misplaced == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_in_its_first_line_what_it_is(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    said = ast.get_docstring(ast.parse(text))
    if not text:
        return  # an empty __init__.py only makes a package
    assert said
    assert said.splitlines()[0].rstrip().endswith((".", ":", "?"))


@pytest.mark.parametrize(
    "module",
    [
        "edge.cli",
        "edge.config",
        "edge.pipeline",
        "edge.model.bundle",
        "export.cli",
        "export.reference",
        "export.verify",
    ],
)
def test_what_starts_often_starts_light(module: str) -> None:
    assert HEAVY & loaded_by(module) == set()


@pytest.mark.parametrize("module", ["edge.cli", "export.cli"])
def test_a_command_line_starts_without_numpy(module: str) -> None:
    assert {"numpy", "PIL", "paho"} & loaded_by(module) == set()


def test_a_capture_process_starts_without_the_messages() -> None:
    assert {"pydantic", *HEAVY - {"av"}} & loaded_by("edge.capture.live, edge.daemon.children") == set()


@pytest.mark.parametrize("module", ["export.convert", "export.comparison", "export.golden"])
def test_torch_is_loaded_by_the_reference_alone_and_only_when_it_runs(module: str) -> None:
    assert {"torch", "torchvision", "transformers", "optimum"} & loaded_by(module) == set()


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_fences_would_stop_a_trespasser() -> None:
    assert not within("edge.models", ("edge.model",))
    assert within("edge.model.engine", ("edge.model",))
    assert "edge.errors" in set(imports("export.reference.libraries"))
    assert "torch" in set(imports("export.reference.libraries"))  # also inside a function
