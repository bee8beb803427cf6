"""What is to go wrong, or to be asked for, as the requests or the tests want it."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from proxy.sandbox.input import BadInput

LONGEST_DELAY = 120.0
LONGEST_LIFETIME = 86_400
LARGEST_SIZE = 64 * 1024 * 1024


class Faults(NamedTuple):
    """What is to go wrong: seconds, a status, where to drop the connection, bytes; whether credentials are asked for;
    seconds that a bearer lives."""

    delay: float = 0.0
    status: int | None = None
    drop: str | None = None
    size: int = 0
    credentials: str | None = None
    lifetime: int = 1200

    def overridden(self, asked: Mapping[str, str]) -> "Faults":
        """With the faults in *asked*, by name; raise BadInput."""
        read: dict[str, float | int | str] = {}
        for name, text in asked.items():
            if name not in FAULTS:
                raise BadInput({name: f"no such fault; there are {', '.join(FAULTS)}"})
            pattern, meaning, value = FAULTS[name]
            if re.fullmatch(pattern, text, re.ASCII) is None:
                raise BadInput({name: f"must be {meaning}"})
            read[name] = value(text)
        return Faults(**{**self._asdict(), **read})


FAULTS: Mapping[str, tuple[str, str, Callable[[str], float | int | str]]] = {
    "delay": (r"\d{1,9}(\.\d{1,9})?", "seconds", lambda text: min(float(text), LONGEST_DELAY)),
    "status": (r"[2-5]\d\d", "a status from 200 to 599", int),
    "drop": (r"before-response|in-body", "before-response or in-body", str),
    "size": (r"\d{1,12}", "a number of bytes", lambda text: min(int(text), LARGEST_SIZE)),
    "credentials": (r"required", "required", str),
    "lifetime": (r"\d{1,9}", "a number of seconds", lambda text: min(int(text), LONGEST_LIFETIME)),
}
"""By name: what the text must look like, the same for people, and its value."""
FAULT_FIELD = "x-sandbox-"


def faults_in_fields(request: web.Request) -> dict[str, str]:
    """The faults that a request asks for itself; a repeated field is joined, and thereby refused."""
    names = {name.lower() for name in request.headers if name.lower().startswith(FAULT_FIELD)}
    return {name.removeprefix(FAULT_FIELD): ", ".join(request.headers.getall(name)) for name in names}
