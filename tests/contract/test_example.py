"""The fixture for other projects is there by itself, imports nothing before it is used, and the example passes with it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/official-client"


def run(*words, folder, **environment):
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    return subprocess.run(words, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=150)


def test_the_example_with_the_official_client_passes():
    path = f"{ROOT / '.venv-vastai/bin'}{os.pathsep}{os.environ['PATH']}"
    done = run(folder=EXAMPLE, PATH=path, VASTAI_NO_UPDATE_CHECK="1")
    assert "3 passed" in done.stdout, done.stdout


def test_the_fixture_costs_nothing_until_it_is_used(tmp_path):
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n"
        "def test_nothing_is_imported():\n"
        "    assert [name for name in sys.modules if name.startswith('vastbench.emulator') or name == 'httpx'] == []\n"
    )
    done = run(folder=tmp_path)
    assert "1 passed" in done.stdout, done.stdout


def test_what_the_fixture_gives_is_what_its_mark_asks_for(tmp_path):
    (tmp_path / "test_theirs.py").write_text(
        "import os, urllib.request, pytest\n"
        "def test_first(vast_emulator):\n"
        "    assert (vast_emulator.seed, vast_emulator.speed) == (1, 20)\n"
        "    assert os.environ['VAST_URL'] == vast_emulator.url\n"
        "    assert os.environ['VAST_API_KEY'] == vast_emulator.api_key\n"
        "@pytest.mark.vast_emulator(seed=7, speed=100)\n"
        "def test_marked(vast_emulator):\n"
        "    assert (vast_emulator.seed, vast_emulator.speed) == (7, 100)\n"
        "def test_gone_afterwards():\n"
        "    assert 'VAST_URL' not in os.environ\n"
        "@pytest.mark.vast_emulator(profile='cachd')\n"
        "def test_wrong(vast_emulator): ...\n"
    )
    done = run("--strict-markers", folder=tmp_path)
    assert "3 passed, 1 error" in done.stdout, done.stdout
    assert "cachd" in done.stdout
