"""Each fault does what it says, seen over bare HTTP and SSH."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from tests.emulator.conftest import ORDER, Api
from tests.emulator.machines import KEY, PUBLIC
from tests.profiles import certain
from vastbench.cli.tools import emulator as command
from vastbench.emulator import Emulator
from vastbench.emulator.faults import FAULTS, Faults, checked, parsed
from vastbench.errors import UsageError
from vastbench.vast.models import Instance

SPEED = 200.0
KNOWN: dict[str, Any] = {"username": "root", "client_keys": [KEY], "known_hosts": None, "agent_path": None, "config": None}


@pytest.fixture
def faulty(tmp_path: Path) -> Any:
    """An emulator in which nothing else goes wrong, and a bare client of it."""

    @contextmanager
    def opened(*, speed: float = SPEED, seed: int = 1, **faults: float) -> Iterator[Api]:
        named = {name.replace("_", "-").removeprefix("x"): p for name, p in faults.items()}
        with Emulator(certain(tmp_path), seed=seed, speed=speed, faults=named) as emulator:
            api = Api(emulator)
            with api.http:
                yield api

    return opened


def only(name: str, probability: float = 1) -> dict[str, float]:
    return {f"x{name.replace('-', '_')}": probability}


def rent(api: Api) -> httpx.Response:
    offer = api.offers(num_gpus={"eq": "1"})[0]
    return api("PUT", f"/api/v0/asks/{offer['id']}/", json=ORDER | {"label": "mine"})


def listed(api: Api) -> list[int]:
    return [row["id"] for row in api("GET", "/api/v1/instances/").json()["instances"]]


def emulated(api: Api, seconds: float) -> None:
    time.sleep(seconds / api.emulator.speed)


def event(api: Api, name: str, **more: Any) -> dict[str, Any]:
    found = [one for one in api.emulator.events if one["event"] == name and more.items() <= one.items()]
    assert found, f"no {name} among {[one['event'] for one in api.emulator.events]}"
    return found[0]


# Names and draws


def test_names_may_carry_a_probability_and_have_one_of_their_own() -> None:
    assert parsed(["502", "vanishes", "key-late=0.25"]) == {"502": 0.3, "vanishes": 1, "key-late": 0.25}
    assert checked({"500": None, "503": 0}) == {"500": 0.3, "503": 0.0}


@pytest.mark.parametrize("text", ["nonsense", "502=2", "502=-0.1", "502=many", "502=nan", "502=", "=1"])
def test_an_unknown_fault_or_probability_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError, match=r"fault") as caught:
        parsed([text])
    if not text.startswith("502"):
        assert "--fault list" in caught.value.hint


def test_the_command_refuses_an_unknown_fault_and_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        command(fault=["502=0.5", "nonsense"])
    command(fault=["list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(FAULTS)


def test_an_emulator_refuses_an_unknown_fault_before_it_starts() -> None:
    with pytest.raises(UsageError, match="nonsense"):
        Emulator("seed", faults={"nonsense": 1})


def test_the_same_seed_gives_the_same_faults_and_faults_are_independent() -> None:
    def struck(chosen: dict[str, float], seed: int = 7) -> list[bool]:
        faults = Faults(chosen, seed)
        answers = []
        for number in range(200):
            answers.append(faults.strikes("502", "call", number))
            faults.strikes("vanishes", number)
        return answers

    assert struck({"502": 0.3}) == struck({"502": 0.3, "vanishes": 0.5}) != struck({"502": 0.3}, seed=8)
    assert 30 < sum(struck({"502": 0.3})) < 90
    assert not any(struck({"vanishes": 1}))


def test_what_is_drawn_without_a_fault_is_drawn_with_it_too(faulty: Any) -> None:
    def boot(**faults: float) -> float:
        with faulty(**faults) as api:
            api.wait_status(api.create(), "loading")
            return float(event(api, "status", status="loading")["s"] - event(api, "create_effective")["s"])

    assert boot() == pytest.approx(boot(**only("gone-late"), **only("502", 0)), abs=1e-6)


# Calls

FORMS = {
    "429-text": (429, "text/plain", ()),
    "429-detail": (429, "application/json", ("detail",)),
    "429-json": (429, "application/json", ("success", "error", "msg")),
    "429-message": (429, "application/json", ("message", "code")),
    "500": (500, "text/plain", ()),
    "502": (502, "text/plain", ()),
    "503": (503, "text/plain", ()),
    "504": (504, "text/plain", ()),
    "key-rejected-401": (401, "application/json", ("success", "error", "msg")),
    "key-rejected-404": (404, "application/json", ("success", "error", "msg")),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_call_is_answered_in_the_faults_form(faulty: Any, name: str) -> None:
    status, kind, keys = FORMS[name]
    with faulty(**only(name)) as api:
        reply = api.http.get("/api/v1/instances/")
        assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (status, kind)
        if keys:
            assert tuple(reply.json()) == keys
        if name.startswith("key"):
            assert reply.json()["error"] == "auth_error"
        assert api.http.get("/api/v0/gpu_names/unique/").status_code == 200, "no key is needed here"


def test_a_504_may_hide_that_the_call_took_effect(faulty: Any) -> None:
    made = []
    for seed in range(6):
        with faulty(seed=seed, **only("504")) as api:
            assert api.http.post("/api/v0/ssh/", json={"ssh_key": PUBLIC}).status_code == 504
            made.append(len(api.emulator._running()._market.account.ssh_keys()))
    assert set(made) == {0, 1}


def test_some_calls_get_through_a_fault_that_is_not_certain(faulty: Any) -> None:
    with faulty(**only("500", 0.5)) as api:
        seen = {api.http.get("/api/v0/users/current/").status_code for _ in range(30)}
        assert seen == {200, 500}


def test_slow_answers_come_5_to_25_seconds_late(faulty: Any) -> None:
    with faulty(speed=50, **only("slow-answers")) as api:
        began = time.monotonic()
        assert api.http.get("/api/v0/users/current/").status_code == 200
        assert time.monotonic() - began >= 5 / 50


def test_the_api_is_down_for_a_minute_and_comes_back(faulty: Any) -> None:
    seen: list[int | str] = []
    with faulty(**only("api-down")) as api:
        while seen[-1:] != [200] or len(set(seen)) < 3:
            try:
                seen.append(api.http.get("/api/v0/users/current/").status_code)
            except httpx.TransportError:
                seen.append("dropped")
            emulated(api, 2)
    assert set(seen) == {200, 503, "dropped"}
    down = [place for place, one in enumerate(seen) if one != 200]
    assert down == list(range(down[0], down[-1] + 1)), "it is one spell"


# Creates


def test_a_create_that_is_dropped_before_it_makes_nothing(faulty: Any) -> None:
    with faulty(**only("dropped-before-create")) as api:
        with pytest.raises(httpx.TransportError):
            rent(api)
        assert (listed(api), api.emulator.alive) == ([], [])


def test_a_create_that_is_dropped_after_it_has_made_an_instance(faulty: Any) -> None:
    with faulty(**only("dropped-after-create")) as api:
        with pytest.raises(httpx.TransportError):
            rent(api)
        assert listed(api) == api.emulator.alive != []


def test_an_error_may_name_an_instance_that_exists(faulty: Any) -> None:
    with faulty(**only("error-with-contract")) as api:
        reply = rent(api)
        assert (reply.status_code, reply.json()["success"]) == (400, False)
        assert [reply.json()["new_contract"]] == listed(api) == api.emulator.alive


def test_success_false_in_a_200_rents_nothing(faulty: Any) -> None:
    with faulty(**only("success-false")) as api:
        reply = rent(api)
        assert (reply.status_code, reply.json()["success"]) == (200, False)
        assert api.emulator.alive == []


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_offer_is_gone_in_the_form_asked_for_and_off_the_market(faulty: Any, status: int) -> None:
    with faulty(**only(f"offer-gone-{status}")) as api:
        offer = api.offers(num_gpus={"eq": "1"})[0]
        reply = rent(api)
        assert reply.status_code == status
        assert "no_such_ask" in json.dumps(reply.json())
        assert offer["id"] not in [one["id"] for one in api.offers()]


def test_the_price_of_the_instance_is_higher_than_its_offers(faulty: Any) -> None:
    with faulty(**only("price-rose")) as api:
        offer = api.offers(num_gpus={"eq": "1"})[0]
        row = api.show(rent(api).json()["new_contract"])
        assert row is not None
        assert row["dph_base"] >= 1.5 * offer["dph_base"]
        assert row["dph_total"] > row["dph_base"]


def test_an_offer_is_gone_with_409_in_words_alone(faulty: Any) -> None:
    with faulty(**only("offer-gone-409")) as api:
        reply = rent(api)
        assert (reply.status_code, "error" in reply.json()) == (409, False)
        assert "no longer available" in reply.json()["msg"]
        assert api.emulator.alive == []


@pytest.mark.parametrize(("seed", "status", "code"), [(1, 403, "not_authorized"), (2, 400, "team_ssh_keys_not_supported")])
def test_a_key_may_not_register_ssh_keys_and_the_proxy_is_dead(faulty: Any, seed: int, status: int, code: str) -> None:
    with faulty(seed=seed, **only("no-user-write")) as api:
        reply = api("POST", "/api/v0/ssh/", json={"ssh_key": PUBLIC})
        assert (reply.status_code, reply.json()["error"]) == (status, code)
        row = api.wait_status(api.create(), "running")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", row["ssh_port"]))


def test_a_restricted_key_may_search_and_read_instances_alone(faulty: Any) -> None:
    with faulty(**only("restricted-key")) as api:
        offer = api.offers(num_gpus={"eq": "1"})[0]
        assert listed(api) == []
        for method, path in (("GET", "users/current/"), ("POST", "ssh/"), ("PUT", f"asks/{offer['id']}/")):
            reply = api(method, f"/api/v0/{path}", json=ORDER | {"ssh_key": PUBLIC})
            assert (reply.status_code, reply.json()["error"]) == (403, "not_authorized")
        assert api.emulator.alive == []


def test_an_emulator_says_which_faults_have_struck(faulty: Any) -> None:
    with faulty(**only("vanishes"), **only("exited"), **only("credit-ends", 0)) as api:
        assert api.emulator.struck == set()
        api.create()
        assert api.emulator.struck == {"vanishes", "exited"}


def test_an_ssh_key_is_forgotten_when_it_is_removed(faulty: Any) -> None:
    with faulty(**only("key-forgotten")) as api:
        key = api("POST", "/api/v0/ssh/", json={"ssh_key": PUBLIC}).json()["key"]["id"]
        reply = api("DELETE", f"/api/v0/ssh/{key}/", json={})
        assert (reply.status_code, reply.json()["error"]) == (400, "no_ssh_key")
        assert api("GET", "/api/v0/ssh/").json() == []


# The list


def test_a_new_instance_is_listed_late_and_known_by_id_at_once(faulty: Any) -> None:
    with faulty(speed=50, **only("list-delayed")) as api:
        instance = api.create()
        assert (listed(api), api.emulator.alive) == ([], [instance])
        assert api.show(instance) is not None
        assert api("GET", "/api/v0/instances/count/").json()["count"] == 0
        emulated(api, 46)
        assert listed(api) == [instance]


def test_the_list_is_broken_json(faulty: Any) -> None:
    with faulty(**only("list-truncated")) as api:
        reply = api("GET", "/api/v1/instances/")
        assert reply.status_code == 200
        with pytest.raises(ValueError, match=r"line 1|Expecting|Unterminated"):
            reply.json()


@pytest.mark.parametrize("status", [301, 410])
def test_the_list_answers_with_a_body_that_parses_and_names_no_instances(faulty: Any, status: int) -> None:
    with faulty(**only(f"list-{status}")) as api:
        instance = api.create()
        reply = api("GET", "/api/v1/instances/")
        assert reply.status_code == status
        assert "instances" not in reply.json()
        assert api.show(instance) is not None, "by id it answers"


@pytest.mark.parametrize("name", ["label-cut", "label-null"])
def test_a_label_is_shown_cut_or_not_at_all(faulty: Any, name: str) -> None:
    label = "a-label-of-more-than-forty-characters-in-one-piece"
    with faulty(**only(name)) as api:
        instance = api.create(label=label)
        row = api.show(instance)
        (in_list,) = api("GET", "/api/v1/instances/").json()["instances"]
        assert row is not None
        assert row["label"] == in_list["label"]
        assert (row["label"] is None) if name == "label-null" else (label.startswith(row["label"]) and row["label"] != label)


def test_by_id_an_instance_is_a_list_of_one_and_none_comes_in_five_forms(faulty: Any) -> None:
    forms = set()
    with faulty(**only("by-id-forms")) as api:
        for instance in [api.create() for _ in range(5)]:
            assert [row["id"] for row in api("GET", f"/api/v0/instances/{instance}/").json()["instances"]] == [instance]
            api.destroy(instance)
            emulated(api, 60)
            reply = api("GET", f"/api/v0/instances/{instance}/")
            forms.add(reply.json().get("error") or json.dumps(reply.json()["instances"]))
    assert forms == {"null", "[]", "{}", "no_such_instance", "not_found"}


# Boots


def test_a_status_may_be_null_for_long(faulty: Any) -> None:
    with faulty(**only("status-null-long")) as api:
        api.wait(api.create(), lambda row: row is not None and row["actual_status"] is not None)
        assert event(api, "status")["s"] - event(api, "create_effective")["s"] > 60


@pytest.mark.parametrize("status", ["exited", "unknown", "offline", "error", "stopped"])
def test_a_boot_ends_in_a_status_that_does_not_recover(faulty: Any, status: str) -> None:
    with faulty(**only(status)) as api:
        assert api.wait_status(api.create(), status)["status_msg"]


def test_a_boot_is_stuck_loading(faulty: Any) -> None:
    with faulty(**only("stuck-loading")) as api:
        instance = api.create()
        api.wait_status(instance, "loading")
        emulated(api, 200)
        row = api.show(instance)
        assert row is not None
        assert (row["actual_status"], row["intended_status"]) == ("loading", "running")


def test_an_image_cannot_be_pulled_and_the_daemon_says_why(faulty: Any) -> None:
    said = set()
    for seed in range(8):
        with faulty(seed=seed, **only("pull-fails")) as api:
            row = api.wait(api.create(), lambda row: row is not None and bool(Instance.model_validate(row).failed))
            assert row is not None
            assert row["actual_status"] == "loading"
            said.add(row["status_msg"])
    assert len(said) > 1


def test_an_image_that_needs_a_newer_cuda_becomes_no_container(faulty: Any) -> None:
    with faulty() as api:
        offers = sorted(api.offers(num_gpus={"eq": "1"}), key=lambda offer: offer["cuda_max_good"])
        order = ORDER | {"image": f"nvidia/cuda:{offers[0]['cuda_max_good'] + 0.1:.1f}.0-base"}
        made = api("PUT", f"/api/v0/asks/{offers[0]['id']}/", json=order).json()["new_contract"]
        row = api.wait(made, lambda row: row is not None and row["status_msg"])
        assert row is not None
        assert "unsatisfied condition: cuda>=" in row["status_msg"]


def test_a_boot_takes_longer_and_its_message_stands_still(faulty: Any) -> None:
    with faulty(**only("loading-long")) as api:
        instance, said = api.create(), set()

        def running(row: dict[str, Any] | None) -> bool:
            assert row is not None
            said.update({row["status_msg"]} if row["actual_status"] == "loading" else ())
            return bool(row["actual_status"] == "running")

        api.wait(instance, running)
        assert event(api, "status", status="running")["s"] - event(api, "status", status="loading")["s"] > 60
        assert len(said) == 1


def test_a_status_flickers_and_the_log_of_the_truth_knows_nothing_of_it(faulty: Any) -> None:
    with faulty(speed=5, **only("status-flickers")) as api:
        api.create()
        seen: set[tuple[str, bool]] = set()
        while ("running", False) not in seen:
            (row,) = api("GET", "/api/v1/instances/").json()["instances"]
            seen.add((row["actual_status"], "toomanyrequests" in (row["status_msg"] or "")))
        assert seen & {("offline", False), ("exited", False), ("loading", True)}
        assert {one["status"] for one in api.emulator.events if one["event"] == "status"} <= {"created", "loading", "running"}


def addresses(api: Api, row: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the proxy's and the direct port of the row are those of the machine."""
    machine = api.emulator._running()._market.contracts[row["id"]].machine
    direct = row.get("ports", {}).get("22/tcp", [{"HostPort": "none"}])[0]["HostPort"]
    return row["ssh_port"] == machine.proxy_port, direct == str(machine.direct_port)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("endpoints-late", (False, False), (True, True)),
        ("endpoints-change", (False, False), (True, True)),
        ("direct-late", (False, False), (False, True)),
    ],
)
def test_addresses_come_after_it_runs(faulty: Any, name: str, first: tuple[bool, bool], last: tuple[bool, bool]) -> None:
    with faulty(speed=20, **only(name)) as api:
        instance = api.create()
        row = api.wait_status(instance, "running")
        assert addresses(api, row) == first
        assert (row["ssh_port"] is None, "ports" in row) == {
            "endpoints-late": (True, False),
            "endpoints-change": (False, True),
            "direct-late": (False, False),
        }[name]
        emulated(api, 21)
        shown = api.show(instance)
        assert shown is not None
        assert addresses(api, shown) == last


def test_a_boot_is_stopped_while_it_loads(faulty: Any) -> None:
    with faulty(**only("stopped-while-loading")) as api:
        row = api.wait(api.create(), lambda row: row is not None and row["intended_status"] == "stopped")
        assert row is not None
        assert (row["actual_status"], row["cur_state"], row["next_state"]) == ("loading", "stopped", "stopped")


def test_an_oci_error_is_told_in_the_status_message(faulty: Any) -> None:
    with faulty(**only("oci-error")) as api:
        row = api.wait(api.create(), lambda row: row is not None and row["status_msg"])
        assert row is not None
        assert "OCI runtime create failed" in row["status_msg"]


def test_an_instance_vanishes_while_it_runs_and_bills_no_longer(faulty: Any) -> None:
    with faulty(**only("vanishes")) as api:
        instance = api.create()
        api.wait_status(instance, "running")
        api.wait(instance, lambda row: row is None)
        assert listed(api) == api.emulator.alive == []
        assert event(api, "vanished")["s"] - event(api, "status", status="running")["s"] >= 2


# Machines


def ready(api: Api, **order: Any) -> tuple[int, int]:
    """A rented instance with our key, once it runs, and its port."""
    if not api("GET", "/api/v0/ssh/").json():
        api("POST", "/api/v0/ssh/", json={"ssh_key": PUBLIC})
    instance = api.create(**order)
    return instance, api.wait_status(instance, "running")["ssh_port"]


def until_open(api: Api, instance: int) -> None:
    while not any(one["event"] == "ssh_open" and one["instance"] == instance for one in api.emulator.events):
        time.sleep(0.005)


async def connected(port: int, tries: int = 200) -> asyncssh.SSHClientConnection:
    for left in reversed(range(tries)):
        try:
            return await asyncssh.connect("127.0.0.1", port, **KNOWN)
        except (OSError, asyncssh.Error):
            if not left:
                raise
            await asyncio.sleep(0.01)
    raise AssertionError("no try was asked for")


def said(port: int, *commands: str) -> list[str]:
    async def ask() -> list[str]:
        async with await connected(port) as ssh:
            return [str((await ssh.run(command, stderr=asyncssh.STDOUT)).stdout).strip() for command in commands]

    return asyncio.run(asyncio.wait_for(ask(), 30))


def test_a_start_script_that_did_not_take_is_neither_run_nor_shown(faulty: Any) -> None:
    with faulty(**only("onstart-missing")) as api:
        instance, port = ready(api, onstart="touch /workspace/began")
        row = api.show(instance)
        assert row is not None
        assert row["onstart"] is None
        assert said(port, "ls /workspace; ls /root/onstart.sh")[0].startswith("ls:")


def test_an_image_without_http_tools_gets_one_at_the_third_try(faulty: Any) -> None:
    with faulty(**only("bare-image")) as api:
        _, port = ready(api)
        look, install = "command -v curl wget python3 | wc -l", "apt-get -qq update && apt-get -y install curl"
        assert said(port, look, *(f"{install}; {look}" for _ in range(3)))[::3] == ["0", "1"]


def test_a_chatty_images_start_up_files_speak_before_each_command(faulty: Any) -> None:
    with faulty(**only("chatty-image")) as api:
        _, port = ready(api)
        first, second = said(port, "echo result", "true")
        assert first == f"{second}\n\nresult"


def test_a_full_disk_takes_no_file_and_the_machine_still_works(faulty: Any) -> None:
    with faulty(**only("disk-full")) as api:
        _, port = ready(api)
        text, alive = said(port, "echo x > /workspace/x; cp /etc/hostname /tmp/y", "echo alive")
        if api.emulator.isolation == "namespace":
            assert text.count("No space left on device") == 2
        assert alive == "alive"


def test_what_a_connection_writes_is_there_for_it_and_gone_for_the_next(faulty: Any) -> None:
    with faulty(**only("forgets-files")) as api:
        _, port = ready(api)
        write = "mkdir /workspace/d && echo kept > /workspace/d/.x && ln -s /etc/hostname /workspace/link"
        assert said(port, write, "cat /workspace/d/.x", "cat /etc/hostname")[1] == "kept"
        listed, name = said(port, "ls -A /workspace", "cat /etc/hostname")
        assert listed == ""
        assert name


def test_a_skewed_clock_runs_too_fast(faulty: Any) -> None:
    with faulty(**only("clock-skewed")) as api:
        _, port = ready(api)
        first, _, second = said(port, "cat /proc/uptime", "sleep 0.5", "cat /proc/uptime")
        if api.emulator.isolation == "namespace":
            assert float(second.split()[0]) - float(first.split()[0]) >= 0.9


def test_ports_accept_before_ssh_answers_and_the_log_tells_when_it_does(faulty: Any) -> None:
    with faulty(speed=20, **only("port-before-sshd")) as api:
        instance, port = ready(api)
        until_open(api, instance)
        for _ in range(2):  # one is closed at once, one is silent
            with socket.create_connection(("127.0.0.1", port)) as one:
                one.settimeout(0.05)
                with suppress(TimeoutError):
                    assert one.recv(100) == b""
        assert said(port, "echo ready") == ["ready"]
        assert event(api, "ssh_ready")["s"] - event(api, "ssh_open")["s"] >= 5


def test_the_servers_name_comes_late(faulty: Any) -> None:
    with faulty(speed=20, **only("banner-late")) as api:
        instance, port = ready(api)
        until_open(api, instance)
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as one:
            assert one.recv(100).startswith(b"SSH-2.0-")
        assert time.monotonic() - began >= 1.5 / 20


def test_something_else_than_ssh_answers(faulty: Any) -> None:
    with faulty(**only("banner-garbage")) as api:
        instance, port = ready(api)
        until_open(api, instance)
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port)) as one:
                heard = b""
                while more := one.recv(1000):
                    heard += more
            assert heard
            assert not heard.startswith(b"SSH-")


def test_keys_come_late_or_never(faulty: Any) -> None:
    with faulty(speed=50, **only("key-late")) as api:
        instance, _ = ready(api)
        until_open(api, instance)
        assert not any(one["event"] == "ssh_ready" for one in api.emulator.events)
        emulated(api, 75)
        assert event(api, "ssh_ready")["s"] - event(api, "ssh_open")["s"] >= 20
    with faulty(**only("key-never")) as api:
        instance, port = ready(api)
        until_open(api, instance)
        emulated(api, 100)
        with pytest.raises(asyncssh.PermissionDenied):
            asyncio.run(connected(port, tries=1))


def test_a_later_connection_shows_another_host_key(faulty: Any) -> None:
    shown: list[bytes] = []

    class Seen(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            shown.append(key.public_data)
            return True

    async def look(port: int) -> None:
        for _ in range(3):
            try:
                options: dict[str, Any] = KNOWN | {"known_hosts": ([], [], [])}
                async with asyncssh.connect("127.0.0.1", port, client_factory=Seen, **options):
                    pass
            except (asyncssh.Error, OSError):
                pass

    with faulty(**only("host-key-changed")) as api:
        instance, port = ready(api)
        until_open(api, instance)
        asyncio.run(asyncio.wait_for(look(port), 30))
    assert len(shown) == 3
    assert shown[0] != shown[1] == shown[2]


def test_the_connection_is_reset_before_a_commands_exit_status(faulty: Any) -> None:
    async def use(port: int) -> None:
        async with await connected(port) as ssh:
            done = await ssh.run("echo did it > /workspace/mark")
            assert (done.exit_status, ssh.is_closed()) == (None, True)

    with faulty(**only("reset-mid-command")) as api:
        _, port = ready(api)
        asyncio.run(asyncio.wait_for(use(port), 30))


def test_a_half_open_connection_stands_and_swallows_everything(faulty: Any) -> None:
    async def use(port: int) -> None:
        ssh = await connected(port)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ssh.run("echo x"), 0.5)
        assert not ssh.is_closed()
        ssh.abort()

    with faulty(**only("half-open")) as api:
        _, port = ready(api)
        asyncio.run(asyncio.wait_for(use(port), 30))


# The end


def test_a_destroy_is_acknowledged_and_ignored_until_one_works(faulty: Any) -> None:
    with faulty(**only("destroy-ignored", 0.7)) as api:
        instance = api.create()
        sent = 0
        while api.emulator.alive:
            api.destroy(instance)
            sent += 1
        assert sent > 1
    with faulty(**only("destroy-ignored")) as api:
        instance = api.create()
        for _ in range(5):
            api.destroy(instance)
        assert api.emulator.alive == [instance], "with probability 1 none ever works"


def test_a_destroy_that_answers_504_took_effect_or_did_not(faulty: Any) -> None:
    with faulty(**only("destroy-504")) as api:
        left = []
        for _ in range(8):
            instance = api.create()
            assert api("DELETE", f"/api/v0/instances/{instance}/", json={}).status_code == 504
            left.append(instance in api.emulator.alive)
        assert set(left) == {True, False}


def test_a_destroyed_instance_is_shown_for_a_while(faulty: Any) -> None:
    with faulty(speed=50, **only("gone-late")) as api:
        instance = api.create()
        api.destroy(instance)
        assert (listed(api), api.emulator.alive) == ([instance], [])
        api.wait(instance, lambda row: row is None)
        assert event(api, "gone")["s"] - event(api, "destroy_effective")["s"] >= 20


def test_charges_come_late(faulty: Any) -> None:
    with faulty(**only("charges-late")) as api:
        instance = api.create()
        api.destroy(instance)
        emulated(api, 300)
        days = {"select_filters": json.dumps({"day": {"gte": 0, "lte": 1e11}})}
        assert api("GET", "/api/v0/charges/", params=days).json()["results"] == []


# The instance's own key


def test_an_instances_own_key_may_only_read_start_stop_and_destroy_it(faulty: Any) -> None:
    with faulty() as api:
        made = [rent(api).json() for _ in range(2)]
        own, other = made[0]["new_contract"], made[1]["new_contract"]
        guest = Api(api.emulator, key=made[0]["instance_api_key"])
        with guest.http:
            for method, path, body in [
                ("PUT", f"/api/v0/instances/{own}/", {"label": "stolen"}),
                ("PUT", f"/api/v0/instances/{own}/", {"state": "stopped", "label": "stolen"}),
                ("PUT", f"/api/v0/instances/{own}/", {}),
                ("PUT", f"/api/v0/instances/{other}/", {"state": "stopped"}),
                ("GET", f"/api/v0/instances/{other}/", None),
                ("DELETE", f"/api/v0/instances/{other}/", {}),
                ("DELETE", "/api/v0/instances/", {"instance_ids": [own]}),
                ("PUT", "/api/v0/instances/", {"ids": [own], "state": "stopped"}),
                ("PUT", f"/api/v0/instances/reboot/{own}/", {}),
                ("POST", f"/api/v0/instances/{own}/ssh/", {"ssh_key": PUBLIC}),
                ("GET", "/api/v1/instances/", None),
                ("GET", "/api/v0/users/current/", None),
                ("POST", "/api/v0/bundles/", {}),
                ("PUT", f"/api/v0/asks/{api.offers()[0]['id']}/", ORDER),
            ]:
                reply = guest(method, path, json=body)
                assert (reply.status_code, reply.json()["error"]) == (403, "not_authorized"), (method, path, body)
            row = guest.show(own)
            assert row is not None
            assert (row["label"], row["intended_status"]) == ("mine", "running")
            api.wait_status(own, "running")
            for state in ("stopped", "running"):
                assert guest("PUT", f"/api/v0/instances/{own}/", json={"state": state}).json()["success"]
            guest.destroy(own)
            assert api.emulator.alive == [other]
