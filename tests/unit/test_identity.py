"""Whose request is it: what makes a scope, what is the proof, and who has neither."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bearer.keys import Keys
from proxy.core.key import NO_CREDENTIAL, Hasher
from proxy.core.path import Pattern
from proxy.core.refusal import Refusal
from proxy.core.scope import NO_SCOPE, joined
from proxy.credential import certified, credential
from proxy.http1.fields import Watched
from proxy.http1.forward import Peer
from proxy.http1.message import REQUEST_FIELDS, Limits, RequestHead, read_request
from proxy.identity import Identifier, Identity
from tests.unit.bearer.issuer import Signer, key_set, verifier

HASHER = Hasher(b"secret")
CREDENTIALS = (b"authorization", b"x-api-key")
NOBODY = Peer("192.0.2.7", trusted=False)
ALICE = NOBODY._replace(certificate=certified(HASHER, b"DER of alice"))
SIGNER = Signer()
CLIENT = Pattern("/{_}/{client}/", prefix=True)
ORGANISATION = Pattern("/{_}/{organisation}/{client}/", prefix=True)


def asked(fields: bytes = b"", path: bytes = b"/v2.01/acme/payouts") -> RequestHead:
    data = b"POST " + path + b" HTTP/1.1\r\nHost: api.test\r\n" + fields + b"\r\n"
    head = read_request(data, Limits(), Watched([*REQUEST_FIELDS, *CREDENTIALS, b"x-tenant"]))
    assert isinstance(head, RequestHead), head
    return head


def told(by: Identifier, head: RequestHead, peer: Peer = NOBODY) -> Identity | Refusal:
    """What is said, which is said once and at once."""
    answers: list[Identity | Refusal] = []
    by.identify(head, peer, answers.append)
    assert len(answers) == 1
    return answers[0]


def known(by: Identifier, head: RequestHead, peer: Peer = NOBODY) -> Identity:
    identity = told(by, head, peer)
    assert isinstance(identity, Identity), identity
    return identity


def shown(fields: bytes, peer: Peer = NOBODY) -> bytes:
    """The proof that is the credential."""
    return credential(HASHER, CREDENTIALS, asked(fields), peer.certificate)


def by_path(path: bytes, pattern: Pattern = CLIENT, authorize: str = "credential") -> Identity:
    return known(Identifier(HASHER, CREDENTIALS, ["path"], authorize, path=pattern), asked(path=path))


def by_header(fields: bytes) -> Identity | Refusal:
    return told(Identifier(HASHER, CREDENTIALS, ["header"], headers=[b"x-tenant"]), asked(fields))


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[Keys]:
    (tmp_path / "jwks.json").write_bytes(key_set(SIGNER))
    keys = Keys(str(tmp_path / "jwks.json"))
    await keys.open()
    yield keys
    await keys.close()


# -- without any ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorize", ["credential", "none"])
def test_without_scopes_there_is_one_for_all_and_the_credential_is_the_proof(authorize: str) -> None:
    by = Identifier(HASHER, CREDENTIALS, [], authorize)
    fields = b"Authorization: Bearer mine\r\n"
    assert told(by, asked(fields)) == Identity(NO_SCOPE, shown(fields))
    assert told(by, asked(), ALICE) == Identity(NO_SCOPE, ALICE.certificate)
    assert told(by, asked()) == Identity(NO_SCOPE, NO_CREDENTIAL)


# -- the path -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        b"/V3.0/acme/payouts",
        b"/v2.01/acme",
        b"/v2.01/ACME/",
        b"//v2.01///acme//payouts",
        b"/v2.01/%61cme/payouts",
        b"/v2.01/acme;v=1/payouts",
        b"/v2.01/acme%3bv/payouts",
        b"/v2.01/acme%2Fpayouts",
        b"/other/../v2.01/./acme/payouts",
        b"/v2.01/other/%2E%2e/acme/payouts",
    ],
)
def test_a_client_is_one_scope_however_its_path_is_written(path: bytes) -> None:
    assert by_path(path).scope == by_path(b"/v2.01/acme/payouts").scope


@pytest.mark.parametrize(
    "client", [b"acme.", b"acme%00", b"%2561cme", b"acme%20", b"acm", b"acmee", b"acme%5C", b"%C3%A1"]
)
def test_what_is_written_otherwise_is_another_client(client: bytes) -> None:
    assert by_path(b"/v2.01/%b/payouts" % client).scope != by_path(b"/v2.01/acme/payouts").scope


def test_the_case_of_letters_beyond_ascii_counts() -> None:
    """Which are one letter, depends on an encoding that only the backend knows."""
    assert by_path(b"/v1/%E9/").scope != by_path(b"/v1/%C9/").scope


def test_paths_without_a_client_are_one_scope_and_no_clients() -> None:
    without = {by_path(path).scope for path in (b"/", b"/payouts", b"/..", b"/v2.01/.")}
    assert len(without) == 1
    assert by_path(b"/v2.01/-").scope not in without


def test_captures_are_told_apart() -> None:
    """Not /a/bc from /ab/c, nor one capture from two."""
    paths = (b"/v1/a/bc", b"/v1/ab/c", b"/v1/b/ac", b"/v1/a/b", b"/v1/b/a", b"/v1/+1:a/b", b"/v1/a+1:b/c")
    assert len({by_path(path, ORGANISATION).scope for path in paths}) == len(paths)


def test_what_is_probed_is_proof_in_its_own_case() -> None:
    small, written, large = (by_path(b"/v1/%b/" % it, authorize="probe") for it in (b"acme", b"%61cme;v=1", b"ACME"))
    assert small == written
    assert (small.scope == large.scope, small.proof == large.proof) == (True, False)


def test_what_is_probed_is_not_the_callers_credential() -> None:
    by = Identifier(HASHER, CREDENTIALS, [], "probe", path=CLIENT)
    mine, other = (told(by, asked(b"Authorization: %b\r\n" % it)) for it in (b"mine", b"other"))
    assert mine == other
    assert mine == known(by, asked(), ALICE)
    assert mine != known(by, asked(path=b"/v2.01/other/payouts"))
    assert known(by, asked(path=b"/payouts")).proof not in (NO_CREDENTIAL, known(by, asked()).proof)


# -- a field --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [b"x-tenant: acme\r\n", b"X-TENANT:acme \t\r\n", b"XTenant: evil\r\nX-Tenant: acme\r\n"]
)
def test_a_field_counts_by_its_value_alone(fields: bytes) -> None:
    assert by_header(fields) == by_header(b"X-Tenant: acme\r\n")


def test_values_absence_and_emptiness_are_told_apart() -> None:
    written = (b"", b"X-Tenant:\r\n", b"X-Tenant: -\r\n", b"X-Tenant: acme\r\n", b"X-Tenant: ACME\r\n")
    more = (b"X-Tenant: acme, evil\r\n", b"X-Tenant: +4:acme\r\n", b"X-Tenant: acme\xa0\r\n", b'X-Tenant: "acme"\r\n')
    identities = [by_header(fields) for fields in (*written, *more)]
    assert all(isinstance(identity, Identity) for identity in identities)
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("second", [b"evil", b"acme", b""])
def test_of_two_fields_none_counts(second: bytes) -> None:
    assert by_header(b"X-Tenant: acme\r\nx-tenant: %b\r\n" % second) is Refusal.SCOPE_UNCLEAR


@pytest.mark.parametrize("fields", [b"X_Tenant: acme\r\n", b"x_TENANT:\r\n", b"X-Tenant: acme\r\nX_Tenant: evil\r\n"])
def test_what_a_backend_may_take_for_the_field_does_not_pass(fields: bytes) -> None:
    assert by_header(fields) is Refusal.SCOPE_UNCLEAR


def test_a_field_that_makes_no_scope_may_be_repeated() -> None:
    by = Identifier(HASHER, CREDENTIALS, ["credential"], headers=[b"x-tenant"])
    for fields in (b"X-Tenant: acme\r\nX-Tenant: evil\r\n", b"X_Tenant: acme\r\n"):
        assert isinstance(told(by, asked(fields)), Identity)


def test_of_several_fields_each_is_a_part() -> None:
    by = Identifier(HASHER, CREDENTIALS, ["header"], headers=[b"x-account", b"x-tenant"])
    written = (
        b"",
        b"X-Account: a\r\n",
        b"X-Tenant: a\r\n",
        b"X-Account:\r\nX-Tenant: a\r\n",
        b"X-Account: a\r\nX-Tenant: b\r\n",
        b"X-Account: b\r\nX-Tenant: a\r\n",
    )
    assert len({known(by, asked(fields)).scope for fields in written}) == len(written)
    for unclear in (b"X-Tenant: a\r\nX-Tenant: a\r\n", b"X-Tenant: a\r\nX_Account: a\r\n"):
        assert told(by, asked(unclear)) is Refusal.SCOPE_UNCLEAR


# -- a credential ---------------------------------------------------------------------------------------------------


def test_a_credential_can_be_the_scope() -> None:
    by = Identifier(HASHER, CREDENTIALS, ["credential"])
    every = [b"", b"Authorization: k\r\n", b"X-Api-Key: k\r\n", b"Authorization: k\r\nAuthorization: l\r\n"]
    identities = [known(by, asked(fields)) for fields in every] + [known(by, asked(), ALICE)]
    assert len({identity.scope for identity in identities}) == len(identities)
    assert [identity.proof for identity in identities] == [*map(shown, every), ALICE.certificate]


# -- a token --------------------------------------------------------------------------------------------------------


def jwt_scope(keys: Keys, authorize: str = "jwt") -> Identifier:
    return Identifier(HASHER, CREDENTIALS, ["jwt"], authorize, verifier=verifier(keys))


def jwt_proof(keys: Keys) -> Identifier:
    return Identifier(HASHER, CREDENTIALS, [], "jwt", verifier=verifier(keys))


def bearer(token: bytes, scheme: bytes = b"Bearer ") -> bytes:
    return b"Authorization: " + scheme + token + b"\r\n"


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer   ", b"Bearer \t"])
async def test_a_token_is_its_claim_and_nothing_else(keys: Keys, scheme: bytes) -> None:
    first, renewed = asked(bearer(SIGNER.token())), asked(bearer(SIGNER.token(jti="2"), scheme) + b"X-Api-Key: k\r\n")
    for by in (jwt_scope(keys), jwt_proof(keys)):
        assert known(by, first) == known(by, renewed, ALICE)
        assert known(by, first).proof != known(by, asked(bearer(SIGNER.token(tenant="evil")))).proof
    assert (
        known(jwt_scope(keys), first).scope != known(jwt_scope(keys), asked(bearer(SIGNER.token(tenant="evil")))).scope
    )
    assert known(jwt_proof(keys), first).scope == NO_SCOPE


@pytest.mark.parametrize(
    "fields",
    [
        bearer(b"acme"),
        bearer(b"e30.e30."),
        bearer(SIGNER.token(exp=1)),
        bearer(SIGNER.token(tenant=None)),
        bearer(SIGNER.token(tenant="acme") + b"A"),
        bearer(Signer(number=1).token()),
        bearer(SIGNER.token()) + bearer(SIGNER.token()),
        bearer(SIGNER.token()) + bearer(b"x", b"Basic "),
        bearer(SIGNER.token() + b", Bearer " + SIGNER.token(tenant="evil")),
    ],
)
async def test_with_a_token_that_is_not_valid_there_is_no_scope_and_the_proof_is_what_was_sent(
    keys: Keys, fields: bytes
) -> None:
    assert told(jwt_scope(keys), asked(fields)) is Refusal.UNIDENTIFIED
    assert told(jwt_proof(keys), asked(fields)) == Identity(NO_SCOPE, shown(fields))


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Authorization:\r\n",
        b"Authorization: Bearer\r\n",
        bearer(SIGNER.token(), b"Basic "),
        bearer(SIGNER.token(), b"Bearer\t"),
        bearer(SIGNER.token(), b"Bearer,"),
        bearer(b"x", b"Basic ") + bearer(SIGNER.token()),
        b"X-Api-Key: Bearer " + SIGNER.token() + b"\r\n",
        b"Proxy-" + bearer(SIGNER.token()),
    ],
)
async def test_without_a_token_one_shares_the_scope_of_all_without(keys: Keys, fields: bytes) -> None:
    identity = known(jwt_scope(keys), asked(fields))
    assert identity == Identity(known(jwt_scope(keys), asked()).scope, shown(fields))
    assert identity.scope != known(jwt_scope(keys), asked(bearer(SIGNER.token(tenant="-")))).scope


async def test_a_claim_is_no_credential(keys: Keys) -> None:
    """Were it hashed as one, the claim could be sent as an API key: it is no secret."""
    claimed = known(jwt_proof(keys), asked(bearer(SIGNER.token()))).proof
    for fields in (b"Authorization: acme\r\n", b"X-Api-Key: acme\r\n", bearer(b"acme")):
        assert known(jwt_proof(keys), asked(fields)).proof != claimed


async def test_without_the_issuers_keys_nothing_can_be_said(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path / "there is none"))
    await keys.open()
    for by in (jwt_scope(keys), jwt_proof(keys)):
        assert told(by, asked(bearer(SIGNER.token()))) is Refusal.IDENTITY_UNAVAILABLE
        assert isinstance(told(by, asked()), Identity), "who has no token needs no keys"
    await keys.close()


# -- several --------------------------------------------------------------------------------------------------------

PART = st.none() | st.binary(max_size=12) | st.sampled_from([b"-", b"+1:a", b"+0:", b"+4:acme", b"0", b":"])
PARTS = st.lists(PART, max_size=3)


@given(PARTS, PARTS, st.binary(max_size=8), st.binary(max_size=8))
def test_no_other_parts_and_key_have_the_same_name(
    one: list[bytes | None], other: list[bytes | None], key: bytes, another: bytes
) -> None:
    """What follows a scope cannot be taken for a part of it, if it has so many of them."""
    if len(one) == len(other) and (one, key) != (other, another):
        assert joined(one) + key != joined(other) + another
    if one != other:
        assert joined(one) != joined(other)


def test_where_a_value_stands_counts() -> None:
    by = Identifier(HASHER, CREDENTIALS, ["path", "header"], headers=[b"x-tenant"], path=CLIENT)
    cases = [
        (b"X-Tenant: a\r\n", b"/v1/b/"),
        (b"X-Tenant: b\r\n", b"/v1/a/"),
        (b"", b"/v1/a/"),
        (b"X-Tenant: a\r\n", b"/"),
        (b"X-Tenant: +1:a\r\n", b"/"),
        (b"", b"/"),
    ]
    assert len({known(by, asked(fields, path)).scope for fields, path in cases}) == len(cases)
    assert told(by, asked(b"X-Tenant: a\r\nX-Tenant: a\r\n")) is Refusal.SCOPE_UNCLEAR
