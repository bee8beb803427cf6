"""A Date that is told by another time: it comes back to the letter, or stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.record import Response
from proxy.store.dated import restored, shortened

THEN = 1_452_723_956
DATE = b"Wed, 13 Jan 2016 22:25:56 GMT"


def response(fields: bytes, date: int = THEN) -> Response:
    return Response(200, b"OK", fields, b"", 0, truncated=False, date=date)


@pytest.mark.parametrize("date", [THEN, THEN + 1, THEN - 3, THEN + 127, THEN - 127])
@pytest.mark.parametrize(
    "form",
    [b"Date: %b\r\n", b"A: b\r\ndate: %b\r\nC: d\r\n", b"DATE: %b\r\nDate: %b\r\n", b"X-Date: x\r\ndate: %b\r\n"],
)
def test_it_is_shorter_and_comes_back_to_the_letter(form: bytes, date: int) -> None:
    it = response(form.replace(b"%b", DATE), date)
    short = shortened(it)
    assert short is not None
    assert len(short.fields) == len(it.fields) - len(DATE) + 2
    assert restored(short) == it


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"A: b\r\n",
        b"X-Date: %b\r\n" % DATE,
        b"A: Date: %b\r\n" % DATE,
        b"DATE: %b\r\n" % DATE,
        b"Date:%b\r\n" % DATE,
        b"Date: Wednesday, 13-Jan-16 22:25:56 GMT\r\n",
        b"Date: Wed, 13 Jan 2016 22:25:56 UTC\r\n",
        b"Date: Thu, 13 Jan 2016 22:25:56 GMT\r\n",
        b"Date: wed, 13 jan 2016 22:25:56 GMT\r\n",
        b"Date: Wed, 13 Jan 2016 22:28:04 GMT\r\n",
        b"Date: Wed, 13 Jan 9999 99:99:99 GMT\r\n",
        b"Date: Wed, 13 Jan 0000 22:25:56 GMT\r\n",
        b"Date: \xff\xfe\xfd, 13 Jan 2016 22:25:56 GMT\r\n",
        b"Date: %b\r\nA: \0\r\n" % DATE,
    ],
)
def test_what_cannot_be_told_so_stays_as_it_is(fields: bytes) -> None:
    assert shortened(response(fields)) is None


@given(st.binary(max_size=60) | st.just(b"Date: \0"), st.integers(0, 2**48 - 1))
def test_what_is_none_is_noticed_or_is_some_response_and_breaks_nothing_else(fields: bytes, date: int) -> None:
    try:
        restored(response(fields, date))
    except ValueError:
        return
    assert b"\0" in fields
