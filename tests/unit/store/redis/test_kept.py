"""What is kept beside the records: what each reply means."""

import pytest
from hiredis import ReplyError

from proxy.store.base import Absent, Done, Kept, Unavailable
from proxy.store.redis.connection import Reply, Unusable
from proxy.store.redis.errors import explain
from proxy.store.redis.kept import Keep, LookUp


def keep(*, first: bool) -> tuple[Keep, list[object]]:
    results: list[object] = []
    return Keep(b"p:name", b"value", 1000, results.append, 0.0, first=first), results


@pytest.mark.parametrize(
    ("first", "reply", "meant"),
    [
        (False, b"OK", Done()),
        (True, None, Done()),
        (True, b"OK", Kept(b"OK")),
        (True, b"another", Kept(b"another")),
        (False, ReplyError("OOM command not allowed"), Unavailable(explain(ReplyError("OOM command not allowed")))),
    ],
)
def test_it_is_kept_or_another_was_first_or_the_server_says_why_not(first: bool, reply: Reply, meant: object) -> None:
    command, results = keep(first=first)
    command.replied(reply)
    assert results == [meant]


@pytest.mark.parametrize(("first", "reply"), [(False, None), (False, 1), (False, b"Maybe"), (True, 1), (True, [])])
def test_a_reply_of_another_kind_ends_the_connection(first: bool, reply: Reply) -> None:
    command, results = keep(first=first)
    with pytest.raises(Unusable):
        command.replied(reply)
    assert not results


@pytest.mark.parametrize(("first", "reply"), [(False, b"OK"), (True, None)])
def test_what_the_replicas_or_the_disk_do_not_have_is_not_kept(first: bool, reply: Reply) -> None:
    assert Keep.lasts
    command, results = keep(first=first)
    command.forgettable(reply, "0 of 1 replicas had it")
    assert results == [Unavailable("0 of 1 replicas had it")]


def test_what_another_has_kept_is_found_whether_it_lasts_or_not() -> None:
    command, results = keep(first=True)
    command.forgettable(b"another", "0 of 1 replicas had it")
    assert results == [Kept(b"another")]


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        (None, Absent()),
        (b"value", Kept(b"value")),
        (ReplyError("NOPERM no"), Unavailable(explain(ReplyError("NOPERM no")))),
    ],
)
def test_a_look_finds_it_or_not(reply: Reply, meant: object) -> None:
    results: list[object] = []
    LookUp(b"p:name", results.append, 0.0).replied(reply)
    assert results == [meant]


def test_no_answer_is_unavailable() -> None:
    results: list[object] = []
    LookUp(b"p:name", results.append, 0.0).failed("silent")
    command, others = keep(first=False)
    command.failed("silent")
    assert results == others == [Unavailable("silent")]
