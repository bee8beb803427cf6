"""The command line: `serve`, `check`, `incidents`, `sandbox`. What a command runs is imported when it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

from config.load import BadSettings, load
from config.settings import Settings
from config.urls import Address, address

NAME = "idempotency-proxy"
BAD_SETTINGS = 2
"""Exit status; the same that click has for a flag that it does not know."""

_FLAGS = (
    click.option(
        "--upstream", "upstream__url", metavar="URL", help="The API to front, as http://HOST:PORT or unix:PATH."
    ),
    click.option(
        "--listen", "listen", metavar="ADDRESS", help="Where clients connect: HOST:PORT or unix:PATH (127.0.0.1:8080)."
    ),
    click.option("--ops-listen", "ops_listen", metavar="HOST:PORT", help="Health and metrics (127.0.0.1:9090)."),
    click.option("--store", "store__url", metavar="URL", help="Where the records lie (sqlite:idempotency.db)."),
    click.option("--preset", "preset", metavar="NAME", help="What stands for the defaults: mangopay, stripe or ietf."),
    click.option("--config", "config_file", metavar="FILE", type=click.Path(path_type=Path), help="Settings in TOML."),
    click.option("--workers", "workers", metavar="N", help="Processes that share the port (1)."),
    click.option("--log-requests/--no-log-requests", "log__requests", default=None, help="A log line a request (off)."),
)
"""Named as the settings that they set, with __ for the dot. All text: `load` judges them together with the others."""


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def _settings(config_file: Path | None, flags: dict[str, Any]) -> Settings:
    try:
        return load(config_file, {name.replace("__", "."): value for name, value in flags.items()})
    except BadSettings as error:
        click.echo(f"{NAME}: {error}", err=True)
        raise SystemExit(BAD_SETTINGS) from None


def _address(_context: click.Context, _option: click.Parameter, value: str) -> Address:
    try:
        return address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group(help="A reverse proxy for payment APIs: a POST with an Idempotency-Key reaches the API once.")
@click.version_option(package_name=NAME, prog_name=NAME, message="%(prog)s %(version)s")
def cli() -> None:
    """The group."""


@cli.command(help="Front the API until SIGTERM or SIGINT.")
@_with_flags
def serve(config_file: Path | None, **flags: Any) -> None:
    """Run the proxy."""
    settings = _settings(config_file, flags)
    from proxy.serve import serve as run  # noqa: PLC0415  # bad settings are told without loading the proxy

    raise SystemExit(run(settings))


@cli.command(help="Say whether the settings are right, and whether the store and the API can be reached.")
@click.option(
    "--explain", metavar="METHOD PATH", nargs=2, help="Say what would be done with such a request, and why; no more."
)
@_with_flags
def check(explain: tuple[str, str] | None, config_file: Path | None, **flags: Any) -> None:
    """Run the check."""
    settings = _settings(config_file, flags)
    if explain is not None:
        from proxy.explain import explain as tell  # noqa: PLC0415  # as above

        raise SystemExit(tell(settings, *explain))
    from proxy.check import check as run  # noqa: PLC0415  # as above

    raise SystemExit(run(settings))


@cli.command(help="List the settlements that met another attempt's record: a key that may have been paid twice.")
@click.option("--show", metavar="ID", type=int, help="Show the response of one, as /responses/<key>/ would have.")
@click.option("--forget", metavar="ID", type=int, help="Remove one, for good; the log says which and by whom.")
@_with_flags
def incidents(show: int | None, forget: int | None, config_file: Path | None, **flags: Any) -> None:
    """Run the command."""
    if show is not None and forget is not None:
        raise click.UsageError("--show and --forget are two things: one after the other")
    settings = _settings(config_file, flags)
    from proxy.incidents import incidents as run  # noqa: PLC0415  # as above

    raise SystemExit(run(settings, show, forget))


@cli.group(help="What is known of one key, and an operator's word on one that reads as unknown.")
def key() -> None:
    """The group."""


def _one_key(command: Callable[..., None]) -> Callable[..., None]:
    is_hash = click.option("--hash", "hashed", is_flag=True, help="KEY is the key's hash, as the log names it.")
    of_whom = click.option(
        "--scope", metavar="VALUE", multiple=True, help="Whose key it is: once for each of scope.from, in its order."
    )
    return click.argument("key", metavar="KEY")(is_hash(of_whom(_with_flags(command))))


@key.command(name="show", help="Show what is known of KEY.")
@_one_key
def show_key(key: str, hashed: bool, scope: tuple[str, ...], config_file: Path | None, **flags: Any) -> None:
    """Run the command."""
    settings = _settings(config_file, flags)
    from proxy.operator import Name, show  # noqa: PLC0415  # as above

    raise SystemExit(show(settings, Name(key, hashed, scope)))


@key.command(name="settle", help="The API did it: let KEY, which reads as unknown, be completed with this response.")
@click.option("--status", type=click.IntRange(200, 599), required=True, help="The response's status.")
@click.option("--body", type=click.File("rb"), help="A file with the response's body (- is the standard input).")
@click.option("--content-type", default="application/json", show_default=True, help="What the body is.")
@_one_key
def settle_key(
    key: str,
    hashed: bool,
    scope: tuple[str, ...],
    status: int,
    body: IO[bytes] | None,
    content_type: str,
    config_file: Path | None,
    **flags: Any,
) -> None:
    """Run the command."""
    settings = _settings(config_file, flags)
    from proxy.operator import Name, settle  # noqa: PLC0415  # as above

    content = b"" if body is None else body.read()
    raise SystemExit(settle(settings, Name(key, hashed, scope), status=status, body=content, content_type=content_type))


@key.command(name="release", help="The API did nothing: let KEY, which reads as unknown, be used again.")
@click.option("--yes", is_flag=True, help="The API did nothing, I know: the next request is sent to it.")
@_one_key
def release_key(
    key: str, hashed: bool, scope: tuple[str, ...], yes: bool, config_file: Path | None, **flags: Any
) -> None:
    """Run the command."""
    if not yes:
        raise click.UsageError(
            "the next request with this key is sent to the API: say --yes if you know that it did nothing"
        )
    settings = _settings(config_file, flags)
    from proxy.operator import Name, release  # noqa: PLC0415  # as above

    raise SystemExit(release(settings, Name(key, hashed, scope)))


@cli.command(help="A small payments API with faults on demand, to try the proxy with.")
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8081", show_default=True, callback=_address)
def sandbox(listen: Address) -> None:
    """Run the sandbox."""
    from proxy.sandbox import run  # noqa: PLC0415  # aiohttp is loaded for this command only

    try:
        run(listen.host, listen.port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen}: {error.strerror}") from None


def main() -> None:
    """The entry point of the command."""
    cli(prog_name=NAME)


if __name__ == "__main__":
    main()
