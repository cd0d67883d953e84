"""The names that an analyst finds after ``vastbench.`` and Tab."""

from jupyter_client.manager import start_new_kernel

import vastbench


def test_the_package_lists_its_public_names_alone():
    imported = {}
    exec("from vastbench import *", imported)
    assert dir(vastbench) == sorted(vastbench.__all__) == sorted(set(imported) - {"__builtins__"})


def test_tab_in_a_notebook_shows_them():
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        client.execute("import vastbench", reply=True, timeout=60)
        matches = client.complete("vastbench.", reply=True, timeout=60)["content"]["matches"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert sorted(match.removeprefix(".") for match in matches) == sorted(vastbench.__all__)
