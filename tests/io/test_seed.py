"""The seed's record is read for what it proves, and written back as it was."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vastbench.bundled import shared
from vastbench.errors import SettingsError
from vastbench.io.files import read_run
from vastbench.io.seed import seed_from_run
from vastbench.record.document import run_from_dict, run_to_dict
from vastbench.record.phases import Outcome, PhaseName
from vastbench.render.text import run_text

SEED = shared("data/runs") / "2026-01-02-rtx4090.json"
PLAIN = json.loads(SEED.read_text())


@pytest.fixture
def seed():
    return read_run(SEED)


def rows(run):
    return {row.name: row for row in run.rows()}


def test_running_lies_between_the_last_loading_and_the_running_answer(seed):
    running = seed.phase(PhaseName.WAIT_RUNNING)
    start = running.start.upper
    assert running.end.no_received - start == pytest.approx(62.5)
    assert running.end.upper - start == pytest.approx(72.77)


def test_the_lower_bound_is_widened_by_one_request_s_latency_and_says_so(seed):
    running = seed.phase(PhaseName.WAIT_RUNNING)
    assert running.end.lower - running.start.upper == pytest.approx(62.5 - 0.35)
    assert "widened by one request's latency" in running.detail


def test_ssh_was_reachable_within_ten_point_four_seconds_of_running(seed):
    running, port = seed.phase(PhaseName.WAIT_RUNNING).end, seed.phase(PhaseName.PORT).end
    assert port.lower == running.upper
    assert port.upper - running.upper <= 10.4


def test_the_unattributed_time_is_four_point_two_one_seconds(seed):
    assert rows(seed)[PhaseName.UNATTRIBUTED].seconds == pytest.approx(4.21)


def test_the_naive_cost_and_the_gpu_meter(seed):
    assert seed.cost.naive_usd == pytest.approx(0.004644, abs=5e-7)
    assert seed.cost.gpu_usd == pytest.approx(0.0011, abs=5e-5)
    assert seed.cost.gpu_usd == pytest.approx(23.36 * 0.1689 / 3600)


def test_the_seven_phases_keep_their_figures(seed):
    reported = [1.26, 1.59, 72.77, 12.36, 4.18, 2.13, 0.48]
    tops = [row.seconds for row in seed.rows() if row.depth == 0][:-1]
    assert tops == pytest.approx(reported)
    assert rows(seed)[PhaseName.WAIT_RUNNING].bottleneck


def test_what_was_read_is_written_back_unchanged(seed):
    assert seed_from_run(seed) == PLAIN


def test_our_own_record_survives_json(seed):
    assert run_from_dict(json.loads(json.dumps(run_to_dict(seed), allow_nan=False))) == seed


def test_without_a_poll_log_the_event_lies_anywhere_in_the_wait(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({k: v for k, v in PLAIN.items() if k not in {"poll_log", "ssh_log", "market"}}))
    running = read_run(path).phase(PhaseName.WAIT_RUNNING)
    assert (running.lower, running.upper) == pytest.approx((0, 72.77))


def test_a_reported_failure_stays_a_failure(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(PLAIN | {"validation": PLAIN["validation"] | {"success": False, "error": "no SSH"}}))
    run = read_run(path)
    assert run.outcome is Outcome.FAILED
    assert run.detail == "no SSH"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"format": 99}',
        b'{"format": 1}',
        b"\xff\xfe",
        SEED.read_bytes()[:200],
        b"[" * 100_000,
    ],
)
def test_a_malformed_file_gives_one_clear_error(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"bad\.json|record"):
        read_run(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="nowhere"):
        read_run(tmp_path / "nowhere.json")


@pytest.mark.parametrize("value", [-1, "72", None, True, float("nan"), 1e400])
def test_a_timing_that_is_no_duration_is_refused(tmp_path, value):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(PLAIN | {"timings": PLAIN["timings"] | {"wait_ssh_sec": value}}))
    with pytest.raises(SettingsError, match="not a run"):
        read_run(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from(sorted(PLAIN)), value=json_values)
def test_whatever_stands_in_a_record_it_is_a_run_or_a_clear_error(tmp_path_factory, key, value):
    path = tmp_path_factory.mktemp("seed") / "run.json"
    path.write_text(json.dumps(PLAIN | {key: value}))
    with contextlib.suppress(SettingsError):
        run_text(read_run(path))


def test_control_characters_from_outside_do_not_reach_a_terminal(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(PLAIN | {"resources": PLAIN["resources"] | {"gpu_name": "RTX\x1b[2J 4090"}}))
    assert "\x1b" not in run_text(read_run(path))


def test_html_is_escaped(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(PLAIN | {"resources": PLAIN["resources"] | {"gpu_name": "<script>alert(1)</script>"}}))
    assert "<script>" not in read_run(path)._repr_html_()
