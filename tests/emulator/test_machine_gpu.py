"""The ``nvidia-smi`` of an emulated machine answers for the GPU that was rented."""

import subprocess

import pytest

from tests.emulator.machines import SPEC
from vastbench.emulator.gpu import driver_name, nvidia_smi
from vastbench.emulator.spec import MachineSpec


def smi(*words, **more):
    spec = MachineSpec(**({"id": 900} | SPEC | more))
    done = subprocess.run(["/bin/sh", "-s", "--", *words], input=nvidia_smi(spec), capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("market", "ram_mb", "driver"),
    [
        ("RTX 4090", 24564, "NVIDIA GeForce RTX 4090"),
        ("RTX 3090 Ti", 24564, "NVIDIA GeForce RTX 3090 Ti"),
        ("RTX 4070S Ti", 16376, "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("RTX 4080S", 16376, "NVIDIA GeForce RTX 4080 SUPER"),
        ("GTX 1080 Ti", 11264, "NVIDIA GeForce GTX 1080 Ti"),
        ("A100 SXM4", 81920, "NVIDIA A100-SXM4-80GB"),
        ("A100 SXM4", 40960, "NVIDIA A100-SXM4-40GB"),
        ("A100 PCIE", 81920, "NVIDIA A100 80GB PCIe"),
        ("H100 SXM", 81559, "NVIDIA H100 80GB HBM3"),
        ("RTX A6000", 49140, "NVIDIA RTX A6000"),
        ("RTX 6000Ada", 49140, "NVIDIA RTX 6000 Ada Generation"),
        ("L40S", 46068, "NVIDIA L40S"),
        ("Tesla V100", 16384, "Tesla V100-SXM2-16GB"),
        ("Q RTX 8000", 49152, "Quadro RTX 8000"),
    ],
)
def test_the_driver_has_its_own_names(market, ram_mb, driver):
    assert driver_name(market, ram_mb) == driver


def test_a_query_answers_in_the_order_asked_with_header_and_units():
    assert smi("--query-gpu=name,memory.total,driver_version", "--format=csv") == (
        0,
        "name, memory.total [MiB], driver_version\nNVIDIA GeForce RTX 4090, 24564 MiB, 550.54.14\n",
    )


def test_header_and_units_can_be_left_out():
    assert smi("--query-gpu=index,memory.total,utilization.gpu", "--format=csv,noheader,nounits") == (0, "0, 24564, 0\n")


def test_every_gpu_has_a_row_and_a_uuid_of_its_own():
    code, told = smi("--query-gpu=index,uuid,count", "--format=csv,noheader", gpu_count=12)
    rows = [line.split(", ") for line in told.splitlines()]
    assert code == 0
    assert [row[0] for row in rows] == [str(n) for n in range(12)]
    assert len({row[1] for row in rows}) == 12
    assert all(row[1].startswith("GPU-") and row[2] == "12" for row in rows)


def test_one_gpu_can_be_chosen_and_one_that_is_not_there_is_refused():
    assert smi("-i", "1", "--query-gpu=index", "--format=csv,noheader", gpu_count=2) == (0, "1\n")
    assert smi("-i", "2", "-L", gpu_count=2)[0] == 6


def test_a_field_that_does_not_exist_is_named():
    assert smi("--query-gpu=name,colour", "--format=csv") == (2, 'Field "colour" is not a valid field to query.\n\n')


def test_the_list_names_every_gpu():
    code, told = smi("-L", gpu_count=2)
    assert code == 0
    assert [line.split(" (")[0] for line in told.splitlines()] == [
        "GPU 0: NVIDIA GeForce RTX 4090",
        "GPU 1: NVIDIA GeForce RTX 4090",
    ]


def test_the_table_has_the_real_width_and_names_driver_cuda_and_gpu():
    code, told = smi(gpu_count=2)
    lines = told.splitlines()
    assert code == 0
    assert {len(line) for line in lines[1:] if line} == {91}
    assert "Driver Version: 550.54.14" in told
    assert "CUDA Version: 12.4" in told
    assert told.count("NVIDIA GeForce RTX 4090") == 2


def test_arguments_it_does_not_know_are_refused():
    assert smi("--colour")[0] == 1
    assert smi("--query-gpu=name")[0] == 1
