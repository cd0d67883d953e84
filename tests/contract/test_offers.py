"""The official client searches the emulator's offers: units, lists, order, limit, aliases, both languages and the SDK."""


def test_units_are_those_of_the_client(vastai):
    """``gpu_ram>=24`` means 24 GB of at least 24 000 MB each; days, driver versions and prices compare as numbers."""
    offers = vastai.raw("search", "offers", "gpu_ram>=24 duration>=30 driver_version>=550.0.0 dph_total<0.9 num_gpus=1")
    assert offers
    for offer in offers:
        assert offer["gpu_ram"] >= 24_000
        assert offer["duration"] >= 30 * 24 * 3600
        assert int(offer["driver_version"].split(".")[0]) >= 550
        assert offer["dph_total"] < 0.9
        assert offer["num_gpus"] == 1
    small = vastai.raw("search", "offers", "gpu_ram<24")
    assert small
    assert max(offer["gpu_ram"] for offer in small) < 24_000


def test_lists_of_countries_select_by_country_code(vastai):
    """``in [US,CA]`` finds both countries and no other, ``notin`` none of them; verified and rentable as by default."""
    inside = vastai.raw("search", "offers", "geolocation in [US,CA]")
    outside = vastai.raw("search", "offers", "geolocation notin [US,CA]")
    assert {offer["geolocation"].rpartition(", ")[2] for offer in inside} == {"US", "CA"}
    assert {(offer["verification"], offer["rentable"]) for offer in inside} == {("verified", True)}
    assert outside
    assert not {offer["geolocation"].rpartition(", ")[2] for offer in outside} & {"US", "CA"}


def test_order_limit_and_aliases_on_both_routes(vastai):
    """``-o dph-`` is dearest first, ``--limit`` bounds the rows, ``cuda_vers`` filters; ``--new`` asks another route alike."""
    query = ("search", "offers", "dph<1 cuda_vers>=12.5", "-o", "dph-", "--limit", 7)
    dearest = vastai.raw(*query)
    prices = [offer["dph_total"] for offer in dearest]
    assert len(prices) == 7
    assert prices == sorted(prices, reverse=True)
    assert prices[0] < 1
    assert all(offer["cuda_max_good"] >= 12.5 for offer in dearest)
    assert [offer["machine_id"] for offer in vastai.raw(*query, "--new")] == [offer["machine_id"] for offer in dearest]


def test_the_table_shows_names_with_underscores(vastai):
    """Without ``--raw`` the client prints a table with the card's name as its query takes it."""
    table = vastai("search", "offers", "gpu_name=RTX_4090 num_gpus=1", "--limit", 3)
    assert table.out.count("RTX_4090") == 3
    assert table.err.strip() == ""


def test_storage_changes_the_price_and_nothing_else(vastai):
    """The total is the GPU's price plus ``--storage`` GB at the monthly price over 720 hours."""
    offer = vastai.raw("search", "offers", "num_gpus=1", "-o", "dph", "--limit", 1, "--storage", 100)[0]
    assert abs(offer["dph_total"] - offer["dph_base"] - 100 * offer["storage_cost"] / 720) < 1e-6


def test_a_query_that_nothing_matches_is_an_empty_list(vastai):
    """No offer is an answer, not an error."""
    assert vastai.raw("search", "offers", "num_gpus=64 dph<0.01") == []
