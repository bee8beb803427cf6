"""Whose request is it? Its scope, by which keys are kept apart, and the proof that will be asked of who wants to see
its record."""

from collections.abc import Callable, Sequence
from functools import partial
from hmac import compare_digest
from typing import NamedTuple, assert_never

from proxy.bearer.verifier import NoKeys, Rejected, Verdict, Verified, Verifier
from proxy.core.key import NO_CREDENTIAL, Hasher
from proxy.core.path import Pattern, normalised
from proxy.core.record import Attempt
from proxy.core.refusal import Refusal
from proxy.core.scope import NO_SCOPE, folded, joined
from proxy.credential import credential, spellings
from proxy.http1.fields import lookalikes
from proxy.http1.forward import Peer
from proxy.http1.message import RequestHead

AUTHORIZATION = b"authorization"
_BEARER = b"bearer "
# With a blank: no field has such a name.
_CLAIM = b"claim of a token"
_CAPTURES = b"captures of a path"


class Identity(NamedTuple):
    """*scope*: see `core.scope`. *proof*: 16 bytes, the hash of what shows the right to see the record."""

    scope: bytes
    proof: bytes

    def proves(self, attempt: Attempt) -> bool:
        """Whether who has made *attempt* is shown to be the same. In constant time: the proof is made of a secret."""
        return compare_digest(attempt.credential, self.proof)


class Known(NamedTuple):
    """What a request says of itself. *claim*: of its verified token; None: it has no such token."""

    head: RequestHead
    peer: Peer
    claim: bytes | None


Part = Callable[[Known], bytes | None]
"""Reads one part of a scope; None: the request has none of it."""


class Identifier:
    """*parts*: what makes a scope, in this order; *authorize*: what is the proof (as in the settings). *path*,
    *headers* (lower case), *verifier*: where one of them needs it."""

    def __init__(
        self,
        hasher: Hasher,
        credential_headers: tuple[bytes, ...],
        parts: Sequence[str] = (),
        authorize: str = "credential",
        *,
        path: Pattern | None = None,
        headers: Sequence[bytes] = (),
        verifier: Verifier | None = None,
        by_host: bool = False,
    ) -> None:
        self._hasher = hasher
        self._credential_headers = credential_headers
        self._path = path
        self._verifier = verifier
        self._by_host = by_host
        self._strict = "jwt" in parts
        """Whether who has a token that is not valid has no scope: then nothing can be done for it."""
        self._headers = headers if "header" in parts else ()
        self._confused = [like for name in self._headers for like in lookalikes(name)]
        made: dict[str, Sequence[Part]] = {
            "path": [self._of_path],
            "header": [partial(_of_header, name) for name in self._headers],
            "jwt": [_of_claim],
            "credential": [self._credential],
        }
        self._parts = [read for part in parts for read in made[part]]
        proofs = {"jwt": self._claimed, "probe": self._captured}
        self._prove: Callable[[Known], bytes] = proofs.get(authorize, self._credential)
        self._credentials = frozenset(it for name in credential_headers for it in spellings(name))
        """All of them must be watched."""
        self._plain = not parts and authorize in ("credential", "none")

    def identify(self, head: RequestHead, peer: Peer, done: Callable[[Identity | Refusal], None]) -> None:
        """Call *done* once: at once, or when a token's signature can be verified."""
        if self._plain:
            bare = not head.repeated and self._credentials.isdisjoint(head.found)  # looked up: this is the hot path
            proof = peer.certificate or NO_CREDENTIAL if bare else self._credential(Known(head, peer, None))
            done(Identity(NO_SCOPE, proof))
        elif self._headers and self._unclear(head):
            done(Refusal.SCOPE_UNCLEAR)
        elif self._verifier is None or (token := _token(head)) is None:
            done(self._identity(Known(head, peer, None)))
        else:
            self._verifier.verify(token, lambda verdict: done(self._judge(verdict, head, peer)))

    def _judge(self, verdict: Verdict, head: RequestHead, peer: Peer) -> Identity | Refusal:
        match verdict:
            case Verified(value):
                return self._identity(Known(head, peer, value))
            case Rejected() if self._strict:
                return Refusal.UNIDENTIFIED
            case Rejected():
                return self._identity(Known(head, peer, None))
            case NoKeys():
                return Refusal.IDENTITY_UNAVAILABLE
            case _:
                assert_never(verdict)

    def _unclear(self, head: RequestHead) -> bool:
        """Whether a field of the scope is there twice, or as a backend may take it for there: it believes one of them,
        and which is not known."""
        return any(len(head.values(name)) > 1 for name in self._headers) or any(map(head.values, self._confused))

    def _identity(self, known: Known) -> Identity:
        scope = joined([part(known) for part in self._parts]) if self._parts else NO_SCOPE
        return Identity(scope, self._prove(known))

    # -- what a scope is made of --------------------------------------------------------------------------------

    def _of_path(self, known: Known) -> bytes | None:
        captures = self._captures(known)
        return None if captures is None else joined(folded(capture) for capture in captures)

    # -- what proves the right to see a record ------------------------------------------------------------------

    def _credential(self, known: Known) -> bytes:
        return credential(self._hasher, self._credential_headers, known.head, known.peer.certificate)

    def _claimed(self, known: Known) -> bytes:
        """Who has no verified token is known by what it has."""
        return self._credential(known) if known.claim is None else self._hasher.credential(_CLAIM, known.claim)

    def _captured(self, known: Known) -> bytes:
        """What the upstream will be asked about, in the case in which it came: the scope does not look at the case, but
        who may see ACME's record need not be acme."""
        captures = self._captures(known)
        exact = [] if captures is None else [capture.encode("latin-1") for capture in captures]
        if self._by_host:
            exact.append(known.head.host.lower())
        return self._hasher.credential(_CAPTURES, joined(exact))

    def _captures(self, known: Known) -> tuple[str, ...] | None:
        return None if self._path is None else self._path.match(normalised(known.head.path))


def _of_header(name: bytes, known: Known) -> bytes | None:
    return next(iter(known.head.values(name)), None)


def _of_claim(known: Known) -> bytes | None:
    return known.claim


def _token(head: RequestHead) -> bytes | None:
    """The bearer token (RFC 6750 §2.1); None: there is none. Of several credentials, none is verified: all of them are
    the token then, which no signature fits."""
    values = head.values(AUTHORIZATION)
    value = b", ".join(values)
    return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else None
