"""One look at a machine in one round trip: what its text says, and that what it does not say is never 0."""

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulator.machines import SPEC
from tests.fleet import bench
from tests.profiles import certain
from vastbench.emulator.gpu import nvidia_smi
from vastbench.emulator.spec import MachineSpec
from vastbench.errors import ConnectionLost
from vastbench.record.conditions import Conditions
from vastbench.record.phases import Outcome
from vastbench.scenarios import SCENARIOS
from vastbench.scenarios.idle import Gpu, Sample
from vastbench.scenarios.integration import INTEGRATION
from vastbench.scenarios.usage import SCRIPT, Reading, between, parse, read_sample

NET = """net Inter-|   Receive                                                |  Transmit
net  face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
net     lo: {lo}  359298    0    0    0     0          0         0 {lo}  359298    0    0    0     0       0          0
net   eth0: {down}   16560    0    0    0     0          0         0  {up}    9771    0    0    0     0       0          0
"""
TEXT = f"""uptime {{uptime}} 505.64
cpu usage_usec {{cpu}}
cpu user_usec 1
cpu core_sched.force_idle_usec 0
disk 8:0 rbytes={{read}} wbytes={{written}} rios=3 wios=4 dbytes=0 dios=0
{NET}gpu 0, {{use}}, 1, 24564
gpu 1, 3, 20000, 24564
end
"""
PLAIN = {"uptime": "100.00", "cpu": 5_000_000, "read": 10, "written": 20, "lo": 5, "down": 7, "up": 8, "use": 0}


def text(**changes):
    return TEXT.format(**PLAIN | changes)


def sample(before, after, gpus=2):
    return between(parse(before), parse(after), at=7.0, gpus=gpus)


def test_two_looks_give_the_rates_of_all_that_the_machine_has():
    later = text(uptime="110.00", cpu=20_000_000, read=1010, written=9020, lo=10**9, down=107, up=408, use=97)
    assert sample(text(), later) == Sample(7.0, (Gpu(97, 1, 24564), Gpu(3, 20000, 24564)), 150.0, 1000.0, 50.0)


def test_counters_that_stood_still_are_0_and_one_look_has_no_rates():
    still = sample(text(), text(uptime="110.00"))
    assert (still.cpu_pct, still.disk_bytes_per_s, still.net_bytes_per_s) == (0.0, 0.0, 0.0)
    alone = between(None, parse(text()), at=7.0, gpus=2)
    assert (alone.cpu_pct, alone.disk_bytes_per_s, alone.net_bytes_per_s) == (None, None, None)


@pytest.mark.parametrize("value", ["[N/A]", "[Not Supported]", "ERR!", "[Unknown Error]", "", "-1", "101", "nan", "١"])
def test_a_use_that_is_no_percentage_is_unknown(value):
    assert parse(text(use=value)).gpus[0].use_pct is None


@pytest.mark.parametrize(
    "said",
    [
        "gpu No devices were found",
        "gpu NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "gpu   MIG 1g.5gb      Device  0: (UUID: MIG-6f0d0b6e)",
        "gpu [N/A], [N/A], [N/A], [N/A]",
        'gpu Field "mig" is not a valid field to query.',
        "",
    ],
)
def test_a_failed_nvidia_smi_leaves_every_gpu_unknown(said):
    lines = [line for line in text().splitlines() if not line.startswith("gpu ")]
    seen = parse("\n".join([*lines[:-1], *([said] if said else []), "end", ""]))
    assert between(None, seen, at=1.0, gpus=2).gpus == (Gpu(), Gpu())


def test_a_gpu_that_nvidia_smi_leaves_out_is_unknown():
    assert sample(text(), text(), gpus=4).gpus[2:] == (Gpu(), Gpu())


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"uptime": "x"}, {"cpu_pct", "disk_bytes_per_s", "net_bytes_per_s"}),
        ({"uptime": "100.00"}, {"cpu_pct", "disk_bytes_per_s", "net_bytes_per_s"}),
        ({"uptime": "90.00"}, {"cpu_pct", "disk_bytes_per_s", "net_bytes_per_s"}),
        ({"cpu": 4_999_999}, {"cpu_pct"}),
        ({"cpu": ""}, {"cpu_pct"}),
        ({"read": 9, "written": 0}, {"disk_bytes_per_s"}),
        ({"down": "9" * 30}, {"net_bytes_per_s"}),
    ],
)
def test_a_count_that_fell_or_is_garbled_is_unknown_and_not_0(changes, unknown):
    seen = sample(text(), text(**{"uptime": "110.00"} | changes))
    assert {name for name in ("cpu_pct", "disk_bytes_per_s", "net_bytes_per_s") if getattr(seen, name) is None} == unknown


def test_an_interface_that_comes_or_goes_makes_the_network_unknown():
    other = text(uptime="110.00").replace("eth0", "eth1")
    assert sample(text(), other).net_bytes_per_s is None


def test_a_text_that_was_cut_off_says_nothing():
    whole = text()
    assert all(parse(whole[:end]) == Reading() for end in range(len(whole) - 1))


PROCESSES = """uptime {uptime} 5
ticks 1 0 0 0 0
ticks {pid} {busy} 0 0 0
io /proc/1/io:read_bytes: 0
io /proc/1/io:write_bytes: 4096
io grep: /proc/66/io: {word}
end
"""


def test_without_a_control_group_processes_are_added_up():
    first = PROCESSES.format(uptime=10, pid=8, busy=100, word="No such process")
    assert sample(first, PROCESSES.format(uptime=20, pid=8, busy=900, word="No such file or directory")).cpu_pct == 80.0
    assert sample(first, PROCESSES.format(uptime=20, pid=9, busy=250, word="No such process")).cpu_pct == 25.0
    assert sample(first, first.replace("10 5", "20 5")).disk_bytes_per_s == 0.0


def test_a_process_whose_disk_use_may_not_be_read_makes_it_unknown():
    first = PROCESSES.format(uptime=10, pid=8, busy=100, word="No such process")
    assert sample(first, PROCESSES.format(uptime=20, pid=8, busy=100, word="Permission denied")).disk_bytes_per_s is None


GARBAGE = st.text(st.characters(exclude_categories=["Nd"], exclude_characters="\n"), max_size=20)


@given(st.text())
def test_wild_text_never_raises_and_never_becomes_a_reading(wild):
    assert parse(wild) == Reading()
    assert parse(f"{wild}\nend\n") == Reading()


@given(st.lists(st.tuples(st.sampled_from(["uptime", "cpu", "ticks", "disk", "io", "net", "gpu"]), GARBAGE)))
def test_wild_words_behind_the_scripts_own_are_no_readings(lines):
    seen = parse("".join(f"{name} {said}\n" for name, said in lines) + "end\n")
    assert set(seen.gpus) <= {Gpu()}
    assert replace(seen, gpus=()) == Reading()


@given(st.sampled_from([*PLAIN]), GARBAGE)
def test_a_garbled_number_is_never_read_as_0(name, garbage):
    seen = sample(text(uptime="90.00"), text(**{name: garbage}))
    rates = {"cpu": seen.cpu_pct, "disk": seen.disk_bytes_per_s, "net": seen.net_bytes_per_s, "gpu": seen.gpus[0].use_pct}
    told = {
        "read": "disk",
        "written": "disk",
        "lo": "net",
        "down": "net",
        "up": "net",
        "use": "gpu",
        "uptime": "cpu",
        "cpu": "cpu",
    }
    assert rates[told[name]] is None


@given(st.text(max_size=30))
def test_whatever_stands_for_a_use_it_is_0_only_where_it_says_so(wild):
    seen = parse(text(use=wild)).gpus[0].use_pct
    assert seen is None or (0 <= seen <= 100 and seen == float(wild))


def test_the_script_reads_a_real_machine_and_all_of_its_gpus(tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(nvidia_smi(MachineSpec(**({"id": 900} | SPEC | {"gpu_count": 3}))))
    tool.chmod(0o755)
    words = ["sh", "-c", f"PATH={tmp_path}:$PATH; {SCRIPT}"]
    seen = parse(subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout)
    assert seen.gpus == (Gpu(0, 1, 24564),) * 3
    assert seen.uptime > 0
    assert seen.cpu.counts
    assert seen.net.counts


def test_a_look_that_fails_is_a_sample_without_readings():
    class Lost:
        def run(self, command, timeout_s):
            raise ConnectionLost("gone")

    seen, reading = read_sample(Lost(), lambda: 5.0, 2, parse(text()))
    assert (seen, reading) == (Sample(5.0, (Gpu(), Gpu())), Reading())


def test_looks_over_ssh_show_work_on_a_rented_machine(tmp_path, monkeypatch):
    seen = []

    def run(drill):
        with drill.rent() as machine:
            now, session = drill.recorder.clock.now, machine.session
            last = read_sample(session, now, 1, None)[1]
            for work in ("sleep 1", "(while :; do :; done) >/dev/null 2>&1 & head -c 9000000 /dev/zero >big; sync; sleep 1"):
                session.run(work, timeout_s=600)
                sample, last = read_sample(session, now, 1, last)
                seen.append(sample)

    monkeypatch.setitem(SCENARIOS, "looks", replace(INTEGRATION, name="looks", run=run))
    with bench(tmp_path, profile=certain(tmp_path), seed=4, speed=60) as opened:
        made = opened.run(Conditions(boot_deadline_s=120, ssh_deadline_s=60), scenario="looks")
    assert (made.outcome, made.cause) == (Outcome.PASSED, "")
    quiet, busy = seen
    assert quiet.gpus[0].use_pct == 0
    assert None not in (quiet.cpu_pct, quiet.disk_bytes_per_s, quiet.net_bytes_per_s)
    assert busy.cpu_pct > quiet.cpu_pct
