"""The commands: who is told, masked; a test that says what was answered; what is pending, here and in a report."""

import json
import re
import stat

import pytest
from typer.testing import CliRunner

from tests.cli.test_compare import runs
from tests.webhooks.receiver import SECRET, receiving
from tests.webhooks.test_delivery import NOW, NOWHERE
from tests.webhooks.test_notifier import drop_tables
from vastbench.cli import app
from vastbench.errors import NotFound, SettingsError, UsageError, VastbenchError, WebhookFailed
from vastbench.store import Store
from vastbench.store.outbox import Outbox
from vastbench.webhooks import Event
from vastbench.webhooks.events import body_of


@pytest.fixture
def place(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.fixture
def call(place):
    """Run a command with the store at ``place``; raises the error that it ends with."""

    def run(*words):
        done = CliRunner().invoke(app, [*map(str, words), "--store", str(place)])
        if isinstance(done.exception, VastbenchError):
            raise done.exception
        return done.output

    return run


def add_with_secret(call, tmp_path, url, *more):
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return call("webhooks", "add", url, "--allow-private", "--secret-file", tmp_path / "secret", *more)


def test_a_new_secret_is_shown_once_and_masked_ever_after(call, place):
    said = call("webhooks", "add", "https://127.0.0.1:8443/hooks/canary-token", "--allow-private")
    (secret,) = re.findall(r"whsec_\S+", said)
    with Store(place) as store:
        assert Outbox(store).config(1).secret == secret
    listed = call("webhooks", "list") + call("webhooks", "list", "--json")
    assert f"whsec_…{secret[-4:]}" in listed
    assert secret[6:-4] not in listed
    assert "canary" not in said + listed
    assert "https://127.0.0.1:8443/…oken" in listed


def test_the_store_is_its_owners_alone_also_one_that_was_made_before(call, place):
    call("webhooks", "add", "https://127.0.0.1/", "--allow-private")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    place.chmod(0o644)
    call("webhooks", "add", "https://127.0.0.1/", "--allow-private")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_add_as_json_has_the_new_secret_and_no_given_one(call, tmp_path):
    made = json.loads(call("webhooks", "add", "https://127.0.0.1/", "--allow-private", "--event", "lease.leaked", "--json"))
    assert made["secret"].startswith("whsec_")
    assert len(made["secret"]) > 40
    assert made["events"] == ["lease.leaked"]
    assert SECRET not in add_with_secret(call, tmp_path, "https://127.0.0.1/", "--json")


def test_a_private_address_is_refused_unless_it_is_allowed(call, place):
    with pytest.raises(UsageError, match="not public"):
        call("webhooks", "add", "https://127.0.0.1/")
    assert not place.exists()


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", SECRET[6:], SECRET + "!"])
def test_a_secret_that_is_none_is_refused_and_not_quoted(call, tmp_path, secret):
    (tmp_path / "bad").write_text(secret)
    with pytest.raises(UsageError) as caught:
        call("webhooks", "add", "https://127.0.0.1/", "--allow-private", "--secret-file", tmp_path / "bad")
    assert SECRET[6:] not in str(caught.value)


def test_mistakes_are_named(call, tmp_path):
    with pytest.raises(UsageError, match=r"run\.exploded.*run\.finished"):
        call("webhooks", "add", "https://127.0.0.1/", "--allow-private", "--event", "run.exploded")
    with pytest.raises(SettingsError, match="cannot be read"):
        call("webhooks", "add", "https://127.0.0.1/", "--allow-private", "--secret-file", tmp_path / "missing")
    with pytest.raises(NotFound, match="no store"):
        call("webhooks", "list")
    call("webhooks", "add", "https://127.0.0.1/", "--allow-private")
    for command in ("remove", "test"):
        with pytest.raises(NotFound, match="webhook 7"):
            call("webhooks", command, "7")
    call("webhooks", "remove", "1")
    assert "Nobody is told" in call("webhooks", "list")
    with pytest.raises(UsageError, match="no webhook"):
        call("webhooks", "test")


def test_a_test_says_what_the_receiver_answers(call, tmp_path):
    with receiving(204, 418) as receiver:
        add_with_secret(call, tmp_path, receiver.url, "--event", "lease.leaked")
        assert "taken, HTTP 204" in call("webhooks", "test")
        with pytest.raises(WebhookFailed, match="HTTP 418") as caught:
            call("webhooks", "test", "1")
    assert receiver.types() == ["test", "test"]
    assert caught.value.exit_code == 16


def test_what_is_pending_is_shown_and_can_be_sent_now(call, tmp_path, place):
    with receiving(500) as receiver:
        add_with_secret(call, tmp_path, receiver.url)
        with Store(place) as store:
            Outbox(store).put(Event.TEST, body_of(Event.TEST, {}, NOW), NOW)
        assert "1 pending" in call("webhooks", "deliveries")
        assert "HTTP 500" in call("webhooks", "deliveries", "--retry")
        assert json.loads(call("webhooks", "list", "--json"))[0]["pending"] == 1
        (shown,) = json.loads(call("webhooks", "deliveries", "--retry", "--json"))
    assert (shown["state"], shown["attempts"], shown["body"]["type"]) == ("delivered", 2, "test")
    assert receiver.ids == [shown["id"]] * 2
    assert "pending." not in call("webhooks", "deliveries")


@pytest.fixture
def two_studies(place):
    with Store(place) as store:
        for run in runs("before", 100) + runs("slow", 150):
            store.save_run(run)


def test_a_worse_group_is_told_as_a_regression_and_a_better_one_is_not(call, tmp_path, two_studies):
    with receiving() as receiver:
        add_with_secret(call, tmp_path, receiver.url)
        found = [json.loads(call("compare", a, b, "--json")) for a, b in (("before", "slow"), ("slow", "before"))]
    assert [one["verdict"] for one in found] == ["worse", "better"]
    assert receiver.data("regression.found") == found[:1]


def test_a_worse_group_is_found_all_the_same_without_tables_or_a_store(call, two_studies, place, tmp_path, monkeypatch):
    assert "B is slower" in call("compare", "before", "slow")
    with Store(place) as store:
        drop_tables(store)
    assert "B is slower" in call("compare", "before", "slow")
    monkeypatch.setenv("VASTBENCH_STORE", str(tmp_path / "none.sqlite"))
    call("export", tmp_path / "before.parquet", "--study", "before")
    call("export", tmp_path / "slow.parquet", "--study", "slow")
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "before.parquet"), str(tmp_path / "slow.parquet")])
    assert done.exit_code == 13
    assert not (tmp_path / "none.sqlite").exists()


def test_a_report_hears_what_is_pending_and_needs_no_tables(call, place, monkeypatch):
    class Heard(Exception):
        pass

    def build(source, *_more, **_named):
        raise Heard(source.pending)

    def pending():
        done = CliRunner().invoke(app, ["report", "--store", str(place)])
        assert isinstance(done.exception, Heard)
        return done.exception.args[0]

    monkeypatch.setattr("vastbench.report.asked.build_report", build)
    with Store(place) as store:
        Outbox(store).add(NOWHERE, SECRET, allow_private=True)
        assert pending() == 0
        Outbox(store).put(Event.TEST, body_of(Event.TEST, {}, NOW), NOW)
        assert pending() == 1
        drop_tables(store)
        assert pending() == 0
