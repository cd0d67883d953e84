"""Whatever happens between a command and the marketplace, and whatever stops the command: nothing of ours is lost, nothing
foreign is touched, and no command hangs.

``VASTBENCH_EXAMPLES=2000 pytest tests/hostile/test_referee.py`` searches thoroughly.
"""

import pytest
from hypothesis import given, settings

from tests.hostile.conftest import EXAMPLES
from tests.hostile.referee import refereed, schedules
from tests.profiles import certain


@pytest.fixture(scope="module")
def referee(tmp_path_factory):
    folder = tmp_path_factory.mktemp("referee")
    with refereed(certain(folder), folder) as opened:
        yield opened


@given(schedules)
@settings(max_examples=max(6, EXAMPLES // 4) if EXAMPLES == 24 else EXAMPLES)
def test_no_schedule_loses_an_instance_or_touches_a_foreign_one(referee, schedule):
    assert referee.play(schedule) == []
