"""The command line: `serve`, `check`, `sandbox`. What a command runs is imported when it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from config.load import BadSettings, load
from config.settings import Settings
from config.urls import Address, address

NAME = "idempotency-proxy"
BAD_SETTINGS = 2
"""Exit status; the same that click has for a flag that it does not know."""

_FLAGS = (
    click.option("--upstream", "upstream__url", metavar="URL", help="The API to front, as http://HOST:PORT."),
    click.option("--listen", "listen", metavar="HOST:PORT", help="Where clients connect (127.0.0.1:8080)."),
    click.option("--ops-listen", "ops_listen", metavar="HOST:PORT", help="Health and metrics (127.0.0.1:9090)."),
    click.option("--store", "store__url", metavar="URL", help="Where the records lie (sqlite:idempotency.db)."),
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
@_with_flags
def check(config_file: Path | None, **flags: Any) -> None:
    """Run the check."""
    settings = _settings(config_file, flags)
    from proxy.check import check as run  # noqa: PLC0415  # as above

    raise SystemExit(run(settings))


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
