"""What a request says, and that it cannot be done."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

import orjson

LONGEST_TEXT = 255
"""Characters of a text in a request, and of a key: what is kept is bounded."""
LARGEST_AMOUNT = 2**53
MOST_FIELDS = 1000
"""Fields of a form."""

Json = dict[str, object]


class BadInput(Exception):
    """The request asks for what cannot be done; *errors* says by name what is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


def json_members(body: bytes) -> Json:
    """The members of the JSON object that *body* is, or of none; raise BadInput."""
    try:
        members = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise BadInput({"body": "is not JSON"}) from None
    if not isinstance(members, dict):
        raise BadInput({"body": "must be a JSON object"})
    return members


def form_members(body: bytes) -> Json:
    """The fields of the form that *body* is, texts all of them; a repeated one has its last value. Raise BadInput."""
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise BadInput({"body": f"is not a form of at most {MOST_FIELDS} fields"}) from None


class Input:
    """The members of a request. It reads leniently: what is missing has a default, what is not known is ignored; what
    has the wrong type is noted, so that one answer names all of it."""

    def __init__(self, members: Json) -> None:
        self.members = members
        self.errors: dict[str, str] = {}

    def text(self, name: str, usual: object) -> object:
        """A text."""
        value = self.members.get(name)
        if value is None or (isinstance(value, str) and len(value) <= LONGEST_TEXT):
            return usual if value is None else value
        self.errors[name] = f"must be a text of at most {LONGEST_TEXT} characters"
        return usual

    def owners(self, name: str, usual: object) -> object:
        """An array with the Id of one user."""
        match self.members.get(name):
            case None:
                return usual
            case [str(owner)] if len(owner) <= LONGEST_TEXT:
                return [owner]
        self.errors[name] = "must be an array with the Id of one user"
        return usual

    def amount(self, name: str, usual: object) -> object:
        """An amount in the smallest unit of its currency; a form writes it as text."""
        value = self.members.get(name)
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= len(str(LARGEST_AMOUNT)):
            value = int(value)
        if value is None:
            return usual
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_AMOUNT:
            return value
        self.errors[name] = "must be an amount in the smallest unit of its currency"
        return usual

    def money(self, name: str) -> tuple[str, int]:
        """Currency, and amount in its smallest unit."""
        match self.members.get(name):
            case None:
                return ("EUR", 0)
            case {"Currency": str(currency), "Amount": int(amount)} if (
                len(currency) == len("EUR") and not isinstance(amount, bool) and 0 <= amount <= LARGEST_AMOUNT
            ):
                return (currency, amount)
        self.errors[name] = 'must be money: {"Currency": "EUR", "Amount": 1000}'
        return ("EUR", 0)
