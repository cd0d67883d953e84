"""The names that an analyst finds after ``vastbench.`` and Tab, and those of the tests."""

import ast
from pathlib import Path

from jupyter_client.manager import KernelManager

import vastbench


def test_the_package_lists_its_public_names_alone():
    imported = {}
    exec("from vastbench import *", imported)
    assert dir(vastbench) == sorted(vastbench.__all__) == sorted(set(imported) - {"__builtins__"})


def test_tab_in_a_notebook_shows_them(tmp_path):
    manager = KernelManager(kernel_name="python3", transport="ipc", ip=str(tmp_path / "k"))
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(60)
        client.execute("import vastbench", reply=True, timeout=60)
        matches = client.complete("vastbench.", reply=True, timeout=60)["content"]["matches"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert sorted(match.removeprefix(".") for match in matches) == sorted(vastbench.__all__)


def test_a_test_name_has_at_most_70_characters():
    files = Path(__file__).parent.rglob("*.py")
    functions = (node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef))
    assert [node.name for node in functions if node.name.startswith("test_") and len(node.name) > 70] == []
