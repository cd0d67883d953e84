"""Prices from and to gpuhunt's catalogue: it is read, gpuhunt itself reads ours, and nothing is waited for without end."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import threading
import zipfile
from datetime import UTC, date, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

from tests.processes import clean_environment, command
from vastbench.errors import SettingsError
from vastbench.io import catalogue
from vastbench.io.catalogue import ASKED, FOLDER, moved, refreshed, write_catalogue, write_prices
from vastbench.io.fetching import FIELDS
from vastbench.io.prices import COLUMNS, check, prices

TABLE = prices()
OFFER = {
    "instance_name": "g5.xlarge",
    "location": "us-east-1",
    "price": "1.006",
    "cpu": "4",
    "memory": "16.0",
    "gpu_count": "1",
    "gpu_name": "A10G",
    "gpu_memory": "24.0",
    "spot": "False",
}


def offers(path, *changes):
    """A catalogue's file with one good offer for each dict of changes to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(OFFER))
        writer.writeheader()
        writer.writerows([OFFER | change for change in changes])
    os.utime(path, (datetime(2026, 8, 18, tzinfo=UTC).timestamp(),) * 2)
    return path.parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "catalogue"))
    return tmp_path / "catalogue"


def test_offers_of_a_folder_become_prices_with_date_and_source(folder, tmp_path):
    offers(folder / "aws.csv", {}, {"spot": "True", "price": "0.43"})
    offers(folder / "runpod.csv", {"gpu_name": "RTX4090"}, {"gpu_name": "A6000"}, {"gpu_name": "RTXPRO6000", "gpu_memory": ""})
    write_prices(refreshed().rows, tmp_path / "fresh.csv")
    table = prices(tmp_path / "fresh.csv")
    aws = table[table["provider"] == "AWS"].sort_values("price_usd_per_hour").to_dict("records")
    assert [(row["pricing"], row["price_usd_per_hour"]) for row in aws] == [("spot", 0.43), ("on-demand", 1.006)]
    row = aws[1]
    assert (row["instance_type"], row["region"], row["gpu_memory_gb"], row["vcpus"]) == ("g5.xlarge", "us-east-1", 24, 4)
    assert f"{row['as_of']:%Y-%m-%d}" == "2026-08-18"
    assert (row["source"], row["placed"], row["minimum_s"]) == ("gpuhunt catalogue aws.csv", "source", 60)
    assert set(table[table["provider"] == "RunPod"]["gpu_name"]) == {"RTX 4090", "RTX A6000", "RTX PRO 6000"}


def test_what_is_no_price_of_a_gpu_is_left_out_and_counted(folder):
    offers(folder / "gcp.csv", {}, {"gpu_count": "0", "gpu_name": ""}, {"price": "0"}, {"price": "nan"}, {"location": ""})
    found = refreshed()
    assert len(found.rows) == 1
    assert found.left_out == {"no GPU": 1, "no price above 0": 2, "no place or type": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no catalogue lies"),
        ("", "lacks the columns instance_name"),
        ("a,b\n1,2\n", "lacks the columns"),
        (b"\xff", "read"),
    ],
)
def test_a_folder_without_a_catalogue_is_refused_by_name(folder, content, words):
    folder.mkdir()
    if content is not None:
        (folder / "aws.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=words):
        refreshed()


def test_a_catalogue_without_any_gpu_is_refused(folder):
    offers(folder / "aws.csv", {"gpu_count": "0", "gpu_name": ""})
    with pytest.raises(SettingsError, match="no price of a GPU"):
        refreshed()


def test_the_table_comes_back_from_a_catalogue_of_its_own(folder, tmp_path):
    write_catalogue(TABLE, folder)
    assert {f"{name}.csv" for name in ASKED} <= {path.name for path in folder.iterdir()}
    found = refreshed()
    assert len(found.rows) == len(TABLE)
    assert found.left_out == {}
    write_prices(found.rows, tmp_path / "again.csv")
    again = prices(tmp_path / "again.csv")
    for name in ("price_usd_per_hour", "gpu_count", "gpu_memory_gb", "vcpus", "memory_gb"):
        assert again[name].dropna().sum() == pytest.approx(TABLE[name].dropna().sum()), name
    for name in ("region", "provider", "instance_type"):
        assert sorted(again[name]) == sorted(TABLE[name]), name
    spot = {row["instance_type"] for row in TABLE.to_dict("records") if row["pricing"] == "spot"}
    assert set(again.loc[again["pricing"] == "spot", "instance_type"]) == spot


ASK = """
import json, gpuhunt
items = gpuhunt.Catalog(auto_reload=False).query(min_gpu_count=1)
print(json.dumps([[one.provider, one.gpu_name, one.gpu_memory, one.location, one.spot, one.price] for one in items]))
"""


def test_gpuhunt_itself_reads_our_catalogue(folder):
    write_catalogue(TABLE, folder)
    # A process of its own: gpuhunt leaves the files open.
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, check=True, timeout=60)
    read = pd.DataFrame(json.loads(done.stdout), columns=["provider", "gpu", "memory", "location", "spot", "price"])
    # It skips what says nothing of CPUs or main memory.
    whole = TABLE[TABLE["vcpus"].notna() & TABLE["memory_gb"].notna()]
    ours = whole[whole["provider"].isin([catalogue.NAMES[name] for name in ASKED])]
    assert len(read) == len(ours) > 70
    assert read["price"].sum() == pytest.approx(ours["price_usd_per_hour"].sum())
    assert read["spot"].sum() == (ours["pricing"] == "spot").sum()
    small = read[(read["provider"] == "aws") & (read["gpu"] == "A10G")]
    assert set(small["memory"]) == {24}
    assert set(small["location"]) == set(ours.loc[ours["gpu_name"] == "A10G", "region"])


def test_a_price_far_from_the_former_one_is_found(tmp_path):
    row = dict.fromkeys(COLUMNS, "") | {"provider": "AWS", "instance_type": "g5.xlarge", "region": "us-east-1"}
    row |= {"gpu_name": "A10G", "gpu_count": "1", "pricing": "on-demand", "as_of": "2026-11-01", "source": "a page"}
    for usd, far in (("0.41", []), ("0.40", ["far from the former price"]), ("2.6", ["far from the former price"])):
        write_prices([row | {"price_usd_per_hour": usd}], tmp_path / "new.csv")
        assert moved(prices(tmp_path / "new.csv"), TABLE)["rule"].tolist() == far


def test_without_gpuhunt_and_without_a_folder_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="not installed") as refused:
        refreshed()
    assert "vastbench[prices]" in refused.value.hint


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Catalogues that gpuhunt fetches from this machine: two providers, of the others none."""
    for name in ("aws", "runpod"):
        place = tmp_path / "site" / name
        offers(place / "made" / f"{name}.csv", {}, {"price": "0"})
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as packed:
            packed.write(place / "made" / f"{name}.csv", f"{name}.csv")
        (place / "20260818-42").mkdir()
        (place / "20260818-42" / "catalog.zip").write_bytes(held.getvalue())
        (place / "version").write_text("20260818-42\n")
    handler = partial(Quiet, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv(FOLDER, raising=False)
        monkeypatch.setenv("GPUHUNT_CATALOG_URL", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


def test_what_gpuhunt_fetches_has_the_date_of_its_version(published):
    found = refreshed()
    assert {(row["provider"], row["as_of"]) for row in found.rows} == {("AWS", "2026-08-18"), ("RunPod", "2026-08-18")}
    assert found.rows[0]["source"].startswith("gpuhunt catalogue ")


def test_a_server_that_stays_silent_ends_at_the_deadline(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.delenv(FOLDER, raising=False)
        monkeypatch.setenv("GPUHUNT_CATALOG_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(SettingsError, match="within 2 s"):
            refreshed(2.0)


def test_a_server_that_refuses_is_told_in_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(SettingsError, match="could not fetch its catalogue: GPUHuntError"):
        refreshed()


def test_the_command_writes_fresh_prices_and_says_what_to_doubt(folder, tmp_path):
    offers(folder / "aws.csv", {}, {"spot": "True", "price": "5"}, {"gpu_count": "0"})
    environment = clean_environment(tmp_path) | {FOLDER: str(folder)}
    done = command("prices", "--refresh", "fresh.csv", env=environment, cwd=tmp_path)
    assert done.stdout.startswith("2 prices of 1 provider in fresh.csv, 1 offer left out: no GPU\n")
    assert "spot above on-demand: 1 of 2 rows\n  line 3: spot $5.0000 is above on-demand $1.0060" in done.stdout
    listed = command("prices", "--file", "fresh.csv", "--catalogue", "again", env=environment, cwd=tmp_path)
    assert listed.stdout == f"2 prices in {len(ASKED)} files of again\n"
    assert check(prices(tmp_path / "fresh.csv"), today=date(2026, 11, 30))["rule"].tolist() == ["spot above on-demand"]


def test_what_a_file_of_the_catalogue_holds_is_what_gpuhunt_names(folder):
    write_catalogue(TABLE[:1], folder)
    assert (folder / "akash.csv").read_text().splitlines()[0] == ",".join((*FIELDS, "disk_size"))
