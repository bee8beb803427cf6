"""Every row of the table of responses: whole and in pieces, for a request that passes through and for one with a key.

The pieces are fed to the proxy's connection itself, one a read; the request that asked and the client's answer go over
sockets. h11 reads what the client is given.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

from tests.wire.cuts import every, telling
from tests.wire.responses import ANSWERS
from tests.wire.responses.answer import CHUNKED, LENGTH, OK, Answer, Broken, Passed, Unusable, answer
from tests.wire.responses.stand import Trial
from tests.wire.row import lines
from tests.wire.stand import Stand

each_row = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ANSWERS])


async def tried(stand: Stand, row: Answer, ways: Iterable[Sequence[int] | None]) -> None:
    """With a key and without, cut in each of these ways."""
    for cuts in ways:
        for keyed in (False, True) if row.method != b"HEAD" else (False,):
            await Trial(stand, row, keyed=keyed, cuts=cuts).run()


@each_row
async def test_whole(stand: Stand, row: Answer) -> None:
    await tried(stand, row, [None])


@each_row
async def test_cut_where_parsers_change_their_state(stand: Stand, row: Answer) -> None:
    await tried(stand, row, [[cut] for cut in telling(row.data)])


@pytest.mark.full
@pytest.mark.timeout(120)
@each_row
async def test_cut_everywhere_and_byte_by_byte(stand: Stand, row: Answer) -> None:
    await tried(stand, row, [*([cut] for cut in every(row.data)), range(1, len(row.data))])


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED], ids=["a length", "chunks"])
async def test_the_upstream_closes_at_each_point_of_its_response(stand: Stand, framing: bytes) -> None:
    chunks = {LENGTH: [b"", b"hello", b""], CHUNKED: [b"5\r\n", b"hello", b"\r\n0\r\n\r\n"]}[framing]
    head, body = lines(OK, framing), b"".join(chunks)
    for end in range(len(head) + len(body)):
        content = b"hello"[: max(0, end - len(head) - len(chunks[0]))]
        fate = Unusable() if end < len(head) else Broken(content)
        row = answer(f"{end} bytes", (head + body)[:end], "RFC 9112 §8", fate, closes=True)
        await tried(stand, row, [None])
    await tried(stand, answer("all", head + body, "RFC 9112 §8", Passed(), closes=True), [None])


def test_each_row_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(name for name, _ in ANSWERS).items() if times > 1] == []


def test_the_table_is_as_large_as_it_was_asked_for() -> None:
    assert len({row.data for _, row in ANSWERS}) >= 60
