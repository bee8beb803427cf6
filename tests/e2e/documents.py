"""Documents whose commands are run: what is in them, and what those print."""

import asyncio
import contextlib
import os
import random
import re
import shlex
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.test_run import COMMAND, run

README_PORTS = ("8080", "8081", "9090")
"""The proxy's, the sandbox's, and the one of health and metrics: free ones stand in for them in a test."""
END_OF_BLOCK = "\x1e"

BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
VARIES = {
    r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT": "<HTTP-date>",
    r"\b1\d{9}\b": "<Unix second>",
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}": "<UUID>",
    r"(?m)^Server: .*$": "Server: <version>",
    r"sqlite:///\S+/var/": "sqlite:///<directory>/var/",
    r"spool     ok: \S+/": "spool     ok: <directory>/",
    r"SQLite [\d.]+": "SQLite <version>",
    r"connected in \d+ ms": "connected in <n> ms",
}
"""What is another at every run."""


class Example(NamedTuple):
    """Commands of a document, and what it says they print."""

    commands: str
    output: str


class Run(NamedTuple):
    """A run of the proxy that a document asks for by `make run`, and what it shows of it."""

    heading: str
    preparation: str
    """Commands before `make run`, in the same block."""
    variables: dict[str, str]
    shown: list[Example]


def examples(text: str) -> list[Example]:
    """All but those that start something: `make ...` is for people, and takes the ports of the machine."""
    found = [Example(*found.groups("")) for found in BLOCK.finditer(text)]
    return [example for example in found if not re.search(r"(?:^| )make ", example.commands, re.MULTILINE)]


def runs(text: str) -> Iterator[Run]:
    """Each `make run`, with the examples up to the next one. What stands before the first one is part of all."""
    starts = [found for found in BLOCK.finditer(text) if re.search(r"(?:^| )make run\b.*\Z", found[1].rstrip())]
    common = examples(text[: starts[0].start()])
    for start, end in zip(starts, [*(start.start() for start in starts[1:]), len(text)]):
        *preparation, command = start[1].rstrip().splitlines()
        variables = dict(word.split("=", 1) for word in shlex.split(command) if word not in ("make", "run"))
        heading = re.findall(r"^#+ (.+)$", text[: start.start()], re.MULTILINE)[-1]
        yield Run(heading, "\n".join(preparation), variables, common + examples(text[start.end() : end]))


def constant(text: str) -> str:
    """*text* without what varies."""
    for pattern, word in VARIES.items():
        text = re.sub(pattern, word, text)
    return text.replace("\r", "").strip()


def free_ports(count: int) -> list[str]:
    """Of four digits, like the README's: the length of a URL is part of what a Content-Length counts."""
    with contextlib.ExitStack() as stack:
        ports: list[str] = []
        while len(ports) < count:
            port = random.randrange(2000, 10_000)
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(str(port))
        return ports


def ported(text: str, ports: dict[str, str]) -> str:
    """*text* with other ports on 127.0.0.1."""
    return re.sub(r"(127\.0\.0\.1:)(\d+)", lambda found: found[1] + ports.get(found[2], found[2]), text)


@asynccontextmanager
async def made_run(directory: Path, preparation: str = "", **more: str) -> AsyncIterator[dict[str, str]]:
    """A run as `make run` makes it, in an empty directory; the README's ports, and the ones that stand in for them."""
    (directory / ".venv").symlink_to(COMMAND.parents[1])
    assert await shell(preparation, directory) == ""
    proxy, sandbox, ops = free_ports(3)
    variables = {
        "LISTEN": f"127.0.0.1:{proxy}",
        "SANDBOX": f"127.0.0.1:{sandbox}",
        "ARGS": f"--ops-listen 127.0.0.1:{ops} {more.pop('ARGS', '')}",
    }
    with run(directory, **variables, **more) as running:
        await running.started()
        yield dict(zip(README_PORTS, (proxy, sandbox, ops), strict=True))


async def shell(script: str, directory: Path) -> str:
    """What it prints."""
    bash = await asyncio.create_subprocess_exec(
        *("bash", "--noprofile", "--norc", "-c", "exec 2>&1\n" + script),
        cwd=directory,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    async with asyncio.timeout(40):
        printed, _ = await bash.communicate()
    return printed.decode()


async def printed(shown: list[Example], directory: Path, ports: dict[str, str]) -> list[str]:
    """By the commands of each, one after the other in one shell."""
    script = "".join(f"{example.commands}\nprintf '\\x1e'\n" for example in shown)
    back = {own: named for named, own in ports.items()}
    return ported(await shell(ported(script, ports), directory), back).split(END_OF_BLOCK)[:-1]


async def assert_printed(shown: list[Example], directory: Path, ports: dict[str, str]) -> None:
    """The commands print what stands below each."""
    outputs = await printed(shown, directory, ports)
    for example, output in zip(shown, outputs, strict=True):
        assert constant(output) == constant(example.output), example.commands
