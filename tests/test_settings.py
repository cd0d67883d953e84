"""What the environment decides, and in which order."""

import pwd
import tempfile
from pathlib import Path

import pytest

from vastbench.errors import SettingsError
from vastbench.settings import LIVE_URL, Settings, default_store, ensure_home, environment_for_child, is_loopback


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for name in ("VAST_URL", "VAST_API_KEY", "VASTBENCH_STORE", "VASTBENCH_SPEED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_default_is_the_real_marketplace_without_a_key():
    settings = Settings.from_environment()
    assert settings.vast_url == LIVE_URL
    with pytest.raises(SettingsError, match="no API key"):
        settings.require_key()


def test_a_key_file_wins_over_the_environment_and_that_over_official_files(monkeypatch, tmp_path):
    official = tmp_path / "config" / "vastai" / "vast_api_key"
    official.parent.mkdir(parents=True)
    official.write_text("from-official\n")
    assert Settings.from_environment().require_key().get_secret_value() == "from-official"
    monkeypatch.setenv("VAST_API_KEY", "from-environment")
    assert Settings.from_environment().require_key().get_secret_value() == "from-environment"
    given = tmp_path / "given"
    given.write_text("from-file\n")
    assert Settings.from_environment(api_key_file=given).require_key().get_secret_value() == "from-file"


def test_the_key_is_not_in_the_repr(monkeypatch):
    monkeypatch.setenv("VAST_API_KEY", "canary-123")
    assert "canary-123" not in repr(Settings.from_environment())


@pytest.mark.parametrize("content", ["", "two words", "a\nb"])
def test_a_key_file_must_hold_one_key(tmp_path, content):
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(SettingsError, match="does not hold one key"):
        Settings.from_environment(api_key_file=path)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
def test_a_key_file_may_begin_with_a_byte_order_mark(tmp_path, mark):
    (tmp_path / "key").write_bytes(mark + b"abc\r\n")
    assert Settings.from_environment(api_key_file=tmp_path / "key").require_key().get_secret_value() == "abc"


def test_a_user_without_a_home_gets_a_temporary_one_and_one_line_about_it(monkeypatch, tmp_path, caplog):
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "VASTBENCH_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "gone")  # is put back afterwards, whatever is set meanwhile
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["no such user"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert Settings.from_environment().vast_api_key is None
    assert Path(default_store()).is_relative_to(tmp_path)
    assert Path.home().stat().st_mode & 0o777 == 0o700
    assert len(caplog.messages) == 1
    assert "HOME is not set" in caplog.text


@pytest.mark.parametrize("home", ["", "relative"])
def test_a_home_that_is_no_absolute_path_gives_way_to_the_users_own(monkeypatch, tmp_path, caplog, home):
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("me", "x", 1, 1, "", str(tmp_path), "")))
    ensure_home()
    assert Path.home() == tmp_path
    assert [home in message for message in caplog.messages] == ([True] if home else [])


def test_a_missing_key_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="nowhere"):
        Settings.from_environment(api_key_file=tmp_path / "nowhere")


def test_only_an_emulator_on_this_machine_may_run_faster(monkeypatch):
    monkeypatch.setenv("VASTBENCH_SPEED", "20")
    with pytest.raises(SettingsError, match="not on this machine"):
        Settings.from_environment()
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9000")
    assert Settings.from_environment().vastbench_speed == 20


@pytest.mark.parametrize("value", ["fast", "0", "nan"])
def test_an_unusable_speed_is_refused_by_name(monkeypatch, value):
    monkeypatch.setenv("VASTBENCH_SPEED", value)
    with pytest.raises(SettingsError, match="VASTBENCH_SPEED"):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:5", True),
        ("http://127.0.0.1.example.com", False),
        ("https://console.vast.ai", False),
        ("", False),
    ],
)
def test_loopback_is_told_by_the_host(url, expected):
    assert is_loopback(url) is expected


def test_a_child_is_given_the_secrets_that_it_has_a_use_for(monkeypatch):
    secrets = {
        "VAST_API_KEY": "k",
        "vast_api_key": "k",
        "VASTBENCH_STORE": "postgresql://me:s@host/runs",
        "PGPASSWORD": "s",
    }
    for name, value in (secrets | {"OMP_NUM_THREADS": "2"}).items():
        monkeypatch.setenv(name, value)
    assert environment_for_child()["OMP_NUM_THREADS"] == "2"
    assert not secrets.keys() & environment_for_child().keys()
    assert secrets.keys() & environment_for_child(key=True).keys() == {"VAST_API_KEY", "vast_api_key"}
    assert secrets.keys() & environment_for_child(store=True).keys() == {"VASTBENCH_STORE", "PGPASSWORD"}
