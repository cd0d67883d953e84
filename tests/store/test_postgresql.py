"""A store on a server: a password that never shows, a server that goes away and comes back, refusals that do not pass."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from tests.postgres import PostgresServer
from tests.store.records import SEED, lease
from vastbench.errors import Interrupted, NotFound, StoreError
from vastbench.interrupts import raising
from vastbench.io.files import read_run
from vastbench.store import Store, refusals
from vastbench.store.database import LOCK_WAIT_S
from vastbench.store.outbox import Outbox

RUN = read_run(SEED)
CANARY = "c@n/a:r y%"


@pytest.fixture
def store(url):
    with Store(url) as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(refusals, "PATIENCE_S", 0.3)


@pytest.fixture(scope="module")
def own_server():
    """A server that a test may stop."""
    with PostgresServer() as server:
        yield server


def test_both_names_of_the_scheme_mean_the_same(url, store):
    store.save_run(RUN)
    with Store(url.replace("postgresql://", "postgres://")) as same:
        assert same.runs() == [RUN]


def test_who_only_reads_makes_no_store(postgres):
    url = postgres.url(postgres.new_database())
    with pytest.raises(NotFound, match="There is no store in the database"):
        Store.existing(url)
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize(
    "template",
    [
        "postgresql://postgres:{canary}@127.0.0.1:{port}/postgres",  # the wrong password
        "postgres://nobody:{canary}@127.0.0.1:{port}/nowhere",  # no such user
        "postgresql://postgres:{canary}@127.0.0.1:1/postgres",  # nobody listens
        "postgresql://postgres:{canary}@127.0.0.1:{port}/postgres?nonsense={canary}",
        "postgresql://postgres@127.0.0.1:{port}/postgres?password={canary}",
        "postgresql://postgres:{canary}@no-such-host.invalid/postgres",
        "postgresql+nodriver://postgres:{canary}@127.0.0.1/postgres",
        "mysql://root:{canary}@127.0.0.1/mysql",
    ],
)
@pytest.mark.parametrize("canary", [quote(CANARY, safe=""), "canary", CANARY])
def test_a_password_shows_in_no_refusal(postgres, template, canary):
    with pytest.raises(StoreError) as refused:
        Store(template.format(canary=canary, port=postgres.port))
    assert refused.value.__suppress_context__ or refused.value.__context__ is None  # no traceback shows more
    told = f"{refused.value} {refused.value!r}"
    assert not [secret for secret in (CANARY, quote(CANARY), quote(CANARY, safe=""), "canary", "n/a:r") if secret in told], told


def test_a_password_does_not_show_in_the_store_s_place(url, store, postgres):
    assert postgres.password in url
    assert postgres.password not in store.place
    assert "127.0.0.1" in store.place


def test_without_the_driver_the_message_says_what_to_install(url):
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from vastbench.store import Store\n"
        "from vastbench.errors import StoreError\n"
        "try: Store(sys.argv[1])\n"
        "except StoreError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, timeout=60, check=True)
    assert "driver is not installed" in done.stdout
    assert "pip install 'vastbench[postgres]'" in done.stdout


def test_nothing_waits_for_ever(store):
    with store._engine.connect() as connection:
        settings = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        waits = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in settings]
    assert waits == [f"{LOCK_WAIT_S}s", "1min", "1min"]


def test_a_run_that_ends_during_a_server_outage_is_stored_once(own_server):
    with own_server.database() as url, Store(url) as store:
        store.open_study("s", scenario="integration", repeats=3, conditions={})
        store.open_lease(lease())
        own_server.stop()
        done = []
        writes = [
            lambda: store.save_run(RUN),
            lambda: store.update_lease("vb-1", state="held", instance_id=7),
            lambda: store.open_lease(lease("vb-2")),
            lambda: store.announce_run("s", "run-9", {"host": "here"}),
            lambda: store.beat("me"),
        ]
        threads = [threading.Thread(target=lambda work=work: done.append(work())) for work in writes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.2)
        assert all(thread.is_alive() for thread in threads)
        own_server.start()
        for thread in threads:
            thread.join(60)
        assert sorted(map(str, done)) == ["None"] * 4 + ["True"]
        assert store.runs() == [RUN]
        assert {(row.label, row.state) for row in store.leases()} == {("vb-1", "held"), ("vb-2", "intended")}
        assert [one.run_id for one in store.unfinished("s")] == ["run-9"]
        assert store.beats().keys() == {"me"}


@pytest.mark.parametrize(("again", "said"), [(True, "tables were replaced"), (False, "cannot be used")])
def test_a_store_whose_tables_were_dropped_takes_no_run_for_stored(url, monkeypatch, tmp_path, again, said):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with Store(url) as store:
        with store._engine.begin() as connection:
            connection.execute(sa.text("DROP SCHEMA public CASCADE"))
            connection.execute(sa.text("CREATE SCHEMA public"))
        if again:
            Store(url).close()
        with pytest.raises(StoreError, match=rf"{said}.* is kept in "):
            store.save_run_or_keep(RUN)
    with Store(url) as store:
        assert store.runs() == []
        assert store.take_in_pending_runs() == [RUN.id]


def test_signs_of_life_are_dated_by_the_server_not_by_the_owner(store, monkeypatch):
    class Behind(datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) - timedelta(hours=1)

    monkeypatch.setattr("vastbench.store.store.datetime", Behind)
    store.beat("me")
    monkeypatch.undo()
    (last,) = store.beats().values()
    assert store.now() - datetime.fromisoformat(last) < timedelta(minutes=5)
    assert store.now().utcoffset() == timedelta(0)


def test_what_was_committed_is_there_after_the_server_was_killed(own_server):
    with own_server.database() as url, Store(url) as store:
        store.save_run(RUN)
        own_server.stop()
        own_server.start()
        assert store.runs() == [RUN]


def test_a_server_that_stays_away_is_told_by_name(own_server, impatient):
    with own_server.database() as url, Store(url) as store:
        own_server.stop()
        try:
            with pytest.raises(StoreError, match=rf"127\.0\.0\.1:{own_server.port}.*refused"):
                store.save_run(RUN)
        finally:
            own_server.start()


def after_commit_once(store, harm):
    """Do ``harm`` to the connection right after the next transaction was committed on the server."""
    committed = []

    def commit(connection):
        if not committed:
            committed.append(True)
            connection.commit()
            harm()
            connection.execute("SELECT 1")  # finds the connection gone, as a commit does whose answer is lost

    store._engine.dialect.do_commit = lambda connection: commit(connection) if not committed else connection.commit()


def end_connections(postgres, store):
    def end():
        engine = sa.create_engine(store._engine.url.set(database="postgres"))
        with engine.begin() as connection:
            words = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            connection.execute(sa.text(words), {"name": store._engine.url.database})
        engine.dispose()

    return end


@pytest.mark.parametrize("what", ["save_run", "open_lease", "announce_run", "close_lease"])
def test_what_was_committed_although_the_answer_was_lost_is_not_done_twice(postgres, store, what):
    store.open_study("s", scenario="integration", repeats=1, conditions={})
    store.open_lease(lease("vb-old"))
    writes = {
        "save_run": lambda: store.save_run(RUN),
        "open_lease": lambda: store.open_lease(lease()),
        "announce_run": lambda: store.announce_run("s", "run-9", {"host": "here"}),
        "close_lease": lambda: store.close_lease("vb-old", verdict="destroyed"),
    }
    after_commit_once(store, end_connections(postgres, store))
    assert writes[what]() in (None, True)
    assert len(store.runs()) == (what == "save_run")
    assert len(store.leases()) == 1 + (what == "open_lease")
    assert len(store.unfinished("s")) == (what == "announce_run")


def refusing(store, state):
    """Let the server refuse every new run with an SQLSTATE."""
    with store._engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'refused on purpose' USING ERRCODE = '{state}'; END $$"
        )
        connection.exec_driver_sql("CREATE TRIGGER refuse BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION refuse()")


def test_a_full_disk_is_told_at_once(store):
    tries = []
    refusing(store, "53100")
    sa.event.listen(store._engine, "begin", lambda connection: tries.append(1))
    with pytest.raises(StoreError, match="its disk is full"):
        store.save_run(RUN)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("state", "passing"), [("40001", True), ("40P01", True), ("55P03", True), ("23505", False), ("42501", False)]
)
def test_only_refusals_that_pass_are_tried_again(store, impatient, state, passing):
    tries = []
    refusing(store, state)
    sa.event.listen(store._engine, "begin", lambda connection: tries.append(1))
    with pytest.raises(StoreError, match="refused on purpose"):
        store.save_run(RUN)
    assert (len(tries) > 1) is passing


def test_a_lock_that_is_not_given_is_tried_again_and_told(store, url, impatient):
    with store._engine.begin() as holder:
        holder.exec_driver_sql("LOCK TABLE runs IN EXCLUSIVE MODE")
        with Store(url) as other:
            sa.event.listen(other._engine, "begin", lambda connection: connection.exec_driver_sql("SET lock_timeout = '50ms'"))
            with pytest.raises(StoreError, match="lock timeout"):
                other.save_run(replace(RUN, id="waits"))


@pytest.mark.parametrize("how", ["read", "write", "outbox"])
@pytest.mark.parametrize("when", ["working", "looking whether it is there"])
def test_a_signal_during_a_query_stops_us_and_is_not_a_store_error(store, how, when, monkeypatch):
    """The driver cannot tidy up while it waits for an answer; its complaint about that must not stand for the signal."""
    slow = "SELECT pg_sleep(120)"
    if when != "working":
        monkeypatch.setattr(store._engine.dialect, "_dialect_specific_select_one", slow)

    def work(connection):
        connection.execute(sa.text(slow))

    def through_outbox(work):
        with Outbox(store)._transaction() as connection:
            work(connection)

    do = {"read": store._read, "write": store._write, "outbox": through_outbox}[how]
    tell = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    began = time.monotonic()
    with raising(Interrupted("stop"), signal.SIGUSR1):
        tell.start()
        with pytest.raises(Interrupted, match="stop"):
            do(work)
    assert time.monotonic() - began < 100
    monkeypatch.undo()
    store.save_run(RUN)


def test_a_refusal_while_a_signal_is_dealt_with_is_still_a_refusal(store, impatient):
    def refuse(_connection):
        raise sa.exc.OperationalError("SELECT", {}, Exception("faked"))

    try:
        raise Interrupted("stop")
    except Interrupted:
        with pytest.raises(StoreError, match="faked"):
            store._write(refuse)
