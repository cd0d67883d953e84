"""What is asked of the machines, and which of those offered is taken."""

import pytest

from tests.vast.market import offer
from vastbench.errors import NoOffer, UsageError
from vastbench.record.conditions import IMAGE, Conditions
from vastbench.rental.offers import choose, query
from vastbench.vast.models import Offer


@pytest.mark.parametrize(
    ("image", "cuda"),
    [
        (IMAGE, "12.8"),
        ("nvidia/cuda:13.0.1-base-ubuntu24.04", "13.0"),
        ("nvcr.io/nvidia/cuda:12.4.1-devel-ubuntu22.04@sha256:aa12", "12.4"),
        ("localhost:5000/nvidia/cuda:11.8.0-base", "11.8"),
        ("pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime", "12.4"),
        ("runpod/pytorch:2.4.0-py3.11-cuda12.4.1-devel-ubuntu22.04", "12.4"),
        ("vastai/base-image:cuda-12.6.3-auto", "12.6"),
        ("me/vllm:0.6-cu124", "12.4"),
        ("me/tool-cuda12:latest", "12.0"),
        ("me/tool:cuda12-20260101", "12.0"),
        ("ubuntu:22.04", None),
        ("nvidia/cuda:latest", None),
        ("nvcr.io/nvidia/pytorch:24.05-py3", None),
        ("me/focus12:cu20260101", None),
    ],
)
def test_the_cuda_version_in_an_images_name_is_asked_of_the_machines(image, cuda):
    asked = query(Conditions(image=image))
    assert asked.body().get("cuda_max_good") == (None if cuda is None else {"gte": float(cuda)})
    fitting = {"num_gpus": 1, "disk_space": 100, "reliability": 0.99, "verification": "verified"}
    able, unable, silent = (
        Offer.model_validate(offer(**fitting, **said)) for said in ({"cuda_max_good": 13.5}, {"cuda_max_good": 10}, {})
    )
    assert [asked.accepts(one) for one in (able, unable, silent)] == [True, cuda is None, True]


def test_a_search_asks_for_room_a_price_with_that_disk_and_a_country():
    body = query(Conditions("RTX_4090", max_usd_per_hour=0.5, min_reliability=0.95, disk_gb=30, region="se, no")).body()
    asked = {name: body.get(name) for name in ("gpu_name", "disk_space", "dph_total", "reliability", "geolocation")}
    assert asked == {
        "gpu_name": {"eq": "RTX 4090"},
        "disk_space": {"gte": 30},
        "dph_total": {"lte": 0.5},
        "reliability": {"gte": 0.95},
        "geolocation": {"in": ["NO", "SE"]},
    }
    assert body["allocated_storage"] == 30
    assert "geolocation" not in query(Conditions()).body()


def test_an_offer_from_elsewhere_is_not_taken_for_one_of_the_country():
    asked = query(Conditions(region="SE"))
    fitting = {"num_gpus": 1, "disk_space": 100, "reliability": 0.99, "verification": "verified", "cuda_max_good": 13}
    places = ("Stockholm, SE", "Oslo, NO")
    assert [asked.accepts(Offer.model_validate(offer(**fitting, geolocation=one))) for one in places] == [True, False]


@pytest.mark.parametrize("region", ["Sweden", "S", "SE;NO", "", "S1"])
def test_what_is_no_country_code_is_refused(region):
    with pytest.raises(UsageError, match="region is"):
        Conditions(region=region)


OFFERED = [
    Offer.model_validate(offer(id=number, machine_id=100 + number, dph_total=price, dph_base=price, reliability=reliability))
    for number, (price, reliability) in enumerate([(0.20, 0.95), (0.25, 0.99), (0.30, 0.99), (0.21, 0.91)], start=1)
]


@pytest.mark.parametrize(
    ("policy", "rented", "taken"),
    [
        ("cheapest", {}, 1),
        ("cheapest", {101: 7}, 1),
        ("reliable", {}, 2),
        ("spread", {}, 1),
        ("spread", {101: 1}, 4),
        ("spread", {101: 1, 104: 1, 102: 1}, 3),
        ("spread", {101: 2, 102: 1, 103: 1, 104: 1}, 4),
    ],
)
def test_a_policy_says_which_of_the_offers_that_fit_is_taken(policy, rented, taken):
    assert choose(OFFERED, Conditions(choose=policy), rented=rented).id == taken


def test_a_policy_that_does_not_exist_is_answered_with_those_that_do():
    with pytest.raises(UsageError, match=r"Did you mean reliable\? Policies: cheapest, reliable, spread"):
        Conditions(choose="relieable")


def test_where_no_machine_is_left_the_cuda_version_is_named():
    with pytest.raises(NoOffer, match=r"CUDA 12\.8 for nvidia/cuda:12\.8\.1"):
        choose([], Conditions())


@pytest.mark.parametrize("written", ["4090", "rtx4090", "RTX4090", "rtx_4090"])
def test_another_spelling_of_a_gpu_is_answered_with_the_marketplaces(written):
    with pytest.raises(NoOffer, match=r"Did you mean RTX 4090\? Allow"):
        choose([], Conditions(gpu_name=written))


@pytest.mark.parametrize("name", ["RTX 4090", "A100 SXM4", "any", "Gaudi 3"])
def test_a_name_as_the_marketplace_writes_it_or_like_none_gets_no_other(name):
    with pytest.raises(NoOffer, match=r"already\. Allow a higher price"):
        choose([], Conditions(gpu_name=name))
