"""The table of responses, in groups: what an upstream may say, and what its client is given."""

from tests.wire.responses.answer import Answer, Group
from tests.wire.responses.bodies import BEHIND, CUT, FRAMING, WHOLE
from tests.wire.responses.heads import FIELDS, INTERIM, OLD, STATUS_LINES

GROUPS: list[Group] = [WHOLE, CUT, FRAMING, BEHIND, STATUS_LINES, INTERIM, FIELDS, OLD]
ANSWERS: list[tuple[str, Answer]] = [(f"{group.title}: {row.name}", row) for group in GROUPS for row in group.rows]
