"""The HTTP side: keys, errors, limits, paging, in the marketplace's own forms."""

import json
from typing import Any

import httpx
import pytest

from tests.emulator.conftest import ORDER, Api
from vastbench.emulator import Emulator


def test_a_reply_is_exactly_json(api: Api) -> None:
    assert api("POST", "/api/v0/bundles/", json={}).headers["content-type"] == "application/json"


def test_a_wrong_key_answers_404_auth_error(emulator: Emulator) -> None:
    reply = httpx.get(f"{emulator.url}/api/v1/instances/", headers={"Authorization": "Bearer wrong"})
    assert (reply.status_code, reply.json()["error"], reply.json()["msg"]) == (404, "auth_error", "Invalid user key")


def test_no_key_answers_403(emulator: Emulator) -> None:
    assert httpx.get(f"{emulator.url}/api/v1/instances/").status_code == 403


def test_the_gpu_names_need_no_key(emulator: Emulator) -> None:
    assert httpx.get(f"{emulator.url}/api/v0/gpu_names/unique/").json()["gpu_names"] == ["RTX 4090"]


@pytest.mark.parametrize("path", ["/api/v0/users/current", "/api/v0/users/current/", "/api/v0/volumes"])
def test_the_slashless_routes_of_the_official_client_answer(api: Api, path: str) -> None:
    assert api("GET", path).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/instances", "/api/v0/instances/900"])
def test_a_missing_slash_redirects_with_json_that_lacks_the_instances(api: Api, path: str) -> None:
    reply = api("GET", path)
    assert reply.status_code == 301
    assert "instances" not in reply.json()
    assert reply.headers["location"] == path + "/"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v0/nonsense/", 404, "not_found"),
        ("PATCH", "/api/v1/instances/", 405, "method_not_allowed"),
        ("GET", "/api/v0/instances/", 410, "deprecated_endpoint"),
        ("DELETE", "/api/v0/instances/1/", 404, "no_such_instance"),
        ("PUT", "/api/v0/instances/1/", 404, "no_such_instance"),
    ],
)
def test_what_does_not_exist_is_refused_as_json(api: Api, method: str, path: str, status: int, code: str) -> None:
    reply = api(method, path)
    assert (reply.status_code, reply.json()["error"]) == (status, code)


@pytest.mark.parametrize("body", [b"{", b"[1]", b"7", b'{"price": NaN}', b'{"a": Infinity}', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    reply = api("POST", "/api/v0/bundles/", content=body)
    assert reply.status_code == 400
    assert reply.json()["msg"]


def test_an_oversized_body_is_refused(api: Api) -> None:
    assert api("POST", "/api/v0/bundles/", content=b" " * 1_100_000).status_code == 413


@pytest.mark.parametrize(
    "change",
    [{"disk": 1}, {"price": -1}, {"label": 5}, {"image": None}, {"onstart": "x" * 5000}, {"unheard_of": 1}, {"disk": 1e9}],
)
def test_a_wrong_order_is_refused_and_rents_nothing(api: Api, change: dict[str, Any]) -> None:
    offer = api.offers()[0]["id"]
    reply = api("PUT", f"/api/v0/asks/{offer}/", json=ORDER | change)
    assert reply.status_code == 400
    assert next(iter(change)) in reply.json()["msg"]
    assert api("GET", "/api/v1/instances/").json()["total_instances"] == 0


def test_an_offer_that_is_gone_is_refused_by_text_and_code(api: Api) -> None:
    reply = api("PUT", "/api/v0/asks/17/", json=ORDER)
    assert reply.status_code in (400, 404, 410)
    assert "no_such_ask" in reply.json()["msg"]
    assert reply.json()["ask_id"] == 17


def test_the_get_of_an_unknown_instance_answers_null(api: Api) -> None:
    reply = api("GET", "/api/v0/instances/1/", params={"owner": "me"})
    assert (reply.status_code, reply.json()) == (200, {"instances": None})


def test_an_instances_own_key_reads_and_destroys_it_and_does_nothing_else(api: Api, emulator: Emulator) -> None:
    offers = api.offers()
    made = api("PUT", f"/api/v0/asks/{offers[0]['id']}/", json=ORDER).json()
    other = api("PUT", f"/api/v0/asks/{offers[1]['id']}/", json=ORDER).json()
    own = Api(emulator, made["instance_api_key"])
    assert own("GET", f"/api/v0/instances/{made['new_contract']}/").status_code == 200
    for method, path in [
        ("GET", "/api/v1/instances/"),
        ("GET", f"/api/v0/instances/{other['new_contract']}/"),
        ("DELETE", f"/api/v0/instances/{other['new_contract']}/"),
        ("GET", "/api/v0/ssh/"),
        ("PUT", f"/api/v0/asks/{offers[2]['id']}/"),
    ]:
        assert own(method, path).status_code == 403
    assert own("DELETE", f"/api/v0/instances/{made['new_contract']}/").json()["success"]
    own.http.close()


def test_the_list_is_paged_filtered_ordered_and_cut_to_columns(api: Api) -> None:
    made = [api.create(label=f"run-{number % 2}") for number in range(3)]
    first = api("GET", "/api/v1/instances/", params={"limit": 2}).json()
    rest = api("GET", "/api/v1/instances/", params={"limit": 2, "after_token": first["next_token"]}).json()
    assert [row["id"] for row in first["instances"] + rest["instances"]] == made
    assert rest["next_token"] is None
    assert first["label_counts"] == {"run-0": 2, "run-1": 1}
    labelled = api("GET", "/api/v1/instances/", params={"select_filters": json.dumps({"label": {"in": ["run-1"]}})}).json()
    assert [row["id"] for row in labelled["instances"]] == [made[1]]
    params = {"order_by": json.dumps([{"col": "id", "dir": "desc"}]), "select_cols": json.dumps(["id", "label"])}
    cut = api("GET", "/api/v1/instances/", params=params).json()["instances"]
    assert [row["id"] for row in cut] == made[::-1]
    assert set(cut[0]) == {"id", "label"}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"select_filters": json.dumps({"dph_total": {"lt": 1}})}, "invalid_request"),
        ({"select_filters": "nonsense"}, "invalid_request"),
        ({"order_by": json.dumps(["id"])}, "invalid_request"),
        ({"after_token": "nonsense"}, "invalid_token"),
    ],
)
def test_a_malformed_list_query_is_refused(api: Api, params: dict[str, str], code: str) -> None:
    reply = api("GET", "/api/v1/instances/", params=params)
    assert (reply.status_code, reply.json()["error"]) == (400, code)


def test_ssh_keys_are_kept_changed_and_removed(api: Api) -> None:
    key = api("POST", "/api/v0/ssh/", json={"ssh_key": "ssh-ed25519 AAAA me"}).json()["key"]
    assert [one["public_key"] for one in api("GET", "/api/v0/ssh/").json()] == ["ssh-ed25519 AAAA me"]
    assert api("PUT", f"/api/v0/ssh/{key['id']}/", json={"ssh_key": "other"}).json()["key"]["public_key"] == "other"
    assert api("DELETE", f"/api/v0/ssh/{key['id']}/").json()["success"]
    assert api("GET", "/api/v0/ssh/").json() == []
    assert api("POST", "/api/v0/ssh/", json={}).json()["error"] == "no_ssh_key"


def test_calls_that_come_too_soon_are_refused_in_four_forms() -> None:
    with Emulator("seed", speed=2, seed=5) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        with httpx.Client(base_url=emulator.url, headers=headers) as http:
            assert http.put("/api/v0/asks/1/", json=ORDER).status_code in (400, 404, 410)
            refusals = [http.put("/api/v0/asks/1/", json=ORDER) for _ in range(12)]
    assert {reply.status_code for reply in refusals} == {429}
    forms = {"text" if r.headers["content-type"].startswith("text") else frozenset(r.json()) for r in refusals}
    assert len(forms) == 4
    assert all("threshold=4.5" in reply.text for reply in refusals)


def test_pages_that_follow_are_not_refused_for_their_haste() -> None:
    with Emulator("seed", speed=2) as emulator:
        headers = {"Authorization": f"Bearer {emulator.api_key}"}
        token = "eyJhZnRlciI6IDF9"
        with httpx.Client(base_url=emulator.url, headers=headers) as http:
            http.get("/api/v1/instances/")
            assert http.get("/api/v1/instances/", params={"after_token": token}).status_code == 200
            assert http.get("/api/v1/instances/").status_code == 429
