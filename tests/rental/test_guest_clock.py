"""The instance's own clock: its offset always within the bounds, and never believed when it cannot be right."""

import os
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fleet import bench
from tests.profiles import CERTAIN
from vastbench.record.moments import Moment
from vastbench.record.phases import PhaseName
from vastbench.rental.guest_clock import DRIFT, TICK_S, Known, Reading, Transcript, examine, offset
from vastbench.rental.startup import FIRST_COMMAND, onstart, timeline
from vastbench.ssh.evidence import Step
from vastbench.ssh.keys import RunKey

OFFSET = 1000.0
"""Our clock minus the instance's, in the tale below."""


def shown(at: float) -> str:
    """What the instance's clock shows when ours shows ``at``."""
    return f"{int((at - OFFSET) * 100 + 1e-6) / 100:.2f}"


def tale() -> Transcript:
    """A start as it should be: container at 1100, script at 1100.1, key 1100.3–1100.5, SSH 1100.7–1100.9, read at 1105."""
    looks = [f"look {shown(1100.1 + 0.2 * n)}" for n in range(12)]
    timeline = [f"onstart_started {shown(1100.1)}", "container_started 10000", *looks]
    timeline.insert(5, f"key_installed {shown(1100.5)}")
    timeline.insert(8, f"sshd_up {shown(1100.9)}")
    answers = tuple((1105 + 0.1 * n, 1105.04 + 0.1 * n, shown(1105.02 + 0.1 * n)) for n in range(8))
    return Transcript(tuple(timeline), (shown(1102.1),), answers)


def known() -> Known:
    """What we saw ourselves of that start."""
    steps = {
        Step.BANNER: Moment.between(1100.2, 1101.5, "ssh"),
        Step.LOGIN: Moment.between(1100.2, 1102.0, "ssh"),
        Step.FIRST_COMMAND: Moment(1100.2, 1100.3, 1102.0, 1102.2, "ssh"),
    }
    return Known(1050.0, Moment.between(1102.0, 1103.0, "poll"), steps)


@given(
    apart=st.floats(-1e6, 1e6),
    begin=st.floats(0, 1e7),
    trips=st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0, 1)), min_size=1, max_size=12),
    drift=st.floats(-DRIFT, DRIFT),
)
def test_the_true_offset_is_within_the_bounds_on_an_asymmetric_network(apart, begin, trips, drift):
    readings, now = [], begin
    for there, back, pause in trips:
        sent, asked, received = now, now + there, now + there + back
        # The offset is that of the last answer; before it the clocks were a little further apart or closer together.
        readings.append((sent, asked, received))
        now = received + pause
    last = readings[-1][2]
    made = [
        Reading(sent, received, int((asked - apart + drift * (last - asked)) / TICK_S) * TICK_S)
        for sent, asked, received in readings
        if asked - apart + drift * (last - asked) >= 0
    ]
    if made:
        low, high = offset(made)
        assert low <= apart <= high
        assert high - low <= min(r.received - r.sent for r in made) + TICK_S + 2 * DRIFT * (last - begin) + 1e-5


def test_readings_that_no_offset_explains_give_none():
    assert offset([Reading(0.0, 0.1, 50.0), Reading(1.0, 1.1, 54.0)]) is None


def test_a_start_as_it_should_be_is_told_within_its_true_bounds():
    guest = examine(tale(), known(), 1.0)
    assert guest.trusted, guest.why
    for name, truth in {
        "container_started": 1100.005,
        "onstart_started": 1100.1,
        "key_installed": 1100.4,
        "sshd_up": 1100.8,
    }.items():
        assert guest.moments[name].lower <= truth <= guest.moments[name].upper, name
        assert guest.moments[name].source == "guest"
    assert guest.moments["container_started"].upper - guest.moments["container_started"].lower < 0.1
    assert guest.moments["sshd_up"].upper - guest.moments["sshd_up"].lower < 0.5
    assert guest.rtt_min_s == pytest.approx(0.04)


def test_the_instances_seconds_are_real_ones_and_moments_are_clock_seconds():
    real, fast = examine(tale(), known(), 1.0), known()
    steps = {
        step: Moment(*(20 * r for r in (m.no_sent, m.no_received, m.yes_sent, m.yes_received)))
        for step, m in fast.steps.items()
    }
    scaled = Known(20 * fast.created, Moment.between(20 * 1102.0, 20 * 1103.0, "poll"), steps)
    guest = examine(tale(), scaled, 20.0)
    assert guest.trusted, guest.why
    for name, moment in real.moments.items():
        assert guest.moments[name].lower == pytest.approx(20 * moment.lower, abs=1e-3)
        assert guest.moments[name].upper == pytest.approx(20 * moment.upper, abs=1e-3)
    assert guest.offset_error_s == pytest.approx(20 * real.offset_error_s)


def changed(line: str, into: str | None) -> Transcript:
    """The tale with one of its lines replaced, or taken out."""
    told = tale()
    lines = [into if one.startswith(line) else one for one in told.timeline]
    return replace(told, timeline=tuple(one for one in lines if one is not None))


def asked(change) -> Transcript:
    """The tale with other answers: ``change(number, words)`` gives the words of each."""
    told = tale()
    return replace(told, answers=tuple((s, r, change(n, words)) for n, (s, r, words) in enumerate(told.answers)))


@pytest.mark.parametrize(
    ("transcript", "reason"),
    [
        (replace(tale(), timeline=()), "left no timeline"),
        (asked(lambda n, words: ""), "no /proc/uptime"),
        (asked(lambda n, words: "12.5x"), "'12.5x' for its uptime"),
        (asked(lambda n, words: "nan"), "'nan' for its uptime"),
        (asked(lambda n, words: f"{float(words) + 0.5 * (n > 3):.2f}"), "no offset fits"),
        (asked(lambda n, words: f"{float(words) - 3 * (n > 3):.2f}"), "went backwards"),
        (asked(lambda n, words: f"{float(words) + 1:.2f}"), "gained at least"),
        (asked(lambda n, words: f"{float(words) - 1:.2f}"), "lost at least"),
        (replace(tale(), timeline=(*tale().timeline, "look 104.50")), "stood still"),
        (changed("container_started", "container_started 24"), "before it was asked for"),
        (changed("container_started", None), "the start of its first process"),
        (changed("container_started", "container_started 10020"), "onstart_started at 100.10 s comes before"),
    ],
)
def test_a_tale_that_cannot_be_is_not_believed_and_the_reason_is_given(transcript, reason):
    guest = examine(transcript, known(), 1.0)
    assert not guest.trusted
    assert guest.moments == {}
    assert reason in guest.why


def test_a_container_that_starts_after_it_was_seen_running_is_not_believed():
    late = replace(known(), running=Moment.between(1090.0, 1099.0, "poll"))
    assert "after it was seen running" in examine(tale(), late, 1.0).why


def test_an_ssh_server_that_comes_up_after_it_had_answered_is_not_believed():
    early = known()
    steps = dict(early.steps) | {Step.BANNER: Moment.between(1100.1, 1100.2, "ssh")}
    assert "sshd_up lies 0.5 s after" in examine(tale(), replace(early, steps=steps), 1.0).why


def test_looks_that_never_saw_anything_prove_nothing():
    guest = examine(changed("sshd_up", None), known(), 1.0)
    assert guest.moments["sshd_up"].lower == pytest.approx(guest.moments["container_started"].lower, abs=0.01)
    assert guest.moments["sshd_up"].upper == pytest.approx(1102.1, abs=0.1)


@given(
    st.lists(st.text(max_size=40), max_size=8),
    st.lists(st.text(max_size=12), max_size=3),
    st.lists(st.text(max_size=12), min_size=1, max_size=4),
)
def test_whatever_a_machine_says_there_is_a_verdict(timeline, logins, words):
    answers = tuple((1105.0 + n, 1105.1 + n, word) for n, word in enumerate(words))
    for lines in (timeline, [*tale().timeline, *timeline]):
        guest = examine(Transcript(tuple(lines), tuple(logins), answers), known(), 1.0)
        assert guest.trusted == (guest.why == "")


SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["bash"], ["busybox", "sh"]) if shutil.which(shell[0])]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_start_script_keeps_its_timeline_in_every_shell(tmp_path, shell):
    line = RunKey.generate("vastbench-x").public_line
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text(f"# somebody else's\n{line}\n")
    config = tmp_path / "sshd_config"
    listening = socket.create_server(("127.0.0.1", 0))
    config.write_text(f"# here\nPort {listening.getsockname()[1]}\nPermitRootLogin yes\n")
    script = timeline(line, 20).replace("/etc/ssh/sshd_config", str(config))
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with listening, subprocess.Popen([*shell, "-c", f"{script}\nwait"], env=env) as running:
        kept = tmp_path / ".vastbench/timeline"
        while not kept.exists() or "key_installed" not in kept.read_text():
            time.sleep(0.02)
            assert running.poll() is None
        subprocess.run([*shell, "-c", FIRST_COMMAND], env=env, check=True)
        assert running.wait(10) == 0
    words = [one.split()[0] for one in kept.read_text().splitlines()]
    assert words[:5] == ["onstart_started", "container_started", "look", "sshd_up", "key_installed"]
    assert set(words[5:]) <= {"look"}
    now, login = (Path(one).read_text().split()[0] for one in ("/proc/uptime", tmp_path / ".vastbench/login"))
    assert 0 <= float(now) - float(login) < 20


def test_the_start_script_fits_and_holds_no_private_key():
    key = RunKey.generate("vastbench-x")
    script = onstart("https://console.vast.ai", datetime.now(UTC), 1e5, 600, public_line=key.public_line, watch_real_s=900)
    assert len(script.encode()) < 4048
    assert "PRIVATE" not in script
    assert key.public_line.split()[1] in script
    assert 'at="https://console.vast.ai/api/v0/instances/$CONTAINER_ID/"' in script
    assert "left=100000" in script


@contextmanager
def faulty_bench(folder, clock: str):
    """A bench, five times faster than time, whose machines' clocks have that fault."""
    folder.mkdir()
    profile = folder / "faulty.toml"
    profile.write_text(f'{CERTAIN}\n[guest]\nclock = {{ value = "{clock}", basis = "assumption" }}\n')
    with bench(folder, profile=profile, seed=1, speed=5) as opened:
        yield opened


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """One run for each fault, and whether the machine had walls behind which a clock can be spoilt."""
    folder = tmp_path_factory.mktemp("faulty")
    faults = ("skewed", "jumping", "missing")
    with ExitStack() as stack, ThreadPoolExecutor(len(faults)) as pool:
        benches = [stack.enter_context(faulty_bench(folder / clock, clock)) for clock in faults]
        runs = pool.map(lambda opened: (opened.run(), opened.emulator.isolation), benches)
        return dict(zip(faults, runs, strict=True))


@pytest.mark.parametrize("clock", ["skewed", "jumping", "missing"])
def test_a_faulty_clock_is_found_out_and_nothing_else_of_the_run_suffers(faulty, clock):
    run, isolation = faulty[clock]
    assert run.outcome == "passed"
    assert not run.guest["trusted"]
    assert run.guest["moments"] == {}
    assert run.phase(PhaseName.REPORTING) is None
    assert f"not trusted: {run.guest['why']}" in str(run)
    if isolation == "namespace":
        said = {"skewed": "another rate", "jumping": "jump", "missing": "no /proc/uptime"}
        backwards = clock == "jumping" and "went backwards" in run.guest["why"]
        assert said[clock] in run.guest["why"] or backwards
