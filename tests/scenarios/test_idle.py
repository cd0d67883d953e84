"""The idle rule: what is busy, idle, held or unknown, and that no reading is ever taken for less than it says."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastbench.errors import UsageError
from vastbench.scenarios.idle import Gpu, IdleRule, Sample, State, judge

RULE = IdleRule()
QUIET = Sample(0.0, (Gpu(0.0, 1.0, 24564.0), Gpu(1.0, 1.0, 24564.0)), 2.0, 1000.0, 500.0)
NOW = 600.0


def window(first=NOW - 300, last=NOW, **changes):
    """Quiet samples every ten seconds, all with ``changes``."""
    return [replace(QUIET, at=float(at), **changes) for at in range(int(first), int(last) + 1, 10)]


def changed(samples, at, **changes):
    """The same samples, those ``at`` these readings of the clock changed."""
    return [replace(one, **changes) if one.at in at else one for one in samples]


def with_gpu(number, gpu):
    return tuple(gpu if n == number else one for n, one in enumerate(QUIET.gpus))


def state(samples, now=NOW, rule=RULE):
    return judge(samples, rule, now).state


def test_a_window_in_which_all_is_low_is_idle():
    assert judge(window(), RULE, NOW).reason == "GPUs, CPU, disk and network were quiet for 300 s, 30 samples"


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_a_few_samples_are_no_window_however_long_the_machine_is_up(count):
    assert state(window()[len(window()) - count :]) is State.UNKNOWN
    assert state([replace(QUIET, at=NOW)] * 30) is State.UNKNOWN


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("at", [NOW - 290, NOW - 150, NOW])
def test_one_use_of_any_gpu_in_the_window_is_busy(number, at):
    verdict = judge(changed(window(), [at], gpus=with_gpu(number, Gpu(93.0, 1.0, 24564.0))), RULE, NOW)
    assert (verdict.state, verdict.reason) == (State.BUSY, f"GPU {number} was at 93 % {NOW - at:.0f} s ago")


@pytest.mark.parametrize(
    ("reading", "value", "words"),
    [
        ("cpu_pct", 101.0, "the CPU was at 101 % of a core 0 s ago"),
        ("disk_bytes_per_s", 2e6, "the disk moved 2e+06 bytes/s 0 s ago"),
        ("net_bytes_per_s", 3e5, "the network moved 3e+05 bytes/s 0 s ago"),
    ],
)
def test_work_without_a_gpu_is_busy(reading, value, words):
    assert judge(window(**{reading: value}), RULE, NOW).reason == words
    assert state(changed(window(), [NOW], **{reading: value})) is State.BUSY


def test_a_cron_job_is_forgiven_when_it_is_over_and_short():
    job = [NOW - 200, NOW - 190, NOW - 180]
    assert state(changed(window(), job, cpu_pct=100.0)) is State.IDLE
    assert state(changed(window(), [*job, NOW - 170], cpu_pct=100.0)) is State.BUSY
    assert state(changed(window(), [NOW - 110], cpu_pct=100.0)) is State.BUSY


def test_memory_held_without_use_is_a_state_of_its_own():
    verdict = judge(window(gpus=with_gpu(1, Gpu(0.0, 22000.0, 24564.0))), RULE, NOW)
    assert (verdict.state, verdict.reason) == (State.HELD, "nothing is used, and 22000 MiB were held on GPU 1 0 s ago")


UNREAD = {
    "a GPU": {"gpus": with_gpu(1, Gpu(None, 1.0, 24564.0))},
    "a GPU's memory": {"gpus": with_gpu(1, Gpu(0.0))},
    "all GPUs": {"gpus": ()},
    "the second GPU": {"gpus": QUIET.gpus[:1]},
    "CPU": {"cpu_pct": None},
    "disk": {"disk_bytes_per_s": None},
    "network": {"net_bytes_per_s": None},
    "not a number": {"cpu_pct": math.nan},
    "below 0": {"net_bytes_per_s": -1.0},
}


@pytest.mark.parametrize("changes", UNREAD.values(), ids=UNREAD)
def test_a_reading_that_fails_is_unknown_and_not_0(changes):
    """Also where it fails a few times only, at the end; a few times before that are within the rule's share."""
    whole = window()
    assert state(changed(whole, {one.at for one in whole[1:]}, **changes)) is State.UNKNOWN
    assert state(changed(whole, [NOW], **changes)) is State.UNKNOWN
    assert state(changed(whole, [NOW - 200, NOW - 160, NOW - 150], **changes)) is State.IDLE
    assert state(changed(whole, [NOW - 200, NOW - 180, NOW - 160, NOW - 150], **changes)) is State.UNKNOWN


@pytest.mark.parametrize("hole", [(310, 370), (430, 480), (560, 600)])
def test_a_gap_between_samples_is_unknown(hole):
    assert state([one for one in window() if not hole[0] <= one.at <= hole[1]]) is State.UNKNOWN


def test_what_lies_before_the_window_or_after_now_does_not_count():
    assert state([*window(0, 290, cpu_pct=800.0), *window()]) is State.IDLE
    assert state([*window(), *window(610, 700, cpu_pct=800.0)]) is State.IDLE


@pytest.mark.parametrize(
    "changes",
    [{"window_s": 0.0}, {"share": 1.5}, {"samples": 1}, {"cpu_pct": math.nan}, {"quiet_s": 301.0}, {"gap_s": math.inf}],
)
def test_a_rule_that_nothing_could_satisfy_is_refused(changes):
    with pytest.raises(UsageError, match="idle rule"):
        IdleRule(**changes)


READINGS = st.one_of(st.none(), st.floats(0, 20), st.sampled_from([0.0, 5.0, 64.0, 100.0, 1e5, 1e6, 1e9]))
GPUS = st.builds(Gpu, READINGS, READINGS, st.just(24564.0))
SAMPLES = st.builds(Sample, st.floats(0, NOW), st.lists(GPUS, max_size=2).map(tuple), READINGS, READINGS, READINGS)
NEARLY_QUIET = (
    st.lists(st.tuples(st.integers(0, 30), SAMPLES), max_size=4)
    .map(lambda odd: [dict(odd).get(n, QUIET) for n in range(31)])
    .map(lambda samples: [replace(one, at=NOW - 300 + 10 * n) for n, one in enumerate(samples)])
)


@given(st.one_of(st.lists(SAMPLES, max_size=40), NEARLY_QUIET), st.data())
def test_more_use_never_turns_busy_into_anything_else(samples, data):
    """And no more use of anything makes a window idle that was not."""
    before = state(samples)
    raised = []
    for one in samples:
        more = data.draw(st.sampled_from([0.0, 1.0, 1e7]))

        def up(value, more=more):
            return None if value is None else value + more

        gpus = tuple(replace(gpu, use_pct=up(gpu.use_pct), used_mb=up(gpu.used_mb)) for gpu in one.gpus)
        rates = {name: up(getattr(one, name)) for name in ("cpu_pct", "disk_bytes_per_s", "net_bytes_per_s")}
        raised.append(replace(one, gpus=gpus, **rates))
    after = state(raised)
    assert after is State.BUSY or before is not State.BUSY
    assert before is State.IDLE or after is not State.IDLE


@given(NEARLY_QUIET, st.data())
def test_a_reading_that_is_lost_never_makes_a_window_idle(samples, data):
    """Of CPU, disk and network: each has the same share of the window to be busy or unknown in."""
    lost = data.draw(st.sets(st.integers(0, 30)))
    name = data.draw(st.sampled_from(["cpu_pct", "disk_bytes_per_s", "net_bytes_per_s"]))
    fewer = [replace(one, **{name: None}) if n in lost else one for n, one in enumerate(samples)]
    assert state(samples) is State.IDLE or state(fewer) is not State.IDLE


@given(NEARLY_QUIET, st.sets(st.integers(0, 30)))
def test_a_sample_that_is_missing_never_makes_a_busy_gpu_idle(samples, lost):
    kept = [one for n, one in enumerate(samples) if n not in lost]
    used = any(
        gpu.use_pct is not None and gpu.use_pct >= RULE.gpu_pct for one in kept if one.at > NOW - 300 for gpu in one.gpus
    )
    assert not used or state(kept) is State.BUSY
