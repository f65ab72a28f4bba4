"""What is released: built, looked into, and installed where nothing else is."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import st_eval_callbacks

ROOT = Path(__file__).parents[1]
VERSION = st_eval_callbacks.__version__
BESIDE_THE_PACKAGE = {"PKG-INFO", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", ".gitignore"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return {path.suffix: path for path in folder.iterdir()}


def modules() -> set[str]:
    package = ROOT / "st_eval_callbacks"
    return {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.suffix in (".py", ".typed")}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = wheel.read(f"st_eval_callbacks-{VERSION}.dist-info/METADATA").decode()
        entry_points = wheel.read(f"st_eval_callbacks-{VERSION}.dist-info/entry_points.txt").decode()
    assert names == modules()
    assert f"\nVersion: {VERSION}\n" in metadata
    assert "# st_eval_callbacks" in metadata
    assert "st-eval = " in entry_points


@pytest.mark.slow
def test_the_source_distribution_holds_no_tests_and_no_data(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert names - modules() == BESIDE_THE_PACKAGE


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".whl", ".gz"])
def test_it_installs_where_nothing_else_is_and_says_its_version(
    kind: str, built: dict[str, Path], tmp_path: Path
) -> None:
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    given = [str(built[kind])]
    if kind == ".gz":
        # A source distribution is built by hatchling, which is borrowed here: nothing is downloaded in a test.
        site = next(path for path in map(Path, sys.path) if (path / "hatchling").is_dir())
        [own_site] = tmp_path.glob("lib/python*/site-packages")
        (own_site / "borrowed.pth").write_text(f"{site}\n")
        given.append("--no-build-isolation")
    subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", *given], check=True, capture_output=True
    )
    shown = subprocess.run(
        [str(python), "-m", "st_eval_callbacks", "--version"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert shown.stdout.split() == ["st-eval-callbacks", VERSION]


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(VERSION)}\] - \d{{4}}-\d\d-\d\d$", text, re.M)
