"""Whatever happens between a command and the marketplace, and whatever stops the command: nothing of ours is lost, nothing
foreign is touched, and no command hangs.

``VASTBENCH_EXAMPLES=2000 pytest tests/hostile/test_referee.py`` searches thoroughly.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.conftest import EXAMPLES
from tests.hostile.referee import ACTS, CALLS, HONEST, Act, Schedule, Signal, refereed
from tests.profiles import certain


@pytest.fixture(scope="module")
def referee(tmp_path_factory):
    folder = tmp_path_factory.mktemp("referee")
    with refereed(certain(folder), folder) as opened:
        yield opened


MUTATING = ["create", "list", "page", "destroy"]
acts = st.builds(
    Act,
    on=st.sampled_from(MUTATING * 3 + list(CALLS)),
    nth=st.integers(0, 6),
    what=st.sampled_from([what for what in ACTS if what != HONEST]),
    times=st.integers(1, 3),
)
signals = st.builds(
    Signal,
    name=st.sampled_from(["SIGTERM", "SIGINT", "SIGKILL", "SIGHUP"]),
    on=st.sampled_from(MUTATING),
    nth=st.integers(0, 4),
    after=st.booleans(),
)
schedules = st.builds(
    Schedule,
    acts=st.lists(acts, max_size=4).map(tuple),
    lags=st.sampled_from([(0, 0, 0)] * 3 + [(20, 0, 0), (20, 20, 0), (20, 20, 20), (45, 45, 45)]),
    signal=st.none() | signals,
)


@given(schedules)
@settings(max_examples=max(6, EXAMPLES // 4) if EXAMPLES == 24 else EXAMPLES)
def test_no_schedule_loses_an_instance_or_touches_a_foreign_one(referee, schedule):
    assert referee.play(schedule) == []
