"""The answer to one request: given to the client, and told to the journal."""

from proxy.core.answer import Answer
from proxy.core.record import Response
from proxy.core.refusal import Refusal
from proxy.http1.connection import ServerConnection
from proxy.http1.date import date_field
from proxy.http1.message import RequestHead
from proxy.parts import Parts


def give(client: ServerConnection, answer: Answer) -> None:
    """An answer of the proxy's own, complete."""
    framing = b"Content-Length: %d\r\n" % len(answer.body)
    client.answer(answer.status, b"", answer.fields + date_field() + framing, answer.body)


class Reply:
    """*key_hash*: empty where the request has no key."""

    __slots__ = ("_parts", "began", "client", "head", "key_hash")

    def __init__(self, parts: Parts, head: RequestHead, client: ServerConnection) -> None:
        self.client = client
        self.head = head
        self.began = parts.deadlines.now()
        self.key_hash = b""
        self._parts = parts

    def refuse(self, refusal: Refusal, outcome: str = "refused") -> None:
        """Nothing was sent, and no attempt owns the key."""
        parts = self._parts
        self.give(parts.answers.refuse(refusal, parts.tokens.take(), int(parts.wall())), outcome)

    def give(self, answer: Answer, outcome: str) -> None:
        """An answer of the proxy's own."""
        self.tell(answer.status, outcome)
        give(self.client, answer)

    def pass_on(self, response: Response, outcome: str) -> None:
        """A response of the upstream's, complete."""
        self.tell(response.status, outcome)
        self.client.answer(response.status, response.reason, response.fields, response.body)

    def tell(self, status: int, outcome: str) -> None:
        """The request has its answer, from wherever."""
        parts, head = self._parts, self.head
        parts.journal.count(outcome)
        if parts.journal.lines:
            seconds = parts.deadlines.now() - self.began
            parts.journal.request(head.method, head.path, status, outcome, seconds, self.key_hash)
