"""An issuer rotates its keys, and strangers ask for keys that are none."""

import asyncio
from typing import Any

import pytest

from proxy.bearer import keys as module
from proxy.bearer import verifier as reading
from proxy.bearer.keys import REFETCH_LEAST, Keys
from proxy.bearer.verifier import NoKeys, Rejected, Verified
from tests.support.raw import eventually
from tests.unit.bearer.conftest import Opened
from tests.unit.bearer.issuer import Asked, Clock, Issuer, Signer, held, key_set, verdict, verifier

OLD, NEW = Signer("old"), Signer("new", number=1)
GOOD = Verified(b"acme")
UNKNOWN = Rejected("its key is not in the key set")
LATER = NoKeys("its key is not known, and the key set was fetched a moment ago")


# -- rotation -----------------------------------------------------------------------------------------------------


async def test_a_key_that_was_rotated_in_is_fetched_when_a_token_names_it(
    opened: Opened, issuer: Issuer, clock: Clock
) -> None:
    issuer.document = key_set(OLD)
    asked = Asked(verifier(await opened()))
    clock.now += REFETCH_LEAST
    issuer.document = key_set(OLD, NEW)
    asked.ask(NEW.token())
    assert asked.told == []  # not from within: it waits
    assert await asked.all() == [GOOD]
    asked.ask(OLD.token())
    assert asked.told == [GOOD, GOOD]
    assert issuer.asked == 2


async def test_who_waits_for_a_key_waits_for_one_fetch_together(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    issuer.document = key_set(OLD)
    asked = Asked(verifier(await opened()))
    clock.now += REFETCH_LEAST
    issuer.document = key_set(NEW)
    for number in range(50):
        asked.ask(NEW.token(jti=str(number)))
    asked.ask(Signer("none of theirs").token())
    assert await asked.all(51) == [GOOD] * 50 + [UNKNOWN]
    assert issuer.asked == 2


async def test_who_comes_while_a_fetch_is_under_way_waits_for_it(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    asked = Asked(verifier(await opened()))
    clock.now += REFETCH_LEAST
    arrived, go = asyncio.Event(), asyncio.Event()
    issuer.handler = held(arrived, go, key_set(NEW))
    asked.ask(NEW.token())
    await arrived.wait()
    asked.ask(NEW.token(jti="2"))
    assert asked.told == []
    go.set()
    assert await asked.all(2) == [GOOD, GOOD]
    assert issuer.asked == 2


@pytest.mark.parametrize(
    "new", [Signer(None, number=1), Signer(None, "RS256", "RSA2048"), Signer("new", number=1)], ids=str
)
async def test_a_rotation_is_seen_by_tokens_that_name_no_key(
    opened: Opened, issuer: Issuer, clock: Clock, new: Signer
) -> None:
    """Also where the new key is of another type than all that are there, or has a name that its tokens do not use."""
    issuer.document = key_set(Signer(None))
    asked = Asked(verifier(await opened()))
    clock.now += REFETCH_LEAST
    issuer.document = key_set(new)
    asked.ask(new.token({"kid": None}))
    assert await asked.all() == [GOOD]
    assert issuer.asked == 2


async def test_a_key_that_was_taken_away_verifies_nothing_after_the_next_refresh(
    opened: Opened, issuer: Issuer
) -> None:
    issuer.document = key_set(OLD, NEW)
    keys = await opened(refresh=0.05)
    by, token = verifier(keys), OLD.token()
    assert verdict(by, token) == GOOD
    assert verdict(by, token) == GOOD  # it is remembered now
    issuer.document = key_set(NEW)
    await eventually(lambda: len(keys.known) == 1)
    asked = Asked(by)
    asked.ask(token)
    asked.ask(NEW.token())
    assert (await asked.all(2)).count(GOOD) == 1


async def test_a_key_that_changed_under_its_name_is_another(opened: Opened, issuer: Issuer) -> None:
    issuer.document = key_set(OLD)
    keys = await opened()
    by = verifier(keys)
    assert verdict(by, OLD.token()) == GOOD
    changed = NEW._replace(kid="old")
    issuer.document = key_set(changed)
    await keys.reload()
    assert verdict(by, OLD.token()) == Rejected("its signature is wrong")
    assert verdict(by, changed.token()) == GOOD


async def test_a_refresh_that_brings_nothing_new_forgets_no_token(opened: Opened, issuer: Issuer) -> None:
    keys = await opened()
    before = keys.known
    issuer.document = key_set(Signer(), {"kty": "oct"})
    await keys.reload()
    assert issuer.asked == 2
    assert keys.known is before


# -- strangers ----------------------------------------------------------------------------------------------------


async def test_a_stranger_cannot_make_us_hammer_the_issuer(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    """A hundred seconds of unknown keys, a hundred a second: a fetch in ten seconds, and a good client is served."""
    asked = Asked(verifier(await opened()))
    for second in range(1, 101):
        clock.now += 1
        before = len(asked.told)
        for number in range(100):
            asked.ask(Signer(f"{second}-{number}").token())
        await asked.all(before + 100)
    assert set(asked.told) == {UNKNOWN, LATER}  # whether it was asked for since
    assert issuer.asked == 1 + 10
    asked.ask(Signer().token())
    assert asked.told[-1] == GOOD


async def test_only_so_many_wait_and_the_rest_are_told_at_once(
    opened: Opened, issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_LIMIT", 3)
    asked = Asked(verifier(await opened()))
    clock.now += REFETCH_LEAST
    issuer.document = key_set(NEW)
    for _ in range(5):
        asked.ask(NEW.token())
    assert asked.told == [LATER, LATER]
    assert await asked.all(5) == [LATER, LATER, GOOD, GOOD, GOOD]


async def test_a_new_key_that_cannot_be_asked_for_yet_is_no_reason_to_turn_its_token_away(
    opened: Opened, issuer: Issuer, clock: Clock
) -> None:
    """A client whose token is right is told to come back, not that its token is wrong."""
    by = verifier(await opened())
    issuer.document = key_set(NEW)
    assert verdict(by, NEW.token()) == LATER
    assert verdict(by, NEW.token()) == LATER
    clock.now += REFETCH_LEAST
    asked = Asked(by)
    asked.ask(NEW.token())
    assert await asked.all() == [GOOD]


async def test_a_key_that_was_asked_for_in_vain_is_none(opened: Opened, issuer: Issuer, clock: Clock) -> None:
    """Tokens of another issuer are turned away for good, not told to come back for ever."""
    by = verifier(await opened())
    clock.now += REFETCH_LEAST
    asked = Asked(by)
    asked.ask(NEW.token())
    assert await asked.all() == [UNKNOWN]
    assert verdict(by, NEW.token()) == UNKNOWN
    assert issuer.asked == 2


async def test_a_forged_token_without_a_kid_is_no_reason_to_turn_others_away(
    opened: Opened, issuer: Issuer, clock: Clock
) -> None:
    """Nameless keys are not one key: that the issuer had none for a forged token says nothing of the next token's."""
    asked = Asked(verifier(await opened()))
    clock.now += REFETCH_LEAST
    forged, good = (Signer(None, number=number).token() for number in (1, 2))
    asked.ask(forged)
    assert await asked.all() == [UNKNOWN]
    issuer.document = key_set(Signer(None), Signer(None, number=2))
    asked.ask(good)
    asked.ask(forged)
    assert asked.told[1:] == [LATER, UNKNOWN]
    clock.now += REFETCH_LEAST
    asked.ask(good)
    assert await asked.all(4) == [UNKNOWN, LATER, UNKNOWN, GOOD]


async def test_a_stranger_has_a_few_signatures_verified_for_a_token_and_none_after_a_fetch_in_vain(
    opened: Opened, issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.document = key_set(*(Signer(None, number=number) for number in range(reading.TRIED_LIMIT)))
    by = verifier(await opened())
    tried: list[object] = []
    decode = by._jwt.decode

    def counting(token: bytes, key: Any, **options: Any) -> Any:
        tried.append(key)
        return decode(token, key, **options)

    monkeypatch.setattr(by._jwt, "decode", counting)
    clock.now += REFETCH_LEAST
    asked = Asked(by)
    for number in range(20):
        asked.ask(Signer(None, number=9).token(jti=str(number)))
    assert await asked.all(20) == [UNKNOWN] * 20
    assert len(tried) == 20 * reading.TRIED_LIMIT
    assert issuer.asked == 2


async def test_no_more_is_remembered_of_keys_that_are_not_there_than_has_room(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MISSED_LIMIT", 3)
    by = verifier(keys)
    for number in range(10):
        assert verdict(by, Signer(f"unknown {number}").token()) == LATER
    assert len(by._missed) == 3


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"crit": ["x"]}])
async def test_a_token_that_no_key_could_help_causes_no_fetch(
    keys: Keys, issuer: Issuer, clock: Clock, header: dict[str, Any]
) -> None:
    clock.now += REFETCH_LEAST
    assert isinstance(verdict(verifier(keys), Signer("unknown").token(header)), Rejected)
    assert issuer.asked == 1
