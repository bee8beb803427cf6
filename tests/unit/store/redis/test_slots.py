"""What a cluster says of its slots."""

import pytest
from hiredis import ReplyError

from proxy.store.base import StoreUnavailable
from proxy.store.redis.connection import Reply
from proxy.store.redis.slots import Range, Redirection, redirection, slot_map

A, B, C = [b"10.0.0.1", 7000, b"id-a", []], [b"10.0.0.2", 7000, b"id-b", []], [b"10.0.0.3", 7001, b"id-c", []]


def test_a_map_has_the_primary_of_each_range_in_its_order_and_knows_the_replicas() -> None:
    learned = slot_map([[8192, 16383, B, C], [0, 8191, A]], "seed")
    assert learned.ranges == (Range(0, 8191, ("10.0.0.1", 7000)), Range(8192, 16383, ("10.0.0.2", 7000)))
    assert learned.known == {("10.0.0.1", 7000), ("10.0.0.2", 7000), ("10.0.0.3", 7001)}


@pytest.mark.parametrize("host", [None, b""])
def test_a_node_without_a_host_is_reached_as_the_one_that_said_so_was(host: bytes | None) -> None:
    assert slot_map([[0, 16383, [host, 7000]]], "seed").ranges == (Range(0, 16383, ("seed", 7000)),)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        7,
        [7],
        [[0, 16383]],
        [[0, 16383, [b"h"]]],
        [[0, 16383, [b"\xff", 1]]],
        [[0, 16383, [b"h", b"x"]]],
        [[b"0", 16383, A]],
        [[-1, 16382, A]],
        [[0, 16384, A]],
        [[1, 0, A]],
    ],
)
def test_what_is_no_map_is_not_used(reply: Reply) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        slot_map(reply, "seed")


def test_slots_without_a_node_are_counted() -> None:
    assert slot_map([[0, 16383, A]], "seed").missing == 0
    assert slot_map([[0, 9, A], [20, 16383, B]], "seed").missing == 10
    assert slot_map([], "seed").missing == 16384


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("MOVED 3999 10.0.0.1:7000", Redirection(False, 3999, ("10.0.0.1", 7000))),
        ("ASK 0 cache.example.com:7000", Redirection(True, 0, ("cache.example.com", 7000))),
        ("MOVED 16383 ::1:7000", Redirection(False, 16383, ("::1", 7000))),
        ("MOVED 1 :7000", Redirection(False, 1, ("seed", 7000))),
        ("MOVED 16384 h:1", None),
        ("MOVED x h:1", None),
        ("MOVED 1", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
        ("CLUSTERDOWN The cluster is down", None),
    ],
)
def test_a_redirection_says_where_to(error: str, said: Redirection | None) -> None:
    assert redirection(ReplyError(error), "seed") == said
