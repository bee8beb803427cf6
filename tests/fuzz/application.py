"""What stands behind the client's connections while they are fuzzed: it answers each request with its number, and
raises where it hears what a receiver must not hear."""

from enum import Enum, auto

from proxy.http1.connection import ServerConnection
from proxy.http1.message import Fault, RequestHead


class State(Enum):
    """Of a request's body."""

    TO_COME = auto()
    READ = auto()
    WHOLE = auto()
    BROKEN = auto()


class Silent:
    """A receiver that must not hear anything."""

    def whole(self, body: bytes) -> None:
        raise AssertionError("whole")

    def started(self) -> None:
        raise AssertionError("started")

    def received(self, data: bytes) -> None:
        raise AssertionError("received")

    def ended(self) -> None:
        raise AssertionError("ended")

    def broken(self, fault: Fault | None) -> None:
        raise AssertionError("broken")

    def gone(self) -> None:
        raise AssertionError("gone")

    def answer_paused(self) -> None:
        """Answers are given at once."""

    def answer_resumed(self) -> None:
        """See `answer_paused`."""


class Request(Silent):
    """Receives one, and answers it with its number; each number in another way."""

    def __init__(self, application: "Recorder", head: RequestHead, connection: ServerConnection) -> None:
        self.head = head
        self.body = b""
        self.state = State.TO_COME
        self.answered = False
        self.is_gone = False
        self.tunnel: Tunnel | None = None
        self._application = application
        self._number = len(application.requests)
        self.connection = connection

    def whole(self, body: bytes) -> None:
        assert self.state is State.TO_COME
        self.body, self.state = body, State.WHOLE
        self._application.due(self)

    def started(self) -> None:
        assert self.state is State.TO_COME
        self.state = State.READ
        self.connection.body_within(50)
        self.connection.wants_body()
        if self._application.early:
            self.answer()

    def received(self, data: bytes) -> None:
        assert data
        assert self.state is State.READ
        assert not self.answered
        self.body += data

    def ended(self) -> None:
        assert self.state is State.READ
        assert not self.answered
        self.state = State.WHOLE
        self._application.due(self)

    def broken(self, fault: Fault | None) -> None:
        assert self.state is State.READ
        assert not self.answered
        self.state = State.BROKEN
        if fault is None:
            self.is_gone = True
        else:
            self.answer()

    def gone(self) -> None:
        assert not self.is_gone
        self.is_gone = True

    def answer(self) -> None:
        if self.answered or self.is_gone:
            return
        self.answered = True
        text = b"%d" % self._number
        length = b"Content-Length: %d\r\n" % len(text)
        match self._number % 3:
            case 0:
                self.connection.answer(200, b"OK", length, text)
            case 1:
                self._stream(length, text, framed=True)
            case _:
                self._stream(b"", text, framed=False)

    def _stream(self, fields: bytes, text: bytes, *, framed: bool) -> None:
        self.connection.begin(200, b"OK", fields, framed=framed)
        self.connection.flush()
        if self.head.method != b"HEAD":
            self.connection.send(text)
        self.connection.end()

    def switch(self) -> None:
        if self.state is State.WHOLE:
            self.answered = True
            self.tunnel = Tunnel(self.connection)
            self.connection.switch(b"Upgrade: echo\r\n", self.tunnel)


class Tunnel(Silent):
    """Another protocol, which says back what it hears."""

    def __init__(self, connection: ServerConnection) -> None:
        self.heard = b""
        self.is_over = False
        self._connection = connection

    def received(self, data: bytes) -> None:
        assert data
        assert not self.is_over
        self.heard += data
        self._connection.send(data)
        self._connection.flush()

    def ended(self) -> None:
        assert not self.is_over
        self.is_over = True
        self._connection.end()

    def gone(self) -> None:
        assert not self.is_over
        self.is_over = True


class Recorder:
    """The application."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.refused: Fault | None = None
        self.early = False
        self._later = False

    def receive(self, head: RequestHead, connection: ServerConnection) -> Request:
        assert self.refused is None, "a request behind one that was refused"
        assert all(before.answered for before in self.requests), "two requests at a time"
        request = Request(self, head, connection)
        self.requests.append(request)
        return request

    def refuse(self, fault: Fault, connection: ServerConnection) -> None:
        assert self.refused is None, "refused twice"
        self.refused = fault
        connection.answer(400, b"", b"Content-Length: 0\r\n", b"")

    def due(self, request: Request) -> None:
        """It can be answered."""
        if not self._later:
            request.answer()

    def switch(self) -> None:
        for request in self._open():
            request.switch()

    @property
    def busy(self) -> bool:
        """A request is under way."""
        return bool(self._open())

    def answer_later(self) -> None:
        self._later = True

    def answer_early(self) -> None:
        self.early = True

    def answer(self) -> None:
        for request in self._open():
            request.answer()

    def hold(self) -> None:
        for request in self._open():
            request.connection.pause_reading()

    def go_on(self) -> None:
        for request in self._open():
            request.connection.resume_reading()

    def break_off(self) -> None:
        for request in self._open():
            request.answered = True
            request.connection.abort()

    def _open(self) -> list[Request]:
        """The request that is under way, if one is."""
        return [request for request in self.requests if not request.answered and not request.is_gone]
