"""A study as a file: what it may say, and on which line it is wrong."""

import pytest

from vastbench.answers.designs import read_design
from vastbench.errors import NotFound, SettingsError
from vastbench.record.conditions import Conditions
from vastbench.record.stopping import StoppingRule

VARIED = """\
name = "both"
repeats = 6
seed = 4
budget_usd = 1.5
stop_width = 0.2

[conditions]
disk_gb = 30
scenario = "snapshot"

[vary]
gpu_name = ["RTX 3090", "RTX 4090"]
region = { usa = "US", north = "SE,NO" }
"""

LISTED = """\
[[condition]]
name = "cheap"
max_usd_per_hour = 0.2

[[condition]]
name = "dear"
max_usd_per_hour = 0.9
image = "ubuntu:24.04"
"""


@pytest.fixture
def read(tmp_path):
    def reading(text, name="gpus.toml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_design(tmp_path / name)

    return reading


def test_every_combination_of_what_varies_is_a_condition(read):
    found = read(VARIED)
    assert (found.name, found.repeats, found.seed, found.budget_usd) == ("both", 6, 4, 1.5)
    assert found.stopping == StoppingRule(0.2)
    assert found.studies == ("both.RTX-3090.usa", "both.RTX-3090.north", "both.RTX-4090.usa", "both.RTX-4090.north")
    assert found.conditions[1].conditions == Conditions("RTX 3090", disk_gb=30, region="NO,SE")
    assert {one.scenario for one in found.conditions} == {"snapshot"}


def test_conditions_may_be_written_one_by_one(read):
    found = read(LISTED)
    assert (found.name, found.repeats) == ("gpus", 10)
    assert [(one.name, one.conditions.max_usd_per_hour, one.conditions.image[:6]) for one in found.conditions] == [
        ("cheap", 0.2, "nvidia"),
        ("dear", 0.9, "ubuntu"),
    ]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (VARIED.replace("seed", "sead"), 3, r"no key 'sead'.*Did you mean seed"),
        (VARIED.replace("repeats = 6", 'repeats = "six"'), 2, "repeats is 'six'"),
        (VARIED.replace("repeats = 6", "repeats = 0"), 2, "The number of repeats is 0"),
        (VARIED.replace("repeats = 6", "repeats = true"), 2, "repeats is True"),
        (VARIED.replace("stop_width = 0.2", "stop_width = 2.0"), 5, "width to stop at is 2.0"),
        (VARIED.replace("stop_width", "stop_quantile"), 5, "says nothing without stop_width"),
        (VARIED.replace("disk_gb = 30", "disk_gb = 3"), 8, "disk_gb is 3"),
        (VARIED.replace("disk_gb", "disk"), 8, "no key 'disk'.*Did you mean disk_gb"),
        (VARIED.replace("gpu_name", "gpu"), 12, r"no key 'gpu'\. Did you mean gpu_name\?"),
        (VARIED.replace("disk_gb", "max_price"), 8, r"no key 'max_price'\. Did you mean max_usd_per_hour\?"),
        (VARIED.replace("snapshot", "snapshoot"), 9, "no scenario 'snapshoot'"),
        (VARIED.replace('scenario = "snapshot"', "interval_s = 60.0"), 9, "does not know interval_s"),
        (VARIED.replace('["RTX 3090", "RTX 4090"]', '"RTX 4090"'), 12, "gpu_name is 'RTX 4090'"),
        (VARIED.replace('"RTX 3090"', "3090"), 12, "gpu_name is 3090"),
        (VARIED.replace('"US"', '"Texas"'), 13, "region is 'Texas'"),
        (VARIED + LISTED, 14, r"both \[vary\] and"),
        (LISTED.replace('name = "dear"\n', ""), 5, "has no name"),
        (LISTED.replace('"dear"', '"cheap"'), 6, "second condition has the name 'cheap'"),
        ("condition = [1, 2]", 1, r"condition is \[1, 2\]"),
        ("repeats = 2\n[vary]\ngpu_name = ['a']\n[vary.region]\nx = 'Texas'", 4, "region is 'Texas'"),
        (LISTED.replace("0.9", "900.0"), 7, "max_usd_per_hour is 900"),
        (LISTED.replace('"dear"', '"de/ar"'), 6, "cannot have the name 'gpus.de/ar'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(read, text, line, told):
    with pytest.raises(SettingsError, match=told) as refused:
        read(text)
    assert f"gpus.toml, line {line}: " in refused.value.message


def test_a_file_that_is_none_is_named(tmp_path, read):
    with pytest.raises(NotFound, match=r"no file .*nowhere.toml"):
        read_design(tmp_path / "nowhere.toml")
    with pytest.raises(SettingsError, match=r"not valid TOML: .*line 2"):
        read("repeats = 1\nseed = \n")
    with pytest.raises(SettingsError, match=r"neither \[vary\] nor"):
        read("repeats = 1")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_design(tmp_path)


def test_a_byte_order_mark_and_windows_lines_are_fine(read):
    assert read("\ufeff" + VARIED.replace("\n", "\r\n")).repeats == 6
