"""A bench refuses what it cannot use where it is made, before anything is started, made or rented."""

import pytest

from vastbench.bench.bench import Bench
from vastbench.errors import BudgetRefused, NotFound, SettingsError, StoreError, UsageError
from vastbench.settings import LIVE_URL


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch, tmp_path):
    for name in ("VAST_URL", "VAST_API_KEY", "VASTBENCH_SPEED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "home" / "runs.sqlite"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"profile": "cachd"}, NotFound, "'cachd'.*Did you mean cached.*Known profiles: cached, default, flaky"),
        ({"profile": "mine.toml"}, NotFound, "'mine.toml'"),
        ({"profile": "broken.toml"}, SettingsError, "broken.toml"),
        ({"speed": 0}, UsageError, "speed is 0"),
        ({"speed": "fast"}, UsageError, "speed is 'fast'"),
        ({"speed": float("nan")}, UsageError, "speed is nan"),
        ({"budget_usd": -1}, BudgetRefused, "budget is -1"),
        ({"budget_usd": 0}, BudgetRefused, "budget is 0"),
        ({"budget_usd": "much"}, BudgetRefused, "budget is 'much'"),
        ({"budget_usd": float("inf"), "live": True}, BudgetRefused, "budget is inf"),
        ({"live": True}, BudgetRefused, "needs a budget"),
        ({"live": True, "budget_usd": 1.0}, SettingsError, "no API key"),
        ({"seed": "one"}, UsageError, "seed is 'one'"),
        ({"max_instances": 0}, UsageError, "At most 0 instances"),
        ({"max_instances": "two"}, UsageError, "At most 'two' instances"),
        ({"study": "no name"}, UsageError, "no name"),
        ({"store": "folder"}, StoreError, "folder is a folder"),
        ({"store": "broken.toml"}, StoreError, "broken.toml is not a store"),
        ({"store": "mysql://host/runs"}, StoreError, "'mysql'"),
        *(
            ({"store": place, "live": True, "budget_usd": 1.0}, SettingsError, "may end with this process")
            for place in (
                ":memory:",
                "sqlite://",
                "sqlite:///:memory:",
                "file::memory:",
                "sqlite:///file:x?mode=memory&uri=true",
            )
        ),
        *(({"study": name}, UsageError, "cannot have the name") for name in ("..", "-x", "a/b", "a\n", "x" * 81)),
        ({"truth": "nowhere/truth.jsonl"}, SettingsError, "nowhere/truth.jsonl"),
        ({"api_key_file": "nowhere"}, SettingsError, "nowhere"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_made(tmp_path, wrong, error, said):
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.toml").write_text("not = [toml")
    with pytest.raises(error, match=said):
        Bench(**wrong)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "broken.toml"}


@pytest.mark.parametrize("url", ["", "console.vast.ai", "ftp://127.0.0.1", "http://example.com", f"{LIVE_URL}?key=1"])
def test_a_live_bench_refuses_a_marketplace_that_has_no_address(monkeypatch, url):
    monkeypatch.setenv("VAST_URL", url)
    monkeypatch.setenv("VAST_API_KEY", "a-key")
    with pytest.raises(SettingsError, match="The marketplace's URL"):
        Bench(live=True, budget_usd=1.0)
