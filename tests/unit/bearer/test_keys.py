"""An issuer that cannot be had, and what becomes of those who wait; files, reloading, the end."""

import asyncio
import logging
from pathlib import Path

import pytest

from proxy.bearer.keys import REFETCH_LEAST, Keys
from proxy.bearer.verifier import NoKeys, Rejected, Verdict, Verified
from tests.support.raw import eventually
from tests.unit.bearer.conftest import Opened
from tests.unit.bearer.issuer import Asked, Clock, Issuer, Signer, held, key_set, verdict, verifier

OLD, NEW = Signer("old"), Signer("new", number=1)
GOOD = Verified(b"acme")
UNKNOWN = Rejected("its key is not in the key set")
LATER = NoKeys("its key is not known, and the key set was fetched a moment ago")


# -- an issuer that cannot be had ---------------------------------------------------------------------------------


async def test_an_issuer_that_is_down_at_the_start_is_asked_again(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    await issuer.stop()
    keys = await opened()
    asked = Asked(verifier(keys))
    assert keys.trouble is not None
    assert keys.trouble.startswith(f"the key set {issuer.url} cannot be reached: ")
    asked.ask(Signer().token())
    assert asked.told == [NoKeys(keys.trouble)]  # at once: it was asked just now
    await issuer.start()
    clock.now += REFETCH_LEAST
    asked.ask(Signer().token())
    assert (await asked.all(2))[1] == GOOD
    assert keys.trouble is None


async def test_it_is_asked_again_though_no_token_comes(opened: Opened, issuer: Issuer) -> None:
    await issuer.stop()
    keys = await opened(refetch_least=0.05)
    assert keys.trouble is not None
    await issuer.start()
    await eventually(lambda: keys.trouble is None)
    assert verdict(verifier(keys), Signer().token()) == GOOD


async def test_keys_stay_when_they_cannot_be_fetched_again_but_not_for_ever(
    opened: Opened, issuer: Issuer, clock: Clock
) -> None:
    keys = await opened(max_stale=3600.0)
    by, token = verifier(keys), Signer().token()
    assert verdict(by, token) == GOOD
    await issuer.stop()
    clock.now += 3600
    await keys.reload()
    assert keys.trouble is None
    assert verdict(by, token) == GOOD
    clock.now += 1
    told = verdict(by, token)
    assert isinstance(told, NoKeys)
    assert told.why == keys.trouble
    assert told.why.startswith(f"the key set {issuer.url} for 3600 s cannot be reached: ")
    await issuer.start()
    await keys.reload()
    assert keys.trouble is None
    assert verdict(by, token) == GOOD


async def test_an_unknown_key_may_be_a_new_one_while_the_issuer_is_down(
    opened: Opened, issuer: Issuer, clock: Clock
) -> None:
    asked = Asked(verifier(await opened()))
    await issuer.stop()
    clock.now += REFETCH_LEAST
    asked.ask(NEW.token())
    (told,) = await asked.all()
    assert isinstance(told, NoKeys)
    assert told.why.startswith(f"its key is not known, and the key set {issuer.url} cannot be reached: ")
    asked.ask(NEW.token())
    assert asked.told == [told, told]
    asked.ask(Signer().token())
    assert asked.told[2] == GOOD


async def test_a_failure_is_logged_once_and_its_end_as_well(
    opened: Opened, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "proxy.bearer.keys")
    keys = await opened()
    issuer.document = b"<html>"
    for _ in range(3):
        await keys.reload()
    issuer.document = key_set(Signer())
    for _ in range(3):
        await keys.reload()
    name = f"the key set {issuer.url}"
    assert caplog.messages == [f"{name} has 1 keys", f"{name} is no JSON", f"{name} has 1 keys"]


# -- files, reloading, the end ------------------------------------------------------------------------------------


async def test_a_file_is_read_again_on_reload_and_when_a_key_is_unknown(
    opened: Opened, tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "jwks.json"
    keys = await opened(str(path))
    assert keys.trouble == f"the key set {path} cannot be read: No such file or directory"
    path.write_bytes(key_set(OLD))
    await keys.reload()
    by = verifier(keys)
    assert keys.trouble is None
    assert verdict(by, OLD.token()) == GOOD
    path.write_bytes(key_set(NEW))
    clock.now += REFETCH_LEAST
    asked = Asked(by)
    asked.ask(NEW.token())
    assert await asked.all() == [GOOD]
    assert verdict(by, OLD.token()) == LATER


async def test_a_reload_sees_what_was_there_when_it_was_called(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    """A fetch that is under way may have seen the old keys."""
    keys = await opened()
    clock.now += REFETCH_LEAST
    arrived, go = asyncio.Event(), asyncio.Event()
    issuer.handler = held(arrived, go, key_set(OLD))
    asked = Asked(verifier(keys))
    asked.ask(OLD.token())
    await arrived.wait()
    issuer.handler, issuer.document = None, key_set(NEW)
    reloading = asyncio.create_task(keys.reload())
    go.set()
    await reloading
    assert verdict(verifier(keys), NEW.token()) == GOOD
    assert asked.told == [GOOD]
    assert issuer.asked == 3


async def test_who_waits_is_told_when_it_ends(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    keys = await opened()
    clock.now += REFETCH_LEAST
    arrived = asyncio.Event()
    issuer.handler = held(arrived, asyncio.Event(), b"")
    asked = Asked(verifier(keys))
    asked.ask(NEW.token())
    await arrived.wait()
    asked.ask(NEW.token())
    await keys.close()
    assert asked.told == [LATER, LATER]
    assert "key set" not in {task.get_name() for task in asyncio.all_tasks()}
    clock.now += REFETCH_LEAST
    asked.ask(NEW.token())
    asked.ask(Signer().token())
    assert asked.told[2:] == [LATER, GOOD]
    await keys.close()


async def test_who_has_just_begun_to_wait_is_told_when_it_ends(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    """The fetch that was asked for has not begun, and never will."""
    keys = await opened()
    clock.now += REFETCH_LEAST
    asked = Asked(verifier(keys))
    asked.ask(NEW.token())
    await keys.close()
    assert asked.told == [LATER]
    assert issuer.asked == 1


async def test_closing_what_was_never_opened_is_nothing() -> None:
    keys = Keys("nowhere")
    assert keys.trouble == "the key set nowhere was not asked yet"
    assert verdict(verifier(keys), Signer().token()) == NoKeys(keys.trouble)
    await keys.close()


async def test_who_waits_is_told_though_the_reload_is_cancelled(opened: Opened, issuer: Issuer) -> None:
    keys = await opened()
    arrived = asyncio.Event()
    issuer.handler = held(arrived, asyncio.Event(), b"")
    reloading = asyncio.create_task(keys.reload())
    await arrived.wait()
    asked = Asked(verifier(keys))
    asked.ask(NEW.token())
    reloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reloading
    assert asked.told == [LATER]


async def test_one_request_that_fails_keeps_no_other_waiting(
    opened: Opened, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    by = verifier(await opened())
    clock.now += REFETCH_LEAST
    asked = Asked(by)

    def failing(_: Verdict) -> None:
        raise RuntimeError("transport closed")

    by.verify(NEW.token(), failing)
    asked.ask(NEW.token())
    assert await asked.all() == [UNKNOWN]
    assert "a request that waited for keys failed" in caplog.messages
    clock.now += REFETCH_LEAST
    asked.ask(NEW.token())
    await asked.all(2)


async def test_who_asks_from_within_an_answer_is_answered_as_well(opened: Opened, clock: Clock) -> None:
    """The next request of a connection, which begins when the one before is answered."""
    by = verifier(await opened())
    clock.now += REFETCH_LEAST
    told: list[Verdict] = []

    def then_another(verdict: Verdict) -> None:
        told.append(verdict)
        by.verify(NEW.token(), told.append)

    by.verify(NEW.token(), then_another)
    await eventually(lambda: len(told) == 2)
    assert told == [UNKNOWN, UNKNOWN]


async def test_a_defect_does_not_end_the_fetching(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is no such path, says Python with an exception that nobody thinks of."""
    keys = Keys("a\0b")
    await keys.reload()
    assert keys.trouble == "the key set a\0b cannot be fetched: see the log"
    assert "ValueError" in caplog.text
