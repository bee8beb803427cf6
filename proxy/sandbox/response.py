"""How an answer is written, whole or as the faults have it."""

import socket
import struct
from collections.abc import Iterator
from http import HTTPStatus

import orjson
from aiohttp import web

from proxy.sandbox.answer import Answer
from proxy.sandbox.faults import Faults

FILLER = b"x" * 65536
CONTENT_TYPE = "application/json; charset=utf-8"


def respond(answer: Answer) -> web.Response:
    """The answer, without any fault."""
    return web.Response(status=answer.status, body=orjson.dumps(answer.value), headers=fields(answer))


def fields(answer: Answer) -> dict[str, str]:
    """The fields that speak of it."""
    challenge = {"WWW-Authenticate": "Bearer"} if answer.status == HTTPStatus.UNAUTHORIZED else {}
    return {"Content-Type": CONTENT_TYPE, **challenge}  # RFC 9110 §11.6.1: no 401 without a challenge


async def respond_with(faults: Faults, request: web.Request, answer: Answer) -> web.StreamResponse:
    """Write the answer, or what the faults leave of it."""
    if faults.drop == "before-response":
        return reset(request)
    begin, filler, end = answer.filled(faults.size)
    length = len(begin) + filler + len(end)
    response = web.StreamResponse(status=answer.status, headers=fields(answer))
    response.content_length = length
    await response.prepare(request)
    if request.method != "HEAD" and answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        left = length // 2 if faults.drop else length
        for piece in body_pieces(begin, filler, end):
            await response.write(piece[:left])
            left = max(0, left - len(piece))
    if faults.drop and request.transport is not None:
        request.transport.close()  # behind what was written: a RST could take it back from the reader
    return response


def body_pieces(begin: bytes, filler: int, end: bytes) -> Iterator[bytes]:
    """The body in order, in pieces of bounded size."""
    yield begin
    for done in range(0, filler, len(FILLER)):
        yield FILLER[: filler - done]
    yield end


def reset(request: web.Request) -> web.Response:
    """Close the connection by a RST, whatever is still to be written. The response that is returned goes nowhere."""
    if request.transport is not None:
        at_once = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        request.transport.abort()
    return web.Response()
