"""The table of requests, in groups: what a client may send, and what becomes of it."""

from tests.wire.requests.chunks import CHUNKS, EXTENSION, TRAILER
from tests.wire.requests.connection import EXPECT, HOP_BY_HOP, KEYS, OLD, PIPELINES
from tests.wire.requests.heads import FIELDS, REQUEST_LINE, VERSIONS
from tests.wire.requests.length import BOTH, CODING, LENGTH, NO_BODY_EXPECTED
from tests.wire.requests.limits import LIMITS
from tests.wire.requests.targets import HOSTS, METHODS, TARGETS
from tests.wire.row import Group, Row

GROUPS: list[Group] = [
    *(LENGTH, BOTH, CODING, NO_BODY_EXPECTED, CHUNKS, EXTENSION, TRAILER),
    *(VERSIONS, REQUEST_LINE, FIELDS, METHODS, TARGETS, HOSTS),
    *(HOP_BY_HOP, KEYS, EXPECT, PIPELINES, OLD, LIMITS),
]
ROWS: list[Row] = [row for group in GROUPS for row in group.rows]
