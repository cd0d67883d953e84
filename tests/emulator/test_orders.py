"""Create requests: what is accepted, and what is refused by name."""

from typing import Any

import pytest

from vastbench.emulator.orders import order
from vastbench.emulator.replies import Refusal

OFFICIAL: dict[str, Any] = {
    "client_id": "me", "image": "ubuntu:22.04", "env": {"FOO": "bar", "-p 8080:8080": "1", "-h": "box"}, "price": None,
    "disk": 16.0, "label": "run-1", "extra": None, "onstart": "echo hi", "image_login": None, "python_utf8": False,
    "lang_utf8": False, "use_jupyter_lab": False, "jupyter_dir": None, "force": False, "cancel_unavail": False,
    "template_hash_id": None, "user": None, "runtype": "ssh_direc ssh_proxy",
}  # fmt: skip


def test_the_official_clients_body_is_accepted() -> None:
    accepted = order(OFFICIAL)
    assert accepted.ssh
    assert accepted.direct
    assert accepted.variables == {"FOO": "bar"}
    assert accepted.ports == ["8080/tcp"]


@pytest.mark.parametrize(
    ("runtype", "ssh", "direct"),
    [
        (None, True, False),
        ("ssh", True, False),
        ("ssh_proxy", True, False),
        ("ssh_direct ssh_proxy", True, True),
        ("jupyter_direc ssh_direc ssh_proxy", True, True),
        ("args", False, False),
    ],
)
def test_run_types_decide_the_endpoints(runtype: str | None, ssh: bool, direct: bool) -> None:
    accepted = order({"image": "a", "runtype": runtype})
    assert (accepted.ssh, accepted.direct) == (ssh, direct)


def test_env_may_be_docker_options_in_one_string() -> None:
    assert order({"image": "a", "env": "-e FOO='a b' -p 80:90/udp"}).variables == {"FOO": "a b"}
    assert order({"image": "a", "env": "-e FOO='a b' -p 80:90/udp"}).ports == ["90/udp"]


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"image": None}, "invalid_args", "image"),
        ({"image": "i" * 1025}, "invalid_args", "image"),
        ({"price": -1.0}, "invalid_price", "price"),
        ({"price": float("nan")}, "invalid_price", "price"),
        ({"price": 129}, "invalid_price", "price"),
        ({"disk": 7.9}, "invalid_args", "disk"),
        ({"disk": float("inf")}, "invalid_args", "disk"),
        ({"disk": "16"}, "invalid_args", "disk"),
        ({"label": "l" * 257}, "invalid_args", "label"),
        ({"onstart": "x" * 4000, "args": ["y" * 97]}, "invalid_args", "onstart"),
        ({"env": {"K" * 257: "v"}}, "invalid_args", "env"),
        ({"env": {f"K{n}": "v" * 250 for n in range(140)}}, "invalid_args", "env"),
        ({"env": ["FOO=bar"]}, "invalid_args", "env"),
        ({"env": "-e 'FOO"}, "invalid_args", "env"),
        ({"target_state": "asleep"}, "invalid_args", "target_state"),
        ({"surprise": 1}, "invalid_args", "surprise"),
    ],
)
def test_wrong_bodies_are_refused_by_name(change: dict[str, Any], code: str, named: str) -> None:
    with pytest.raises(Refusal, match=named) as caught:
        order(OFFICIAL | change)
    assert (caught.value.status, caught.value.code) == (400, code)
