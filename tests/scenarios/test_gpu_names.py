"""The marketplace's names of GPUs against those of the driver: a host is accused only of what is certain."""

import csv
import re
from pathlib import Path

import pytest

from vastbench.emulator.gpu import driver_name
from vastbench.scenarios.gpu_names import same_gpu

LINES = [line for line in (Path(__file__).parent / "gpu_names.csv").read_text().splitlines() if not line.startswith("#")]
NAMES = [(row["offered"], row["reported"]) for row in csv.DictReader(LINES)]
ALIKE = [
    {"A100 SXM", "A100 SXM4"},
    {"RTX PRO 6000", "RTX PRO 6000 S", "RTX PRO 6000 WS", "RTX PRO 6000 Max-Q"},
    {"H200", "H200 NVL"},
]
"""Offers whose names do not tell them apart for certain."""


@pytest.mark.parametrize(("offered", "reported"), NAMES)
def test_each_card_is_recognised_in_the_drivers_spelling(offered, reported):
    assert same_gpu(offered, reported) is True
    assert same_gpu(offered.replace(" ", "_"), reported.removeprefix("NVIDIA ")) is True


def test_no_card_passes_for_another():
    wrong = [
        (offered, reported)
        for offered, _ in NAMES
        for other, reported in NAMES
        if other != offered
        and not any({other, offered} <= alike for alike in ALIKE)
        and same_gpu(offered, reported) is not False
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["", "Graphics Device", "NVIDIA", "some new thing", "[Unknown Error]"])
def test_a_name_without_a_model_accuses_nobody(name):
    assert same_gpu("RTX 4090", name) is None
    assert same_gpu(name, "NVIDIA GeForce RTX 4090") is None


@pytest.mark.parametrize(("offered", "reported"), NAMES)
def test_the_emulated_driver_names_each_card_in_nvidias_spelling(offered, reported):
    memory_gb = int((re.findall(r"(\d+)GB", reported) or ["24"])[0])
    assert driver_name(offered, 1024 * memory_gb) in {name for card, name in NAMES if card == offered}
