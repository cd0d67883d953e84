"""Profiles: what they hold, and how a malformed one is refused."""

from pathlib import Path

import pytest

from vastbench.emulator import profile
from vastbench.errors import NotFound, SettingsError


@pytest.mark.parametrize("name", ["default", "seed", "cached", "large-image", "flaky", "rehearsal", "market"])
def test_the_profiles_that_come_with_vastbench_load(name: str) -> None:
    assert profile.load(name).about


def test_a_profile_that_extends_another_replaces_whole_parameters(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "default"\nabout = "mine"\n[boot]\nrunning = { kind = "fixed", value = 5, basis = "assumption" }\n', "utf-8"
    )
    mine, default = profile.load(path), profile.load("default")
    assert mine.boot.running == profile.Fixed(kind="fixed", value=5, basis="assumption")
    assert mine.boot.never == default.boot.never


def test_a_profile_is_known_by_its_content(tmp_path: Path) -> None:
    same, other = tmp_path / "same.toml", tmp_path / "other.toml"
    same.write_text('extends = "default"\nabout = "the same"\n', "utf-8")
    other.write_text('extends = "default"\nabout = "other"\n[boot]\nnever = { p = 0.5, basis = "assumption" }\n', "utf-8")
    default, renamed, edited = (profile.content_hash(profile.load(one)) for one in ("default", same, other))
    assert default == renamed != edited


def test_the_flaky_profile_is_worse_than_the_default_one() -> None:
    flaky, default = profile.load("flaky"), profile.load("default")
    assert flaky.boot.never.p == 0.15 > default.boot.never.p
    assert flaky.market.offer_gone.p == 0.3 > default.market.offer_gone.p


def test_a_rehearsal_meets_no_failure_but_the_chosen_ones() -> None:
    calm = profile.load("rehearsal")
    chances = [calm.boot.never, calm.boot.oci_error, calm.boot.exits, calm.ssh.auth_never, calm.market.offer_gone]
    chances += [calm.market.offer_gone_stale, calm.faults.bad_gateway, calm.faults.create_reply_lost]
    assert [chance.p for chance in chances] == [0] * 8


def test_boots_and_prices_swing_with_the_hour_where_the_profile_says_so() -> None:
    market, default = profile.load("market"), profile.load("default")
    noon, midnight = 86400 / 4, 3 * 86400 / 4
    assert market.slower(noon) == pytest.approx(1.42, abs=0.01)
    assert market.slower(noon) * market.slower(midnight) == pytest.approx(1.0)
    assert market.dearer(noon) == pytest.approx(1.105, abs=0.001)
    assert [default.slower(noon), default.dearer(noon)] == [1.0, 1.0]


def test_a_profile_without_hours_is_still_known_as_it_was() -> None:
    assert profile.content_hash(profile.load("cached")) == "598438d88c4b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[boot]\nnever = { p = 1.5, basis = 'data' }", ("boot.never.p", "1.5")),
        ("[boot]\nnever = { p = 0.5, basis = 'hearsay' }", ("boot.never.basis", "hearsay")),
        ("[boot]\nnever = { p = 0.5 }", ("boot.never", "basis")),
        ("[latency]\nlist = { kind = 'lognormal', median = nan, sigma = 1, basis = 'data' }", ("latency.list", "nan")),
        ("[latency]\nlist = { kind = 'lognormal', median = 1, sigma = -1, basis = 'data' }", ("latency.list", "-1")),
        ("[latency]\nlist = { kind = 'sequence', values = [], basis = 'data' }", ("latency.list", "[]")),
        ("[latency]\nlist = { kind = 'gamma', basis = 'data' }", ("latency.list", "gamma")),
        ("[latency]\nlit = { kind = 'fixed', value = 1, basis = 'data' }", ("latency.lit", "fixed")),
        ("[market]\ngpus = []", ("market.gpus", "[]")),
        ("this is no toml", ("cannot be read",)),
        ("extends = 3", ("extends", "3")),
    ],
)
def test_a_malformed_profile_is_refused_with_its_file_key_and_value(tmp_path: Path, text: str, said: tuple[str, ...]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text if "extends" in text or "toml" in text else f'extends = "default"\n{text}\n', "utf-8")
    with pytest.raises(SettingsError) as caught:
        profile.load(path)
    assert all(word in str(caught.value) for word in (path.name, *said)), str(caught.value)


def test_a_profile_that_extends_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.toml"
    path.write_text(f'extends = "{path}"\n', "utf-8")
    with pytest.raises(SettingsError, match="extends itself"):
        profile.load(path)


def test_an_unknown_profile_is_not_found_and_the_known_ones_are_named() -> None:
    with pytest.raises(NotFound, match=r"default.*seed"):
        profile.load("nonsense")
