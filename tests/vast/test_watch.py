"""One poller, any number of waiters, and bounds that hold."""

import json
import threading
import time
from itertools import dropwhile

import httpx
import pytest

from tests.vast.market import Script, client, page
from vastbench.clock import Clock
from vastbench.errors import ApiError, ApiRedirected, BootFailed, DeadlineExceeded, Interrupted, KeyRejected
from vastbench.vast.watch import Watch

CLOCK = Clock(50)


def row(status, number=900, **fields):
    return {"id": number, "actual_status": status, "intended_status": "running"} | fields


def running(sighting):
    return sighting.instance is not None and sighting.instance.actual_status == "running"


def watching(*replies, clock=CLOCK, **options):
    script = Script(*replies)
    return Watch(client(script, clock), clock, **options), script


@pytest.fixture
def watch_of():
    watches = []

    def make(*replies, **options):
        watch, script = watching(*replies, **options)
        watches.append(watch)
        return watch, script

    yield make
    for watch in watches:
        watch.close()


def soon(seconds=60.0):
    return CLOCK.now() + seconds


def test_a_moment_lies_between_the_last_no_and_the_first_yes(watch_of):
    watch, _ = watch_of(page(row(None)), page(row("loading")), page(row("running")))
    with watch.follow(900) as following:
        moment = following.wait_until(running, deadline=soon(), waited_for="running")
        _, loading, seen = following.history[:3]
    assert (moment.no_sent, moment.no_received) == (loading.sent, loading.received)
    assert (moment.yes_sent, moment.yes_received) == (seen.sent, seen.received)
    assert moment.source == "poll"


def test_the_true_change_lies_within_the_bounds():
    """The marketplace changes at a known reading; whatever the polls, the bounds hold it."""
    clock = Clock(20)
    for delay in (0.0, 0.7, 2.3):
        change = clock.now() + delay

        def market(request, change=change):
            return httpx.Response(200, json=page(row("running" if clock.now() >= change else "loading")))

        watch = Watch(client(market, clock), clock)
        with watch.follow(900, since=clock.now()) as following:
            moment = following.wait_until(running, deadline=clock.now() + 60, waited_for="running")
        watch.close()
        assert moment.lower <= max(change, following.since)
        assert change <= moment.upper


def test_without_a_no_the_lower_bound_is_since(watch_of):
    watch, _ = watch_of(page(row("running")))
    since = CLOCK.now()
    with watch.follow(900, since) as following:
        assert following.wait_until(running, deadline=soon(), waited_for="running").lower == since


def test_polls_keep_the_documented_second_even_if_less_is_asked_for(watch_of):
    watch, _ = watch_of(page(row("loading")), period_s=0.01)
    assert watch.period_s == 1.0
    with watch.follow(900) as following, pytest.raises(DeadlineExceeded):
        following.wait_until(running, deadline=soon(20), waited_for="running")
    assert following.stats.polls <= 21


def test_an_instance_that_is_not_listed_yet_gives_an_empty_sighting(watch_of):
    watch, _ = watch_of(page(), page(row("running")))
    with watch.follow(900) as following:
        following.wait_until(running, deadline=soon(), waited_for="running")
        assert [sighting.instance is None for sighting in following.history[:2]] == [True, False]


def test_absence_can_be_waited_for_and_needs_a_whole_list(watch_of):
    first = page({"id": 1}, token="t", total=2)
    watch, _ = watch_of(first, page(row("running"), total=2), first, (500, "x"), (200, "{"), page({"id": 1}))
    with watch.follow(900) as following:
        moment = following.wait_until(lambda sighting: sighting.instance is None, deadline=soon(), waited_for="gone")
    assert following.stats.missed == 2
    assert moment.no_sent > following.since


def test_a_transient_error_is_no_observation_and_the_bounds_stay_wide(watch_of):
    watch, _ = watch_of(page(row("loading")), (503, "x"), httpx.ReadTimeout("late"), (200, "{"), page(row("running")))
    with watch.follow(900) as following:
        moment = following.wait_until(running, deadline=soon(), waited_for="running")
    assert following.stats.missed == 3
    assert moment.no_sent == following.history[0].sent
    assert moment.upper - moment.lower >= 4.0


def test_each_429_makes_the_poller_a_little_slower(watch_of):
    watch, _ = watch_of((429, "threshold=1.0"), (429, "threshold=1.0"), page(row("running")))
    with watch.follow(900) as following:
        following.wait_until(running, deadline=soon(), waited_for="running")
    assert (following.stats.missed, following.stats.rate_limited) == (2, 2)
    assert watch.period_s == pytest.approx(1.21)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [((404, {"error": "auth_error", "msg": "Invalid user key"}), KeyRejected), ((301, page()), ApiRedirected)],
)
def test_a_permanent_error_reaches_every_waiter(watch_of, reply, kind):
    watch, _ = watch_of(page(row("loading")), reply)
    caught = []

    def wait(number):
        with watch.follow(number) as following, pytest.raises(kind):
            following.wait_until(running, deadline=soon(600), waited_for="running")
        caught.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(caught) == [0, 1, 2, 3, 4]


def test_a_deadline_says_what_was_waited_for_and_seen_last(watch_of):
    watch, _ = watch_of(page(row("loading", status_msg="pulling")), (503, "down"))
    with watch.follow(900) as following, pytest.raises(DeadlineExceeded) as caught:
        following.wait_until(running, deadline=soon(5), waited_for="running")
    assert caught.value.waited_for == "running"
    assert "loading (pulling)" in caught.value.last_seen
    assert "503" in caught.value.last_seen
    assert not following.moment(running).seen


def test_a_predicate_may_give_up(watch_of):
    def failed(sighting):
        if sighting.instance and sighting.instance.failed:
            raise BootFailed(sighting.instance.failed)
        return False

    watch, _ = watch_of(page(row("loading")), page(row("exited")))
    with watch.follow(900) as following, pytest.raises(BootFailed, match="exited"):
        following.wait_until(failed, deadline=soon(), waited_for="running")


def test_equal_sightings_in_a_row_are_kept_as_first_and_last(watch_of):
    watch, _ = watch_of(*[page(row("loading"))] * 6, page(row("running")))
    with watch.follow(900) as following:
        following.wait_until(running, deadline=soon(), waited_for="running")
        statuses = [sighting.instance.actual_status for sighting in following.history[:3]]
        assert statuses == ["loading", "loading", "running"]
        assert following.stats.polls >= 7


def test_an_earlier_look_says_nothing_about_a_later_instance(watch_of):
    watch, _ = watch_of(page(row("running")))
    with watch.follow(900, since=soon(10)) as following:
        moment = following.wait_until(running, deadline=soon(60), waited_for="running")
    assert moment.yes_sent >= following.since


def test_many_waiters_share_one_stream_and_each_sees_its_own():
    started = CLOCK.now()

    def market(request):
        rows = [row("running" if CLOCK.now() - started > number % 5 else "loading", number) for number in range(20)]
        return httpx.Response(200, json=page(*rows))

    api = client(market, CLOCK)
    watch = Watch(api, CLOCK)
    moments = {}

    def wait(number):
        with watch.follow(number, since=started) as following:
            moments[number] = following.wait_until(running, deadline=soon(120), waited_for="running")

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(moments) == 20
    assert all(moment.lower <= started + number % 5 <= moment.upper for number, moment in moments.items())
    assert api.usage.requests <= CLOCK.now() - started + 1


def test_the_thread_lives_as_long_as_somebody_follows(watch_of):
    watch, script = watch_of(page(row("running")))
    assert script.requests == []
    for _ in range(2):
        with watch.follow(900) as following:
            following.wait_until(running, deadline=soon(), waited_for="running")
            thread = watch._thread
            assert thread.is_alive()
        thread.join(5)
        assert not thread.is_alive()


def test_closing_the_watch_frees_its_waiters(watch_of):
    watch, _ = watch_of(page(row("loading")))
    timer = threading.Timer(0.1, watch.close)
    timer.start()
    with watch.follow(900) as following, pytest.raises(Interrupted):
        following.wait_until(running, deadline=soon(3000), waited_for="running")
    timer.join()


def test_ctrl_c_ends_a_wait_at_once():
    """A real SIGINT, sent to a process that waits for a status that never comes."""
    import signal
    import subprocess
    import sys

    program = (
        "import sys\n"
        "from tests.vast.test_watch import CLOCK, page, row, running, watching\n"
        "watch, _ = watching(page(row('loading')))\n"
        "with watch.follow(900) as following:\n"
        "    following.wait_until(lambda s: print('up', flush=True) or False, deadline=CLOCK.now() + 1e6, waited_for='x')\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe) as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)  # its deadline is far away
    assert b"KeyboardInterrupt" in errors


def test_a_stopping_clock_ends_every_wait():
    clock = Clock(50)
    watch, _ = watching(page(row("loading")), clock=clock)
    threading.Timer(0.1, clock.stopping.set).start()
    with watch.follow(900) as following, pytest.raises(Interrupted, match="running"):
        following.wait_until(running, deadline=clock.now() + 9000, waited_for="running")
    watch.close()


def test_sightings_are_counted_by_status_with_their_first_and_last(watch_of):
    watch, _ = watch_of(page(), page(row(None)), page(row("loading")), page(row("loading")), page(row("running")))
    with watch.follow(900) as following:
        following.wait_until(running, deadline=soon(), waited_for="running")
        spells = following.spells[:4]
        loading = [one for one in following.history if one.instance and one.instance.actual_status == "loading"]
    assert [(spell.status, spell.polls) for spell in spells[:3]] == [("not listed", 1), (None, 1), ("loading", 2)]
    assert spells[3].status == "running"
    assert spells[2].first == (loading[0].sent, loading[0].received)
    assert spells[2].last == (loading[-1].sent, loading[-1].received)


def test_the_first_poll_comes_at_a_random_part_of_the_period():
    waits = []
    for _ in range(12):
        watch, _ = watching(page(row("running")))
        began = CLOCK.now()
        with watch.follow(900) as following:
            moment = following.wait_until(running, deadline=soon(), waited_for="running")
        waits.append(moment.yes_sent - began)
        watch.close()
    assert max(waits) - min(waits) > 0.2
    assert min(waits) < 0.8


def test_threads_that_look_at_the_same_time_share_one_read():
    started = threading.Barrier(8)

    def market(request):
        time.sleep(0.1)
        return httpx.Response(200, json=page(row("running")))

    api = client(market, CLOCK)
    watch = Watch(api, CLOCK)
    seen = []

    def look():
        started.wait(5)
        after = CLOCK.now()
        seen.append((after, watch.poll(after)[0].sent))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 8
    assert all(sent >= after for after, sent in seen)
    assert api.usage.requests <= 2


def test_an_error_is_shared_by_simultaneous_polls_but_not_by_later_ones():
    watch, script = watching((503, "x"), page(row("running")))
    early = CLOCK.now()
    for _ in range(2):
        with pytest.raises(ApiError, match="503"):
            watch.poll(early)
    assert len(script.requests) == 1
    assert watch.poll(CLOCK.now())[0].value[0].id == 900


def test_the_list_can_be_looked_at_after_the_watch_was_closed(watch_of):
    watch, _ = watch_of(page(row("running")))
    watch.close()
    assert watch.poll(CLOCK.now())[0].value[0].actual_status == "running"


class Crowd:
    """A list, 25 to a page, of ``others``' instances and ``ours`` (by number); it filters by label unless told otherwise."""

    def __init__(self, ours, *, filters=True, others=300):
        self.ours, self.filters, self.others = ours, filters, others
        self.asked = []

    def __call__(self, request):
        wanted = json.loads(request.url.params["select_filters"]).get("label", {}).get("in")
        self.asked.append(wanted)
        if wanted is not None and self.filters is None:
            return httpx.Response(400, json={"success": False, "error": "invalid_request", "msg": "invalid column 'label'"})
        rows = [row("running", number, label="theirs") for number in range(self.others)] + list(self.ours.values())
        if wanted is not None and self.filters:
            rows = [one for one in rows if one["label"] in wanted]
        begin, total = int(request.url.params.get("after_token", 0)), len(rows)
        token = str(begin + 25) if begin + 25 < total else None
        return httpx.Response(200, json=page(*rows[begin : begin + 25], token=token, total=total))

    @property
    def whole(self):
        """How many pages of the whole list were asked for."""
        return sum(wanted is None for wanted in self.asked)


def crowded(ours, **options):
    crowd = Crowd(ours, **options)
    return crowd, Watch(client(crowd, CLOCK), CLOCK)


def followed(watch, predicate, number=900, label="ours"):
    with watch.follow(number, label=label) as following:
        return following.wait_until(predicate, deadline=soon(300), waited_for="the event")


def test_on_a_long_list_only_our_labels_are_asked_for():
    started = CLOCK.now()
    ours = {900: row("loading", label="ours"), 901: row("loading", 901, label="ours too")}
    crowd, watch = crowded(ours)
    with watch.follow(901, label="ours too"), watch.follow(900, label="ours") as following:
        following.wait_until(lambda one: one.instance is not None, deadline=soon(300), waited_for="a status")
        ours[900]["actual_status"] = "running"
        following.wait_until(running, deadline=soon(300), waited_for="running")
    assert crowd.whole == 1
    together = list(dropwhile(lambda labels: labels == ["ours too"], crowd.asked[1:]))  # before the second was followed
    assert together == [["ours", "ours too"]] * len(together) != []
    assert len(crowd.asked) <= CLOCK.now() - started + 1
    watch.close()


@pytest.mark.parametrize("filters", [False, None])
def test_a_filter_that_is_ignored_or_refused_is_not_believed(filters):
    crowd, watch = crowded({900: row("running", label="ours")}, filters=filters)
    assert followed(watch, running).seen
    asked = len(crowd.asked)
    assert [one.id for read in watch.poll(soon(0), "ours") for one in read.value][-1] == 900
    assert crowd.asked[asked:] == [None] * 13
    watch.close()


def test_an_instance_with_another_label_now_is_followed_on_the_whole_list():
    ours = {900: row("loading", label="ours")}
    crowd, watch = crowded(ours)
    with watch.follow(900, label="ours") as following:
        following.wait_until(lambda one: one.instance is not None, deadline=soon(300), waited_for="a status")
        ours[900] |= {"label": "changed by hand", "actual_status": "running"}
        assert following.wait_until(running, deadline=soon(300), waited_for="running").seen
        assert all(sighting.instance is not None for sighting in following.history)
    assert crowd.whole > 12
    watch.close()


def test_a_labels_absence_counts_only_once_the_list_was_seen_to_find_it():
    ours = {900: row("running", label="ours")}
    crowd, watch = crowded(ours)
    assert watch.poll(soon(0), "never seen")[-1].value[-1].id == 900
    assert crowd.whole == 1 + 13
    assert [[one.id for one in read.value] for read in watch.poll(soon(0), "ours")] == [[900]]
    del ours[900]
    assert [read.value for read in watch.poll(soon(0), "ours")] == [[]]
    assert crowd.whole == 1 + 13
    watch.close()


def test_a_short_list_is_read_whole():
    crowd, watch = crowded({900: row("running", label="ours")}, others=20)
    assert followed(watch, running).seen
    assert crowd.whole == len(crowd.asked)
    watch.close()
