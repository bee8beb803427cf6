"""The story of a request that is refused by what its head says."""

from proxy.core.refusal import Refusal
from proxy.http1.connection import ServerConnection
from proxy.http1.message import CHUNKED, Fault, RequestHead
from proxy.parts import Parts
from proxy.reply import Reply

SWALLOWED = 64 * 1024
"""Bytes of a body that are read and thrown away, so that the connection can be kept; over it, it is closed."""


class TurnedAway:
    """Answers when the body is over, if that is soon: an answer in the middle of a body costs the connection."""

    def __init__(self, parts: Parts, head: RequestHead, client: ServerConnection, refusal: Refusal) -> None:
        self._reply = Reply(parts, head, client)
        self._body_timeout = parts.terms.body_timeout
        self._refusal = refusal
        self._at_once = head.expects_continue or head.length == CHUNKED or head.length > SWALLOWED

    def whole(self, _body: bytes) -> None:
        """See `http1.server.Receiver`, as for all that follow."""
        self._reply.refuse(self._refusal)

    def started(self) -> None:
        """Only what cannot wait."""
        if self._at_once:
            self._reply.refuse(self._refusal)
        else:
            self._reply.client.body_within(self._body_timeout)

    def received(self, data: bytes) -> None:
        """Of no interest."""

    def ended(self) -> None:
        """Now."""
        self._reply.refuse(self._refusal)

    def broken(self, fault: Fault | None) -> None:
        """It would have been refused anyway."""
        if fault is not None:
            self._reply.refuse(self._refusal)

    def gone(self) -> None:
        """Nobody to tell."""

    def answer_paused(self) -> None:
        """The answer is short, and already given."""

    def answer_resumed(self) -> None:
        """See `answer_paused`."""
