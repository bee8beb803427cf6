"""What a request says, and that it cannot be done."""

from collections.abc import Mapping

import orjson

LONGEST_TEXT = 255
"""Characters of a text in a request, and of a key: what is kept is bounded."""
LARGEST_AMOUNT = 2**53

Json = dict[str, object]


class BadInput(Exception):
    """The request asks for what cannot be done; *errors* says by name what is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


class Input:
    """The members of a request. It reads leniently: what is missing has a default, what is not known is ignored; what
    has the wrong type is noted, so that one answer names all of it."""

    def __init__(self, body: bytes) -> None:
        try:
            members = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError:
            raise BadInput({"body": "is not JSON"}) from None
        if not isinstance(members, dict):
            raise BadInput({"body": "must be a JSON object"})
        self.members: Json = members
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
