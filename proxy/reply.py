"""The answer to one request: given to the client, and told to the journal."""

from proxy.core.answer import Answer
from proxy.core.refusal import Refusal
from proxy.http1.message import RequestHead
from proxy.http1.server import ServerConnection
from proxy.parts import Parts


class Reply:
    """*key_hash*: empty where the request has no key."""

    __slots__ = ("_began", "_head", "_parts", "client", "key_hash")

    def __init__(self, parts: Parts, head: RequestHead, client: ServerConnection) -> None:
        self.client = client
        self.key_hash = b""
        self._parts = parts
        self._head = head
        self._began = parts.deadlines.now()

    def refuse(self, refusal: Refusal, outcome: str = "refused") -> None:
        """Nothing was sent, and no attempt owns the key."""
        self.give(self._parts.answers.refuse(refusal, self._parts.tokens.take(), int(self._parts.wall())), outcome)

    def give(self, answer: Answer, outcome: str) -> None:
        """An answer of the proxy's own."""
        self.tell(answer.status, outcome)
        self.client.answer(answer.status, b"", list(answer.fields), answer.body)

    def tell(self, status: int, outcome: str) -> None:
        """The request has its answer, from wherever."""
        seconds = self._parts.deadlines.now() - self._began
        self._parts.journal.request(self._head.method, self._head.path, status, outcome, seconds, self.key_hash)
