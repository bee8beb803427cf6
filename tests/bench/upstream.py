"""`python -m tests.bench.upstream PORT`: an API that answers every POST alike, as fast as Python can."""

import asyncio
import sys

import uvloop

BODY = b'{"Id": "2241581", "Status": "CREATED", "Tag": "%b"}' % (b"x" * 425)
ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Peer(asyncio.Protocol):
    """One connection, with one request at a time on it, as the proxy sends them: its head, and a body as long as its
    Content-Length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        received = self._received + data
        head, end, body = received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if end and len(body) >= int(length or 0):
            self._received = b""
            self._transport.write(ANSWER)  # type: ignore[attr-defined]  # it is a duplex one
        else:
            self._received = received


async def serve(port: int) -> None:
    """For ever."""
    server = await asyncio.get_running_loop().create_server(Peer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
