"""The architecture: layers, lazy imports, public names, independence of modalities."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import mld_core

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("mld_core", "plugins", "cli") for path in (ROOT / folder).rglob("*.py")
)
EXAMPLES = sorted((ROOT / "examples").glob("*/*.py"))
TEMPLATE = ROOT / "cli" / "mld" / "scaffold" / "template" / "modality" / "mld_newkind.py"


def python(code: str) -> str:
    """Output of a new interpreter."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_imports_point_down() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import mld_core",
        "import mld",
        "from mld_core import SpecError, ExitCode",
        "import mld.config.spec",
        "import mld.storage.run_dir",
        "import mld_core.diffusion.limits, mld_core.diffusion.role_schemes",
    ],
)
def test_import_does_not_load_torch(code: str) -> None:
    assert python(f"{code}; import sys; print('torch' in sys.modules)") == "False"


def test_help_does_not_load_large_libraries() -> None:
    code = (
        "import sys, contextlib; sys.argv = ['mld', '--help']\n"
        "from mld.app import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print([m for m in ('torch', 'pydantic', 'yaml', 'pluggy') if m in sys.modules])"
    )
    assert python(code).endswith("[]")


TEXT_SPEC = """
name: x
data: {kind: examples}
modalities: {a: {kind: text}, b: {kind: text}}
"""
LARGE_LIBRARIES = (
    *("lightning_fabric", "multivae", "networkx", "pandas", "rich", "scipy", "sklearn", "sympy"),
    *("diffusers", "huggingface_hub", "transformers"),
    *("mlflow", "tensorboard", "trackio", "wandb"),
    *("jinja2", "torch._dynamo", "torchvision", "rdkit.Chem.Draw", "rdkit.Chem.QED"),
)


@pytest.mark.parametrize(
    ("args", "unwanted"),
    [
        (
            ["spec", "validate", "text.yaml"],
            ["rdkit", "selfies", "torchaudio", "soundfile", "PIL", "mld_image", "mld.pipeline"],
        ),
        (["modalities"], ["mld.pipeline", "mld.training"]),
    ],
)
def test_commands_do_not_load_large_libraries(
    warm_python: Callable[..., Any], tmp_path: Path, args: list[str], unwanted: list[str]
) -> None:
    (tmp_path / "text.yaml").write_text(TEXT_SPEC)
    code = (
        "import sys\nfrom mld.app import main\n"
        "try: main()\n"
        "except SystemExit as exit: assert not exit.code\n"
        f"print([m for m in {(*LARGE_LIBRARIES, *unwanted)!r} if m in sys.modules])"
    )
    result = warm_python(code, *args, cwd=tmp_path)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stderr


def test_loading_a_run_does_not_load_large_libraries(warm_python: Callable[..., Any]) -> None:
    code = (
        "import sys, mld.inference.trained_run\n"
        f"print([m for m in {LARGE_LIBRARIES!r} if m in sys.modules])"
    )
    assert warm_python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["mld_core", "mld"])
def test_public_names_can_be_imported(package: str) -> None:
    module = import_module(package)
    assert module.__all__ == sorted(set(module.__all__))
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize("path", [*EXAMPLES, TEMPLATE], ids=lambda path: path.stem)
def test_third_party_modules_import_only_public_names(path: Path) -> None:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            assert not any(name.name.startswith("mld") for name in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mld"):
            assert node.module == "mld_core"
            assert {name.name for name in node.names} <= set(mld_core.__all__)


def test_core_and_mld_name_no_modality() -> None:
    kinds = ("image", "audio", "molecule")
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] == "plugins":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            named = [kind for kind in kinds if f'"{kind}"' in line or f"'{kind}'" in line]
            assert not named, f"{path}:{number} names {named}"


BANNED_WORDS = {
    *("apprentice", "asked", "complaint", "contend", "corridor", "leash", "ledger", "lessons"),
    *("misfit", "rival", "said", "stranger", "told", "witness", "yardstick"),
}
"""Words that no name contains."""
BANNED_NAMES = {"alike", "found", "kept", "made", "own", "whole", "wrong"}
"""Words that are no names by themselves, unlike "file_not_found"."""


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each function, class, parameter, variable and attribute defined."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.alias(asname=str(name)):
                yield node.lineno, name


def test_names_say_what_they_hold() -> None:
    """Names are nouns of the field (`message`, `spec`, `row`), not participles or metaphors."""
    folders = ("mld_core", "plugins", "cli", "benchmarks", "examples", "tests")
    banned = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in defined_names(ast.parse(path.read_text()))
        if name in BANNED_NAMES
        or BANNED_WORDS & {word.lower() for word in re.findall("[A-Z]?[a-z]+", name)}
    ]
    assert not banned
