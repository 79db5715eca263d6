"""The layout's traps and the rule of who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("datasets", "sim", "policies", "robot_driver")
TORCH = {"torch", "transformers", "accelerate", "torchvision", "lerobot"}
FILES = sorted(
    path
    for folder in ("vla", *LINKED)
    for path in (ROOT / folder).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)


def imports(path: Path, *, top_only: bool) -> set[str]:
    """Full names of what a module imports, everywhere in it or only when it is itself imported."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    if top_only:
        inner = {
            id(child)
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.walk(node)
        }
        nodes = [node for node in nodes if id(node) not in inner]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(path: Path) -> str:
    relative = path.relative_to(ROOT).parts
    if relative[0] in LINKED:
        return relative[0]
    if relative[1] in ("model", "training"):
        return relative[1]
    return "cli" if relative[1] in ("cli.py", "commands") else "vocabulary"


def test_links_point_beside_and_hold_no_package():
    for name in LINKED:
        link = ROOT / "vla" / name
        assert link.is_symlink() and link.resolve() == ROOT / name
        assert not (ROOT / name / "__init__.py").exists(), f"{name}/__init__.py would hide the library of that name"
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_hugging_face_library_is_still_datasets():
    code = "import datasets, vla.datasets; assert hasattr(datasets, 'load_dataset'), datasets.__file__"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_no_module_hides_the_standard_library():
    """Only matters where a folder can become sys.path[0], by running one of its files as a script."""
    hidden = [path for path in FILES if path.stem in sys.stdlib_module_names]
    assert not hidden


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_who_imports_whom(path):
    here = part(path)
    everywhere, at_import = imports(path, top_only=False), imports(path, top_only=True)
    ours = {name for name in everywhere if name.split(".")[0] == "vla"}
    assert not any(name.startswith("tests") for name in everywhere), "draccus installs a package named tests"
    forbidden = {
        "vocabulary": ("vla.model", "vla.training", *(f"vla.{name}" for name in LINKED), "vla.cli", "vla.commands"),
        "model": ("vla.training", *(f"vla.{name}" for name in LINKED), "vla.cli", "vla.commands"),
        "training": (*(f"vla.{name}" for name in LINKED), "vla.cli", "vla.commands"),
        "datasets": ("vla.model", "vla.training", "vla.sim", "vla.policies", "vla.robot_driver", "vla.cli"),
        "sim": ("vla.model", "vla.training", "vla.datasets", "vla.policies", "vla.robot_driver", "vla.cli"),
        "policies": ("vla.datasets", "vla.sim", "vla.robot_driver", "vla.cli"),
        "robot_driver": ("vla.model", "vla.training", "vla.datasets", "vla.sim", "vla.policies", "vla.cli"),
        "cli": (),
    }[here]
    wrong = [name for name in ours if any(name == bad or name.startswith(f"{bad}.") for bad in forbidden)]
    assert not wrong, f"{here} must not import {', '.join(wrong)}"
    heavy = {name for name in at_import if name.split(".")[0] in TORCH}
    if here in ("vocabulary", "datasets", "sim", "robot_driver", "cli"):
        assert not heavy, f"{here} imports {', '.join(heavy)} when it is imported"
    if here == "robot_driver":
        assert not {name for name in everywhere if name.split(".")[0] in TORCH - {"lerobot"}}


def test_the_vocabulary_needs_no_torch():
    modules = [f"vla.{path.stem}" for path in (ROOT / "vla").glob("*.py") if path.stem != "__init__"]
    code = f"import sys, importlib; [importlib.import_module(m) for m in {modules!r}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_the_lock_names_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--index-url" not in lock
    assert not (ROOT / "uv.lock").exists()


def test_mujoco_stays_within_the_range_that_libero_was_measured_on():
    import mujoco

    version = tuple(int(number) for number in mujoco.__version__.split(".")[:3])
    assert (3, 2, 3) <= version <= (3, 3, 2)
