"""The proxy's own answers: refusals, and the view of a record, with the fields that tell what is known of a key."""

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

from proxy.core.dialect import DIALECTS, Subject
from proxy.core.lifecycle import State
from proxy.core.policy import PathTemplate
from proxy.core.record import Attempt, Fields, Record, Response, values, without_fields
from proxy.core.refusal import Refusal, Row
from proxy.core.view import view

NO_STORE: Fields = b"Cache-Control: no-store\r\n"


def replayed(attempt: Attempt, response: Response, header: str) -> Fields:
    """The fields of a recorded response that is given once more; *header*: by which that is known."""
    mark = header.encode("ascii")
    fields = without_fields(response.fields, (mark.lower(), b"idempotency-state"))  # what the backend said by our names
    if not values(fields, b"date"):  # an operator wrote it, and a recipient wants both
        fields += b"Date: %b\r\n" % http_date(response.date)
    if response.status not in (204, 304) and not values(fields, b"content-length"):
        fields += b"Content-Length: %d\r\n" % len(response.body)
    return b"%b%b: true\r\n%b%b" % (fields, mark, _state(State.COMPLETED), expires(attempt))


class Answer(NamedTuple):
    """A response of our own. The fields carry Content-Type; the wire adds Date and Content-Length."""

    status: int
    fields: Fields
    body: bytes


@lru_cache(maxsize=64)
def http_date(second: int) -> bytes:
    """The IMF-fixdate (RFC 9110 §5.6.7) of a Unix second."""
    return formatdate(second, usegmt=True).encode("ascii")


@lru_cache(maxsize=64)
def _expires(second: int) -> Fields:
    return b"Idempotency-Expires: %b\r\n" % http_date(second)


def expires(attempt: Attempt) -> Fields:
    """Until when the key is taken."""
    return _expires(attempt.expires)


def _state(state: State) -> Fields:
    return b"Idempotency-State: %b\r\n" % state.value.encode("ascii")


class Asked(NamedTuple):
    """The key that a request came with, and its path (raw, without query)."""

    key: bytes
    path: bytes


class Answers:
    """Makes them. *texts* fills the placeholders of the table's messages; *response_path* is the template under which
    a client finds the record of its key; *own* are rows that take the place of the table's."""

    def __init__(
        self,
        dialect: str,
        texts: Mapping[str, object],
        response_path: str,
        own: Mapping[Refusal, Row] = MappingProxyType({}),
    ) -> None:
        self._dialect = DIALECTS[dialect]
        rows = {refusal: own.get(refusal, refusal.value) for refusal in Refusal}
        self._rows = {refusal: row._replace(message=row.message.format_map(texts)) for refusal, row in rows.items()}
        self._response_path = PathTemplate(response_path)

    def refuse(self, refusal: Refusal, token: bytes, now: int) -> Answer:
        """A refusal where no attempt owns the key: *token* is this request's own; *now* is a Unix second."""
        return self._answer(refusal, token, now, now)

    def about(self, refusal: Refusal, attempt: Attempt, state: State, asked: Asked, now: int) -> Answer:
        """A refusal about a key that *attempt* owns."""
        answer = self._answer(refusal, attempt.token, attempt.first_used // 1000, now)
        again = b""
        if state is State.IN_PROGRESS and self._rows[refusal].retry_after is None:
            again = b"Retry-After: 1\r\n"
        return answer._replace(fields=answer.fields + again + self.known(attempt, state, asked))

    def known(self, attempt: Attempt, state: State, asked: Asked) -> Fields:
        """What every refusal about a key that *attempt* owns says of it."""
        link = self._response_path.fill(quote(asked.key, safe=""), asked.path)
        described_by = b"" if link is None else f'Link: <{link}>; rel="describedby"\r\n'.encode("latin-1")
        return _state(state) + expires(attempt) + described_by

    def show(self, record: Record, state: State, asked: Asked, cap: int) -> Answer:
        """The record of a settled key (*state* is completed or unknown), as `GET /responses/<key>/` gives it. *cap* is
        how many bytes a compressed body may have when it is decoded for the view."""
        response = record.response or self._never_given(record.attempt, asked)
        fields = b"Content-Type: application/json\r\n" + NO_STORE + _state(state) + expires(record.attempt)
        return Answer(200, fields, view(response, record.attempt.url, http_date(response.date), cap))

    def unknown(self, attempt: Attempt, asked: Asked, now: int) -> Answer:
        """The 504 of an attempt whose outcome is not known."""
        return self.about(Refusal.OUTCOME_UNKNOWN, attempt, State.UNKNOWN, asked, now)

    def _never_given(self, attempt: Attempt, asked: Asked) -> Response:
        """The 504 that would have been given when the lease was over, had the proxy not died before."""
        lost = (attempt.first_used + attempt.lease) // 1000
        return recorded(self.unknown(attempt, asked, lost), lost)

    def _answer(self, refusal: Refusal, token: bytes, first_used: int, now: int) -> Answer:
        row = self._rows[refusal]
        subject = Subject(UUID(bytes=token, version=4), first_used, now)
        status, fields, body = self._dialect.render(refusal, row, subject)
        fields += NO_STORE
        if row.retry_after is not None:
            fields += b"Retry-After: %d\r\n" % row.retry_after
        if row.allow is not None:
            fields += b"Allow: %b\r\n" % row.allow.encode("ascii")
        if row.authenticate is not None:
            fields += b"WWW-Authenticate: %b\r\n" % row.authenticate.encode("ascii")
        return Answer(status, fields, body)


def recorded(answer: Answer, now: int) -> Response:
    """An answer of our own as the response that is kept under the key."""
    return Response(answer.status, b"", answer.fields, answer.body, len(answer.body), truncated=False, date=now)
