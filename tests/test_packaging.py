"""What is shipped: the wheel outside a checkout, the two lists of dependencies, the public names."""

import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

import vastbench
from vastbench.bundled import shared

ROOT = shared(".")
FIXED = {"jupyterlab", "papermill", "pandas", "matplotlib", "httpx", "paramiko", "nbval"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_notebooks_data_profiles_and_migrations(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "vastbench/_share/notebooks/01-integration-test.ipynb",
        "vastbench/_share/data/runs/2026-01-02-rtx4090.json",
        "vastbench/_share/data/profiles/default.toml",
        "vastbench/store/migrations/env.py",
        "vastbench/report/templates/index.html.j2",
        "vastbench/py.typed",
    ):
        assert name in names


def test_an_installed_wheel_finds_them_outside_a_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True, timeout=60)
    check = (
        f"import sys; sys.path.insert(0, {str(site)!r});"
        "import vastbench.notebooks.running, vastbench.emulator;"
        f"assert vastbench.__file__.startswith({str(site)!r});"
        "assert vastbench.notebooks.running.find_notebook('01-integration-test').is_file();"
        "vast = vastbench.emulator(profile='seed', speed=50).__enter__(); print(vast.url); vast.stop()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", check], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:" in done.stdout


def test_environment_and_project_name_the_same_packages_and_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = re.findall(r"^ +- ([\w-]+)([<>=].*)$", (ROOT / "environment.yml").read_text(), re.MULTILINE)
    bootstrapped = {name.removesuffix("-base"): versions for name, versions in environment if name != "python"}
    wanted = dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in project["dependencies"])
    assert bootstrapped == {name.lower(): versions for name, versions in wanted.items()}
    assert set(bootstrapped) >= FIXED


def test_public_names_are_sorted_and_exist():
    assert vastbench.__all__ == sorted(vastbench.__all__)
    for name in vastbench.__all__:
        assert getattr(vastbench, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nowhere"):
        vastbench.nowhere  # noqa: B018
