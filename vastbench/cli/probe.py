"""What the marketplace tells for nothing before anything is rented: account, key, market, and what a run would cost.

One SSH key is added to the account and removed again.
"""

from __future__ import annotations

from collections.abc import Callable

from vastbench.cli.doctor import NOBODYS, Finding, permissions, whatever_happens
from vastbench.clock import Clock
from vastbench.errors import KeyRejected, Refused, clean
from vastbench.record.conditions import Conditions
from vastbench.record.cost import usd_for
from vastbench.record.formats import counted, dollars
from vastbench.rental.label import label_of, read_label
from vastbench.rental.offers import choose, find
from vastbench.scenarios import find_scenario
from vastbench.settings import Settings
from vastbench.ssh.keys import RunKey
from vastbench.vast.api import VastApi
from vastbench.vast.shapes import Shapes


def probing(conditions: Conditions, shapes: Shapes) -> Callable[[Settings], list[Finding]]:
    """The probe for :func:`vastbench.cli.doctor.examine`; it notes the shapes of the answers in ``shapes``."""

    def ask(settings: Settings) -> list[Finding]:
        clock = Clock(settings.vastbench_speed)
        with VastApi(settings.vast_url, settings.require_key(), clock=clock, observe=shapes) as api:
            return probe(api, conditions)

    return ask


def probe(api: VastApi, conditions: Conditions) -> list[Finding]:
    """Every check of account, key and market."""
    checks: dict[str, Callable[[], Finding | None]] = {
        "permissions": lambda: permissions(api),
        "account": lambda: _account(api),
        "SSH key": lambda: _ssh_key(api),
        "instances": lambda: _instances(api),
        "gone": lambda: _gone(api),
        "cost": lambda: _cost(api, conditions),
    }
    found = [whatever_happens(subject, check) for subject, check in checks.items()]
    return [one for one in found if one is not None]


def _account(api: VastApi) -> Finding:
    try:
        user = api.current_user().value
    except KeyRejected:
        fix = "Look at the marketplace's billing page; docs/live.md says what user_read is for."
        return Finding("account", "warn", "the key may not ask whose it is, nor how much credit there is", fix)
    if user.credit is None:
        return Finding("account", "warn", "it does not say how much credit it has", "Look at the marketplace's billing page.")
    if user.credit <= 0:
        return Finding("account", "fail", f"its credit is {dollars(user.credit)}", "Add credit on the billing page.")
    return Finding("account", "ok", f"its credit is {dollars(user.credit)}")


def _ssh_key(api: VastApi) -> Finding:
    name = "vastbench-doctor"
    try:
        made = api.create_ssh_key(RunKey.generate(name).public_line).value
    except (KeyRejected, Refused) as error:
        return Finding("SSH key", "warn", error.message, "Runs attach theirs to the instance alone: docs/live.md.")
    try:  # one that was killed here has left its own
        before = {key.id for key in api.list_ssh_keys().value if (key.public_key or "").endswith(f" {name}")}
    finally:
        api.delete_ssh_key(made.id)
    for left in before - {made.id}:
        api.delete_ssh_key(left)
    return Finding("SSH key", "ok", "one was added to the account and removed again")


def _instances(api: VastApi) -> Finding:
    rows = api.list_instances().value
    ours = [one for one in rows if read_label(label_of(one))]
    found = f"{counted(len(rows), 'instance')} on the account, {len(ours)} of them vastbench's"
    if ours:
        return Finding("instances", "warn", found, "`vastbench reap --live` closes those of processes that have ended.")
    return Finding("instances", "ok", found)


def _gone(api: VastApi) -> Finding:
    """Whether the page of an instance that does not exist says so in a form that we know: runs are shown to be gone by it."""
    if api.get_instance(NOBODYS).value is None:
        return Finding("gone", "ok", "an instance that does not exist is said not to exist")
    return Finding("gone", "fail", "an instance that does not exist has a page", "Look at VAST_URL: that is no Vast.ai.")


def _cost(api: VastApi, conditions: Conditions) -> Finding:
    offer = find(lambda query: api.search_offers(query).value, conditions, lambda offers: choose(offers, conditions))
    price, scenario = offer.usd_per_hour(conditions.disk_gb), find_scenario(None)
    return Finding(
        "cost",
        "ok",
        f"{clean(offer.gpu_name)} at {dollars(price)}/h: about {dollars(usd_for(120.0, price))} for a run of two minutes, "
        f"at most {dollars(scenario.worst_case_usd(conditions, price))} if every deadline is reached",
    )
