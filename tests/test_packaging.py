"""What is installed: one top-level package, with its data, settings and command."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import parser_vae

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    # A copy, because building leaves folders beside the sources.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("parser_vae", "cli", "configs", "data"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = ("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", ".", "./source")
    run(sys.executable, *build, at=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean_python(wheel: Path) -> Path:
    """An environment with the wheel, which finds the dependencies where this one does, and not this checkout."""
    folder = wheel.parent / "env"
    venv.create(folder, with_pip=False)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    python = folder / "bin" / "python"
    install = ("-m", "pip", f"--python={python}", "install", "-q", "--no-deps", "--no-index", str(wheel))
    run(sys.executable, *install, at=folder)
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (purelib / "dependencies.pth").write_text("\n".join(dependencies))
    return python


def run(*command: str | Path, at: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=at, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (top_level,) = [name for name in names if name.endswith("top_level.txt")]
        assert archive.read(top_level).decode().split() == ["parser_vae"]
    assert {name.split("/")[0] for name in names} == {
        "parser_vae",
        f"parser_vae-{parser_vae.__version__}.dist-info",
    }


def test_the_wheel_holds_every_module_recipe_and_sample(wheel: Path) -> None:
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "parser_vae").rglob("*.py")}
    for folder, patterns in {"cli": ["*.py"], "configs": ["*.py", "*.toml"], "data": ["*.py", "*/*.conllu"]}.items():
        for pattern in patterns:
            expected |= {f"parser_vae/{path.relative_to(ROOT)}" for path in (ROOT / folder).glob(pattern)}
    with zipfile.ZipFile(wheel) as archive:
        missing = expected | {"parser_vae/py.typed"}
        missing -= set(archive.namelist())
    assert not missing


def test_an_installed_package_works_and_leaves_no_other_names(clean_python: Path, tmp_path: Path) -> None:
    for name in ("cli", "data", "configs"):
        done = subprocess.run([clean_python, "-c", f"import {name}"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert f"No module named '{name}'" in done.stderr
    where = run(clean_python, "-c", "import parser_vae; print(parser_vae.__file__)", at=tmp_path)
    assert str(clean_python.parents[1]) in where
    command = clean_python.parent / "parser-vae"
    assert run(command, "--version", at=tmp_path) == f"parser-vae {parser_vae.__version__}\n"


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == parser_vae.__version__
    assert f"version: {parser_vae.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {parser_vae.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_package_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    present = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "parser_vae").rglob("__init__.py")} | {
        "parser_vae.cli",
        "parser_vae.configs",
        "parser_vae.data",
    }
    assert set(declared) == present
