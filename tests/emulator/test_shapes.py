"""The emulator answers in the shapes of another marketplace's answers, and runs work against them."""

import json

import httpx
import pytest

from tests.fleet import bench, reachable
from tests.profiles import certain
from vastbench.cli.probe import probe
from vastbench.clock import Clock
from vastbench.emulator import Emulator
from vastbench.emulator.shapes import conform, read_shapes
from vastbench.errors import SettingsError
from vastbench.record.conditions import Conditions
from vastbench.vast.api import VastApi
from vastbench.vast.shapes import Shapes, shape_of

SPEED = 60


@pytest.fixture
def saved(tmp_path):
    """What a probe of an emulator saves, ready to be changed."""
    shapes, clock = Shapes(), Clock(SPEED)
    with (
        Emulator(certain(tmp_path), seed=4, speed=SPEED) as vast,
        VastApi(vast.url, vast.api_key, clock=clock, observe=shapes) as api,
    ):
        assert {finding.state for finding in probe(api, Conditions())} == {"ok"}
    return shapes.to_dict()


def test_a_run_passes_against_the_shapes_that_a_probe_saved(tmp_path, monkeypatch, saved):
    offers = saved["answers"]["POST /api/v0/bundles/"]["200"]["object"]["offers"]["array"]["object"]
    offers["dph_total"] = {"string": {}}
    offers["brand_new"] = {"object": {"inside": {"integer": {}}}}
    del offers["geolocation"]
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps(saved))
    with Emulator(certain(tmp_path), seed=4, speed=SPEED, shapes=path) as vast:
        headers = {"Authorization": f"Bearer {vast.api_key}"}
        row = httpx.post(f"{vast.url}/api/v0/bundles/", json={"limit": 1}, headers=headers).json()["offers"][0]
        assert isinstance(row["dph_total"], str)
        assert row["brand_new"] == {}
        assert "geolocation" not in row
        reachable(vast, SPEED, monkeypatch)
        with bench(tmp_path, live=True, budget_usd=1) as opened:
            assert opened.run().cause == ""


@pytest.mark.parametrize(
    ("fault", "seed", "lacks"),
    [
        ("no-user-write", 1, {"user_write": 403}),
        ("no-user-write", 2, {"user_write": 400}),  # a team's key
        ("restricted-key", 1, {"instance_write": 403, "user_read": 403, "user_write": 403}),
        ("key-forgotten", 1, {}),
    ],
)
def test_the_emulator_refuses_what_the_probed_key_may_not_do(tmp_path, fault, seed, lacks):
    shapes, clock, path = Shapes(), Clock(SPEED), tmp_path / "shapes.json"
    with (
        Emulator(certain(tmp_path), seed=seed, speed=SPEED, faults={fault: 1}) as vast,
        VastApi(vast.url, vast.api_key, clock=clock, observe=shapes) as api,
    ):
        probe(api, Conditions())
    path.write_text(json.dumps(shapes.to_dict()))
    assert read_shapes(path).lacks == lacks
    again = Shapes()
    with (
        Emulator(certain(tmp_path), seed=3, speed=SPEED, shapes=path) as vast,
        VastApi(vast.url, vast.api_key, clock=clock, observe=again) as api,
    ):
        probe(api, Conditions())
    path.write_text(json.dumps(again.to_dict()))
    assert read_shapes(path).lacks == lacks


def test_a_page_of_a_proxy_in_front_says_nothing_of_the_key(tmp_path, saved):
    saved["answers"]["POST /api/v0/ssh/"] = {"403": {"text": {}}}
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps(saved))
    assert read_shapes(path).lacks == {}


def test_shapes_hold_names_and_types_and_no_value(saved):
    text = json.dumps(saved)
    for secret in ("RTX", "127.0.0.1", "ssh-ed25519", "@", "25.0"):
        assert secret not in text


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"schema": 2, "answers": {}}', '{"schema": 1, "answers": 3}'])
def test_a_file_without_shapes_is_refused(tmp_path, content):
    path = tmp_path / "shapes.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"shapes\.json"):
        Emulator(shapes=path)


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        ({"a": 1}, {"a": "x"}, {"a": "1"}),
        ({"a": 1}, {"a": 1.5}, {"a": 1.0}),
        ({"a": 1}, {"a": None}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 1, "new": [1]}, {"a": 1, "new": []}),
        ({"rows": [{"a": 1}]}, {"rows": []}, {"rows": [{"a": 1}]}),
        ({"rows": [{"a": True}]}, {"rows": [{"a": "x"}, {}]}, {"rows": [{"a": True}]}),
    ],
)
def test_a_value_takes_a_shape_as_far_as_it_can(value, like, expected):
    assert conform(value, shape_of(like), changing=False) == expected
    assert conform(value, shape_of(value), changing=False) == value


def test_what_looks_different_at_other_times_keeps_what_the_shape_lacks():
    assert conform({"ports": {"22/tcp": []}}, shape_of({"ports": {}, "more": 1}), changing=True) == {
        "ports": {"22/tcp": []},
        "more": 0,
    }
