"""Everything the proxy itself can answer, in one table: nothing is refused that has no row here.

A Message says what happened and what to do next; it is read by a person at three in the morning.
"""

from enum import Enum
from typing import NamedTuple


class Row(NamedTuple):
    """One answer: HTTP status, `Type`, `Message`, seconds for `Retry-After`, methods for `Allow` and a challenge for
    `WWW-Authenticate` (None: the field is left out)."""

    status: int
    type: str
    message: str
    retry_after: int | None = None
    allow: str | None = None
    authenticate: str | None = None


class Refusal(Enum):
    """Why a request was not answered by the backend."""

    KEY_INVALID = Row(
        400,
        "idempotency_key_invalid",
        "The Idempotency Key is not valid: send one {header} of {key_min} to {key_max} characters out of {key_chars}."
        " Nothing was sent to the API",
    )
    KEY_MISSING = Row(
        400,
        "idempotency_key_missing",
        "This request takes an Idempotency Key: send one {header} of {key_min} to {key_max} characters out of"
        " {key_chars}, a new one for each operation. Nothing was sent to the API",
    )
    SCOPE_UNCLEAR = Row(
        400,
        "bad_request",
        "It is not plain whose request this is: send one {scope_header}, not several. Nothing was sent to the API",
    )
    BAD_REQUEST = Row(400, "bad_request", "The request is not valid HTTP/1.1. No complete request was sent to the API")
    UNIDENTIFIED = Row(
        401,
        "token_invalid",
        "The bearer token is not valid here, or has expired: send the request again with a new one, and the same"
        " Idempotency Key. Nothing was sent to the API",
        authenticate='Bearer error="invalid_token"',
    )
    KEY_NOT_FOUND = Row(
        404,
        "idempotency_key_not_found",
        "No response is recorded for this Idempotency Key: it was never used, has expired, or was released",
    )
    METHOD_REFUSED = Row(
        405,
        "bad_request",
        "This method is not served. Nothing was sent to the API",
        allow="GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",  # RFC 9110 §15.5.6; and those of WebDAV
    )
    REQUEST_TIMEOUT = Row(
        408,
        "request_timeout",
        "The request did not arrive in time. No complete request was sent to the API: send it again",
    )
    CONFLICT_COMPLETED = Row(
        409, "idempotent_creation_conflict", "A resource has already been created with this Idempotency Key"
    )
    CONFLICT_IN_PROGRESS = Row(
        409,
        "idempotent_creation_conflict",
        "A request with this Idempotency Key is still being processed: ask for its response later",
        1,
    )
    CONFLICT_UNKNOWN = Row(
        409,
        "idempotent_creation_conflict",
        "The outcome of the request with this Idempotency Key is not known: it may have been executed."
        " Find out at the API before you use another key",
    )
    STILL_IN_PROGRESS = Row(
        409,
        "idempotent_request_in_progress",
        "The request with this Idempotency Key is still being processed: ask again later",
        1,
    )
    TOO_LARGE = Row(413, "request_too_large", "The body is larger than is accepted here. Nothing was sent to the API")
    URI_TOO_LONG = Row(414, "uri_too_long", "The request line is longer than is accepted here")
    KEY_REUSED = Row(
        422,
        "idempotency_key_reused",
        "This Idempotency Key was first used for another request (method, URL or body differ). Nothing was sent to the"
        " API: look at the response to the first one, and use another key for another operation only",
    )
    EXPECTATION_FAILED = Row(417, "bad_request", "The only expectation that is met here is 100-continue")
    FIELDS_TOO_LARGE = Row(431, "header_fields_too_large", "The header fields are larger or more than is accepted here")
    TRANSFER_CODING = Row(501, "bad_request", "The only transfer coding that is understood here is chunked")
    UNREACHABLE = Row(
        502, "upstream_unreachable", "The API could not be reached. Nothing was sent: send the request again"
    )
    STORE_UNAVAILABLE = Row(
        503,
        "store_unavailable",
        "The store of Idempotency Keys does not answer. Nothing was sent to the API: send the request again later",
        1,
    )
    IDENTITY_UNAVAILABLE = Row(
        503,
        "identity_unavailable",
        "Tokens cannot be verified at the moment. Nothing was sent to the API: send the request again later",
        1,
    )
    PROOF_UNAVAILABLE = Row(
        503,
        "proof_unavailable",
        "The API does not say at the moment whether you may see what is recorded for this Idempotency Key."
        " The request was not sent again: ask later",
        1,
    )
    OVERLOADED = Row(
        503,
        "overloaded",
        "Too many requests are waiting. Nothing was sent to the API: send the request again later",
        1,
    )
    DRAINING = Row(
        503, "draining", "This proxy is being stopped. Nothing was sent to the API: send the request again", 1
    )
    OUTCOME_UNKNOWN = Row(
        504,
        "upstream_outcome_unknown",
        "The API did not give a usable answer in time: it may have executed the request."
        " Ask for the response later, and find out at the API before you use another key",
    )
    UPSTREAM_TIMEOUT = Row(504, "upstream_timeout", "The API did not give a usable answer in time")
    VERSION = Row(505, "bad_request", "The only protocol that is served here is HTTP/1.1 or HTTP/1.0")
