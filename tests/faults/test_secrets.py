"""Nothing that is told of the work, to people or to Prometheus, has a key, a credential or a password in it."""

from pathlib import Path
from urllib.parse import quote

from tests.support.origin import Origin, hang, raw, reset
from tests.support.process import ProxyProcess, StartProxy
from tests.support.proxy import HOST, request, responses
from tests.support.raw import Field, eventually, exchange
from tests.support.valkey import Valkey

KEY = b"key-sesame-%04d-abcdefgh"
RECOGNISED = ("sesame", "opensaysme", "hunter2", "s%65same")
"""In every key; in every credential, cookie and query; in the store's password; in an encoded key."""
CREDENTIALS: list[Field] = [
    (b"Authorization", b"Bearer opensaysme"),
    (b"X-Api-Key", b"opensaysme"),
    (b"Cookie", b"session=opensaysme"),
]


async def lines(proxy: ProxyProcess, count: int) -> None:
    """Wait until that many requests have their line: they are written by the handful."""
    await eventually(lambda: len(proxy.said("request")) >= count)


async def pay(proxy: ProxyProcess, number: int) -> int:
    return (await proxy.post(KEY % number, CREDENTIALS)).status


async def ask_in_every_way(proxy: ProxyProcess, key: bytes) -> None:
    """For a record: with and without the right to it, and under paths that are nearly right."""
    assert (await proxy.retrieve(key, CREDENTIALS)).status == 200
    assert (await proxy.retrieve(key)).status == 404
    head = await exchange(proxy.port, request(b"HEAD", responses(key), CREDENTIALS), head=True)
    assert head.startswith(b"HTTP/1.1 200")
    encoded = key.replace(b"sesame", b"s%65same")
    assert (await proxy.call(request(b"GET", b"/responses/%b" % encoded, CREDENTIALS))).status == 200
    assert (await proxy.call(request(b"GET", b"//responses//%b/?token=opensaysme" % key, CREDENTIALS))).status == 200


async def send_malformed_keys(proxy: ProxyProcess) -> int:
    """Too long, of other characters, twice, in a path; how many requests that were."""
    long, odd = KEY % 1 + b"0" * 40, b"sesame/sesame sesame"
    for key in (long, odd, b'"sesame', b"%b, %b" % (KEY % 1, KEY % 2)):
        assert (await proxy.post(key, CREDENTIALS)).status == 400
    assert (await proxy.post(KEY % 1, [(b"Idempotency-Key", KEY % 2)])).status == 400
    for path in (long, b"sesame", quote(odd, safe="").encode("ascii")):
        assert (await proxy.call(request(b"GET", b"/responses/%b/" % path))).status == 400
    return 8


async def send_malformed_requests(proxy: ProxyProcess) -> None:
    """Heads that nobody can read, with secrets all over."""
    for data in (
        b"POST /sesame HTTP/1.1\r\nHost: %b\r\nHost: opensaysme\r\n\r\n" % HOST,
        b"POST /?token=opensaysme sesame HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /responses/sesame HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key : sesame\r\n\r\n",
        b"SESAME sesame\r\n\r\n",
        b"POST /sesame HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: opensaysme\r\n\r\n",
    ):
        answer = await exchange(proxy.port, data)
        assert answer[9:10] in (b"4", b"5"), answer


async def told(proxy: ProxyProcess) -> str:
    """All that it tells."""
    ops = [(await proxy.ops(path)).body for path in ("/metrics", "/readyz", "/healthz")]
    return proxy.text + b"".join(ops).decode("utf-8")


async def test_no_key_credential_or_password_is_told(origin: Origin, start_proxy: StartProxy, tmp_path: Path) -> None:
    with Valkey(tmp_path, password="hunter2", appendonly=True) as valkey:
        settings = {"log__level": "debug", "log__requests": "true", "upstream__timeout": "200ms"}
        proxy = await start_proxy({"store.url": valkey.url, "store.deadline": "300ms"}, **settings)
        assert await pay(proxy, 1) == 200
        assert await pay(proxy, 1) == 409
        await ask_in_every_way(proxy, KEY % 1)
        malformed = await send_malformed_keys(proxy)
        await send_malformed_requests(proxy)
        for behaviour, number in ((reset(), 2), (hang(), 3), (raw(b"HTTP/1.1 opensaysme sesame\r\n\r\n"), 4)):
            origin.behave(behaviour)
            assert await pay(proxy, number) == 504
        await origin.stop()
        assert await pay(proxy, 5) == 502
        assert (await proxy.call(request(b"GET", b"/users?token=opensaysme", CREDENTIALS))).status == 502
        await origin.start()
        valkey.kill()
        assert await pay(proxy, 6) == 503
        assert (await proxy.retrieve(KEY % 6, CREDENTIALS)).status == 503
        await lines(proxy, 2 + 5 + malformed + 3 + 2 + 2)
        everything = await told(proxy)
        assert await proxy.stop() == 0
    everything += proxy.text

    assert "store unavailable" in everything
    assert "outcome unknown" in everything
    assert "upstream not reached" in everything
    assert "unusable request" in everything
    found = [line for line in everything.splitlines() if any(secret in line for secret in RECOGNISED)]
    assert not found, "\n".join(found)


async def test_a_key_in_the_path_of_what_passes_through_is_not_told(start_proxy: StartProxy) -> None:
    proxy = await start_proxy({"store.url": "memory://"}, log__requests="true")
    for method in (b"POST", b"PUT", b"DELETE"):
        passed = await proxy.call(request(method, responses(KEY % 1), [(b"Content-Length", b"0")]))
        assert passed.status == 200
    await lines(proxy, 3)
    assert "sesame" not in proxy.text


async def test_a_key_is_recognised_in_the_log_by_its_hash(start_proxy: StartProxy) -> None:
    proxy = await start_proxy({"store.url": "memory://"}, log__requests="true")
    for number in (1, 1, 2):
        await pay(proxy, number)
    await proxy.post()
    await lines(proxy, 4)
    first, again, other, without = proxy.said("request")
    assert first["key"] == again["key"] != other["key"]
    assert len(bytes.fromhex(first["key"])) == 16
    assert without["key"] == ""
    assert [line["outcome"] for line in (first, again, other, without)] == [
        "completed", "conflict", "completed", "passed",
    ]  # fmt: skip
