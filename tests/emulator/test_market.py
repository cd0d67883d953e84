"""The marketplace: offers, the status machine, keys, money; over HTTP and SSH, as any client sees them."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import asyncssh
import httpx
import pytest

from tests.emulator.conftest import ORDER, Api
from vastbench.emulator import Emulator

EVERYTHING = json.dumps({"day": {"gte": 0, "lte": 1e11}})


def events(emulator: Emulator, instance: int, name: str) -> list[dict[str, Any]]:
    return [event for event in emulator.events if event["instance"] == instance and event["event"] == name]


def profile(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(f'extends = "seed"\n{text}\n', "utf-8")
    return path


def test_the_seed_market_has_64_offers_and_the_seeds_own_is_the_cheapest(api: Api) -> None:
    offers = api("POST", "/api/v0/bundles/", json={"gpu_name": {"eq": "RTX 4090"}, "order": [["dph_total", "asc"]]}).json()[
        "offers"
    ]
    assert len(offers) == 64
    first = offers[0]
    found = (first["dph_total"], first["geolocation"], first["reliability"], first["driver_version"], first["gpu_ram"])
    assert found == (0.1689, "British Columbia, CA", 0.994, "580.95.05", 24564)


def test_a_rented_offer_vanishes_and_comes_back_under_a_new_id(api: Api) -> None:
    before = {offer["machine_id"]: offer["id"] for offer in api.offers()}
    instance = api.create()
    machine = api.wait(instance, lambda row: row is not None)
    assert machine is not None
    assert machine["machine_id"] not in {offer["machine_id"] for offer in api.offers()}
    api.destroy(instance)
    after = {offer["machine_id"]: offer["id"] for offer in api.offers()}
    assert after[machine["machine_id"]] > before[machine["machine_id"]]


def test_storage_is_priced_by_the_month_of_720_hours(api: Api) -> None:
    offer = api.offers(allocated_storage=72.0)[-1]
    assert offer["dph_total"] == pytest.approx(offer["dph_base"] + offer["storage_cost"] / 10)


def test_an_instance_goes_from_null_to_loading_to_running_then_has_ports(api: Api) -> None:
    instance = api.create(label="mine")
    seen: list[Any] = []
    while not seen or seen[-1] != "running":
        row = api.show(instance)
        assert row is not None
        assert ("ports" in row) == (row["actual_status"] == "running")
        if not seen or seen[-1] != row["actual_status"]:
            seen.append(row["actual_status"])
    assert seen == [None, "loading", "running"]
    assert row["ports"]["22/tcp"][0]["HostPort"].isdigit()
    assert row["status_msg"] == "success, running ubuntu_22.04/ssh"


def test_what_http_shows_encloses_the_truth(api: Api, emulator: Emulator) -> None:
    instance = api.create()
    no_sent = yes_received = 0.0
    while not yes_received:
        sent = time.monotonic_ns()
        row = api.show(instance)
        if row is not None and row["actual_status"] == "running":
            yes_received = time.monotonic_ns()
        else:
            no_sent = sent
    true = [event for event in events(emulator, instance, "status") if event["status"] == "running"]
    assert no_sent < true[0]["ns"] <= yes_received


def test_no_status_comes_before_its_drawn_delay(api: Api, emulator: Emulator) -> None:
    instance = api.create()
    api.wait_status(instance, "running")
    created = events(emulator, instance, "create_effective")[0]["s"]
    running = next(event["s"] for event in events(emulator, instance, "status") if event["status"] == "running")
    assert running - created > 68.43 - 1e-6  # and later by as much as a busy machine delays it


def test_a_destroyed_instance_answers_null_and_leaves_the_list(api: Api, emulator: Emulator) -> None:
    instance = api.create()
    api.destroy(instance)
    assert api.wait(instance, lambda row: row is None) is None
    assert api("GET", "/api/v1/instances/").json()["instances"] == []
    assert api("DELETE", f"/api/v0/instances/{instance}/", json={}).json()["error"] == "no_such_instance"
    assert [event["event"] for event in emulator.events if event["instance"] == instance][-1] == "gone"


def test_stop_and_start_keep_the_files_and_give_the_gpu_back_meanwhile(api: Api) -> None:
    instance = api.create(onstart="echo booted >> /workspace/boots; cat /workspace/boots")
    machine = api.wait_status(instance, "running")["machine_id"]
    while logged(api, instance).count("booted") < 1:
        pass
    assert api("PUT", f"/api/v0/instances/{instance}/", json={"state": "stopped"}).json()["success"]
    api.wait_status(instance, "stopped")
    assert machine in {offer["machine_id"] for offer in api.offers()}
    while not api("PUT", f"/api/v0/instances/{instance}/", json={"state": "running"}).json()["success"]:
        api("PUT", f"/api/v0/instances/{instance}/", json={"state": "stopped"})
    api.wait_status(instance, "running")
    while (count := logged(api, instance).count("booted")) < 3:  # one of the first boot, two of the second
        pass
    assert count == 3


def logged(api: Api, instance: int) -> str:
    """The container's log so far; its start script may still be writing it."""
    promised = api("PUT", f"/api/v0/instances/request_logs/{instance}/", json={}).json()["result_url"]
    while (text := httpx.get(promised)).status_code == 404:
        pass
    return text.text


def test_a_reboot_keeps_billing_the_gpu(api: Api, emulator: Emulator) -> None:
    instance = api.create()
    api.wait_status(instance, "running")
    assert api("PUT", f"/api/v0/instances/reboot/{instance}/", json={}).json()["success"]
    api.wait_status(instance, "rebooting")
    api.wait_status(instance, "running")
    statuses = [event["status"] for event in events(emulator, instance, "status")]
    assert statuses == ["loading", "running", "rebooting", "running"]


def test_a_start_whose_gpu_is_taken_is_queued_and_fires_later(tmp_path: Path) -> None:
    taken = '[boot]\ngpu_taken = { p = 1, basis = "assumption" }\n'
    taken += 'gpu_taken_for = { kind = "fixed", value = 100, basis = "assumption" }'
    with Emulator(profile(tmp_path, taken), speed=200) as emulator:
        api = Api(emulator)
        instance = api.create()
        api.wait_status(instance, "running")
        api("PUT", f"/api/v0/instances/{instance}/", json={"state": "stopped"})
        api.wait_status(instance, "stopped")
        reply = api("PUT", f"/api/v0/instances/{instance}/", json={"state": "running"})
        assert (reply.status_code, reply.json()["success"]) == (200, False)
        assert "currently unavailable" in reply.json()["msg"]
        row = api.show(instance)
        assert row is not None
        assert (row["actual_status"], row["intended_status"]) == ("stopped", "running")
        api.wait_status(instance, "running")
        api.http.close()


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ('[boot]\noci_error = { p = 1, basis = "assumption" }', "created", "OCI runtime create failed"),
        ('[boot]\nexits = { p = 1, basis = "assumption" }', "exited", "exited"),
    ],
)
def test_a_boot_may_fail_and_says_how(tmp_path: Path, text: str, status: str, said: str) -> None:
    with Emulator(profile(tmp_path, text), speed=500) as emulator:
        api = Api(emulator)
        assert said in api.wait_status(api.create(), status)["status_msg"]
        api.http.close()


def test_a_lost_reply_leaves_an_instance_behind(tmp_path: Path) -> None:
    with Emulator(profile(tmp_path, '[faults]\ncreate_reply_lost = { p = 1, basis = "assumption" }'), speed=200) as emulator:
        api = Api(emulator)
        with pytest.raises(httpx.RemoteProtocolError):
            api("PUT", f"/api/v0/asks/{api.offers()[0]['id']}/", json=ORDER | {"label": "lost"})
        assert [row["label"] for row in api("GET", "/api/v1/instances/").json()["instances"]] == ["lost"]
        api.http.close()


def test_a_losing_bid_is_an_error_that_names_the_instance_it_left(api: Api) -> None:
    reply = api("PUT", f"/api/v0/asks/{api.offers()[0]['id']}/", json=ORDER | {"price": 0.001})
    assert reply.status_code == 400
    row = api.show(reply.json()["new_contract"])
    assert row is not None
    assert row["intended_status"] == "stopped"


def test_an_account_key_opens_new_instances_and_an_attached_key_its_own(api: Api, emulator: Emulator) -> None:
    early, late = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    texts = [key.export_public_key().decode().strip() for key in (early, late)]
    kept = api("POST", "/api/v0/ssh/", json={"ssh_key": texts[0]}).json()["key"]["id"]
    instance = api.create()
    row = api.wait_status(instance, "running")
    assert api("POST", f"/api/v0/instances/{instance}/ssh/", json={"ssh_key": texts[1]}).json()["success"]
    while len(events(emulator, instance, "ssh_ready")) < 2:
        time.sleep(0.01)

    async def names() -> list[str]:
        outputs = []
        for key, port in ((early, row["ssh_port"]), (late, int(row["ports"]["22/tcp"][0]["HostPort"]))):
            async with asyncssh.connect("127.0.0.1", port, username="root", client_keys=[key], known_hosts=None) as ssh:
                outputs.append(str((await ssh.run("hostname", check=True)).stdout).strip())
        return outputs

    assert asyncio.run(names()) == [f"C.{instance}"] * 2
    attached = api("GET", f"/api/v0/instances/{instance}/ssh/").json()["ssh_keys"]
    assert [key["public_key"] for key in json.loads(attached)] == [texts[1]]
    opened, ready = events(emulator, instance, "ssh_open")[0], events(emulator, instance, "ssh_ready")
    assert all(event["ns"] >= opened["not_before_ns"] for event in ready)
    api("DELETE", f"/api/v0/ssh/{kept}/")


def test_charges_come_late_and_say_what_the_meters_say(api: Api, emulator: Emulator) -> None:
    instance = api.create(label="billed")
    api.wait_status(instance, "running")
    api.destroy(instance)
    rows: list[dict[str, Any]] = []
    while not any(row["source"] == f"instance-{instance}" and row["end"] > row["start"] + 60 for row in rows):
        rows = api("GET", "/api/v0/charges/", params={"select_filters": EVERYTHING}).json()["results"]
    row = next(row for row in rows if row["source"] == f"instance-{instance}")
    assert row["metadata"]["label"] == "billed"
    assert {item["type"] for item in row["items"]} == {"gpu", "disk", "bwu", "bwd"}
    assert api("GET", "/api/v0/users/current/").json()["credit"] < 25


def test_charges_need_a_range_of_days(api: Api) -> None:
    reply = api("GET", "/api/v0/charges/")
    assert reply.status_code == 400
    assert "error" not in reply.json()


def test_the_same_seed_makes_the_same_market_and_other_seeds_another() -> None:
    def traits(seed: int) -> list[tuple[Any, ...]]:
        with Emulator("default", seed=seed, speed=500) as emulator:
            api = Api(emulator)
            rows = [(o["machine_id"], o["dph_base"], o["reliability"]) for o in api.offers()]
            api.http.close()
        return rows

    assert traits(1) == traits(1) != traits(2)
