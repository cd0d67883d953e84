"""The three meters."""

from vastbench.emulator.billing import GIB, Meter, Rates, charge

RATES = Rates(gpu=0.3, storage=0.01, up=0.02, down=0.01)


def test_storage_is_billed_from_creation_and_the_gpu_while_it_runs() -> None:
    meter = Meter(100.0)
    meter.start_gpu(170.0, 0.3)
    meter.stop_gpu(200.0)
    meter.start_gpu(300.0, 0.3)
    meter.close(400.0)
    usage = meter.usage(1000.0)
    assert (usage.gpu_s, usage.storage_s) == (130.0, 300.0)


def test_an_open_meter_counts_up_to_the_reading_asked_for() -> None:
    meter = Meter(0.0)
    meter.start_gpu(10.0, 0.3)
    assert meter.usage(5.0).gpu_s == 0
    assert meter.usage(30.0).gpu_s == 20


def test_nothing_that_happens_twice_is_billed_twice() -> None:
    meter = Meter(0.0)
    meter.start_gpu(10.0, 0.3)
    meter.start_gpu(15.0, 0.3)
    meter.stop_gpu(20.0)
    meter.stop_gpu(90.0)
    meter.close(100.0)
    meter.close(200.0)
    assert (meter.usage(500.0).gpu_s, meter.usage(500.0).storage_s) == (10, 100)


def test_a_changed_price_counts_from_the_change_on() -> None:
    meter = Meter(0.0)
    meter.start_gpu(0.0, 0.36)
    meter.stop_gpu(10.0)
    meter.start_gpu(10.0, 0.72)
    assert round(meter.usage(20.0).gpu_usd, 9) == 0.003


def test_a_charges_row_has_the_accounts_form_and_three_decimals() -> None:
    meter = Meter(0.0)
    meter.start_gpu(0.0, 0.3)
    meter.close(3600.0)
    row = charge(900, "run-1", meter.usage(3600.0, bytes_up=int(GIB), bytes_down=0), RATES, 1000.0, 4600.0)
    items = {item["type"]: item for item in row["items"]}
    assert row["source"] == "instance-900"
    assert row["amount"] == 0.33
    assert items["gpu"]["description"] == "1.000 hours at $0.300/hour"
    assert {kind: item["amount"] for kind, item in items.items()} == {"gpu": 0.3, "disk": 0.01, "bwu": 0.02, "bwd": 0.0}
