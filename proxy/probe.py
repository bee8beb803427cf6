"""May this caller see the record of this client? The backend is asked, by a GET with the caller's own headers, before
anybody looks for the record: a stranger learns nothing of it, and a client whose token was renewed is known again.

It is sent again at most once, on a new connection, when a kept one died before the first byte of the answer.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import quote

from proxy.collected import recorded_whole
from proxy.core.path import Pattern, normalised
from proxy.core.record import Response
from proxy.deadlines import NEVER, Deadlines
from proxy.http1.client import UpstreamConnection
from proxy.http1.fields import lookalikes
from proxy.http1.forward import Forwarding, Peer
from proxy.http1.message import RequestHead, ResponseHead
from proxy.http1.pool import Pool

MOST = 64 * 1024
"""Bytes of an answer's body that are read."""
_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OF_THE_BODY = frozenset(b"digest repr-digest".split())
"""A GET without one has no business with them, nor with Content-*."""
_CONDITIONS = frozenset(b"if prefer range".split())
"""With If-*: they would make 206, 304 or 412 of an answer that says whether the caller may ask."""
_REDIRECTIONS = frozenset(
    b"x-http-method x-http-method-override x-method-override x-original-url x-rewrite-url".split()
)
"""Some backends take these for the method or the path: the caller would choose what is asked, and have it granted."""


class Granted(NamedTuple):
    """The upstream said 2xx."""


class PassedOn(NamedTuple):
    """A 4xx: the caller is told what the upstream says of it."""

    response: Response


class Unproven(NamedTuple):
    """Anything else. *why*: for the log."""

    why: str


Proof = Granted | PassedOn | Unproven


class Prober:
    """Asks the upstream. *template*: a path as `/v2.01/{client}/clients/`. *pattern*: its captures in the path of a
    request fill the template; None: there is nothing to fill. *timeout*: seconds for one question. *dropped*:
    lower-case names of fields that are not the probe's business. ValueError: the template needs another capture."""

    def __init__(
        self,
        pool: Pool,
        forwarding: Forwarding,
        deadlines: Deadlines,
        wall: Callable[[], float],
        *,
        template: str,
        pattern: Pattern | None,
        timeout: float,
        dropped: Collection[bytes],
    ) -> None:
        missing = set(_CAPTURE.findall(template)).difference(pattern.names if pattern else ())
        if missing:
            raise ValueError(f"{template!r} needs captures that there are not: {', '.join(sorted(missing))}")
        self._pool = pool
        self._forwarding = forwarding
        self._deadlines = deadlines
        self._wall = wall
        self._template = template
        self._pattern = pattern
        self._timeout = timeout
        self._without = _remover({*_OF_THE_BODY, *_CONDITIONS, *_REDIRECTIONS, *dropped})

    def ask(self, head: RequestHead, peer: Peer, done: Callable[[Proof | None], None]) -> None:
        """May who sent *head* see what is kept for it? *done* is called once, within the timeout. With None, and from
        within, where the request's path has not the form of the pattern: who cannot be asked about sees nothing."""
        target = self._target(head.path)
        if target is None:
            done(None)
            return
        asked = replace(
            head,
            method=b"GET",
            target=target,
            path=target,
            block=self._without(b"", head.block),
            length=0,
            expects_continue=False,
        )
        request = self._forwarding.request(asked, peer, 0)
        _Question(self._pool, self._deadlines, self._wall, request, self._timeout, done).put()

    def _target(self, path: bytes) -> bytes | None:
        """The template, filled. Each capture is encoded anew: what is asked about is what the scope says, whatever the
        caller has written. None of them is . or .., which would lead elsewhere: no normalised path has those."""
        captures: dict[str, str] = {}
        if self._pattern is not None:
            found = self._pattern.match(normalised(path))
            if found is None:
                return None
            captures = dict(zip(self._pattern.names, found))
        filled = _CAPTURE.sub(lambda name: quote(captures[name[1]], safe="", encoding="latin-1"), self._template)
        return filled.encode("ascii")


def _remover(names: set[bytes]) -> Callable[[bytes, bytes], bytes]:
    """Removes from a block of field lines those of *names*, and their look-alikes, and all Content-* and If-*."""
    every = names.union(*(lookalikes(name) for name in names))
    alternatives = b"|".join(re.escape(name) for name in sorted(every))
    return re.compile(rb"\r\n(?:(?:content|if)[-_][^:\r]*|%b):[^\r]*" % alternatives, re.IGNORECASE).sub


class _Question:
    """One of them: the borrower of a connection, and the listener to the answer."""

    __slots__ = (
        "_deadlines", "_done", "_head", "_length", "_pieces", "_pool", "_request", "_resendable", "_timeout",
        "_upstream", "_wall", "deadline",
    )  # fmt: skip

    def __init__(
        self,
        pool: Pool,
        deadlines: Deadlines,
        wall: Callable[[], float],
        request: bytes,
        timeout: float,
        done: Callable[[Proof], None],
    ) -> None:
        self.deadline = NEVER
        self._pool = pool
        self._deadlines = deadlines
        self._wall = wall
        self._request = request
        self._timeout = timeout
        self._done: Callable[[Proof], None] | None = done
        """None: it was told."""
        self._resendable = True
        self._upstream: UpstreamConnection | None = None
        self._head: ResponseHead
        self._pieces: list[bytes] = []
        self._length = 0

    def put(self) -> None:
        """One deadline for all that follows."""
        self.deadline = self._deadlines.now() + self._timeout
        self._deadlines.add(self)
        self._borrow()

    # -- sending ------------------------------------------------------------------------------------------------

    def _borrow(self, *, fresh: bool = False) -> None:
        if not self._pool.borrow(self, fresh=fresh):
            self._end(Unproven("too many requests wait for a connection"))

    def connected(self, connection: UpstreamConnection) -> None:
        """Here is a connection."""
        if connection.send(self._request, b"GET", self):
            self._upstream = connection
        else:
            self._borrow()

    def not_connected(self, why: str) -> None:
        """There is no connection to be had."""
        self._end(Unproven(why))

    def upload_paused(self) -> None:
        """The request was written whole: there is nothing to hold back."""

    def upload_resumed(self) -> None:
        """See `upload_paused`."""

    # -- the answer ---------------------------------------------------------------------------------------------

    def informed(self, head: ResponseHead) -> None:
        """Early hints are about what was asked here, not about what the caller has asked for."""

    def answered(self, head: ResponseHead, body: bytes) -> None:
        """All at once."""
        self._upstream = None
        self._end(self._judged(head, body))

    def responded(self, head: ResponseHead) -> None:
        """In pieces. Only that of a 4xx counts; others are read so that the connection can be used again."""
        self._head = head
        if head.status // 100 != 4:
            self._tell(self._judged(head, b""))
        if head.length > MOST or (self._done is None and not head.keep_alive):
            self._end(_too_large(head.status))

    def content(self, data: bytes) -> None:
        """A piece of it."""
        self._pieces.append(data)
        self._length += len(data)
        if self._length > MOST:
            self._end(_too_large(self._head.status))

    def caught_up(self) -> None:
        """Nothing is given before it is whole."""

    def completed(self) -> None:
        """The answer is whole."""
        self._upstream = None
        self._end(self._judged(self._head, b"".join(self._pieces)))

    def failed(self, why: str) -> None:
        """No usable head came, or the body broke off."""
        upstream = self._upstream
        self._lost(why, again=upstream is not None and upstream.used and not upstream.responding)

    def unsent(self, why: str) -> None:
        """The connection was closed before the request was written."""
        self._lost(why, again=True)

    def _lost(self, why: str, *, again: bool) -> None:
        self._upstream = None
        if again and self._resendable:
            self._resendable = False
            self._borrow(fresh=True)
        else:
            self._end(Unproven(why))

    def overdue(self) -> None:
        """What should have happened by now has not."""
        missing = "no connection" if self._upstream is None else "no whole answer"
        self._end(Unproven(f"{missing} within {self._timeout:g} s"))

    # -- the end ------------------------------------------------------------------------------------------------

    def _judged(self, head: ResponseHead, body: bytes) -> Proof:
        match head.status // 100:
            case 2:
                return Granted()
            case 4 if len(body) > MOST:
                return _too_large(head.status)
            case 4:
                return PassedOn(recorded_whole(head, b"GET", body, int(self._wall())))
            case _:
                return Unproven(f"the upstream answered {head.status}")

    def _end(self, proof: Proof) -> None:
        """Nothing more is waited for."""
        upstream, self._upstream = self._upstream, None
        self._deadlines.discard(self)
        self._pool.forget(self)
        if upstream is not None:
            upstream.abort()
        self._tell(proof)

    def _tell(self, proof: Proof) -> None:
        """Once."""
        done, self._done = self._done, None
        if done is not None:
            done(proof)


def _too_large(status: int) -> Unproven:
    return Unproven(f"the upstream answered {status} with more than {MOST} bytes")
