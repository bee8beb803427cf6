"""Every row of the table of requests: whole, in a pipeline, and in pieces, with h11 as the judge of what came out.

The pieces are fed to the connection itself, one a read: that shows that what it makes of the bytes does not depend on
where the reads fall. That sockets behave, the other two show.
"""

from collections import Counter

import pytest

from tests.wire.cuts import every, telling
from tests.wire.differences import DIFFERENCES, difference
from tests.wire.requests import ROWS
from tests.wire.row import Row
from tests.wire.stand import Stand

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@each_row
async def test_whole_and_between_two_good_requests(stand: Stand, row: Row) -> None:
    await stand.whole(row)
    await stand.pipelined(row)
    await stand.quiet()


@each_row
async def test_cut_where_parsers_change_their_state(stand: Stand, row: Row) -> None:
    for cut in telling(row.data):
        await stand.cut(row, [cut])
    await stand.quiet()


@pytest.mark.full
@pytest.mark.timeout(120)
@each_row
async def test_cut_everywhere_and_byte_by_byte(stand: Stand, row: Row) -> None:
    for cut in every(row.data):
        await stand.cut(row, [cut])
    await stand.cut(row, range(1, len(row.data)))
    await stand.quiet()


def test_each_row_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(row.name for row in ROWS).items() if times > 1] == []


def test_the_table_is_as_large_as_it_was_asked_for() -> None:
    assert len({row.data for row in ROWS}) >= 150


def test_where_h11_would_read_a_request_otherwise_it_is_explained() -> None:
    found = {row.name: differs for row in ROWS if (differs := difference(row))}
    explained = {name: differs for difference in DIFFERENCES for name, differs in difference.rows.items()}
    assert found == explained
