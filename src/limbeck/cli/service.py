"""The commands of the service: `serve`, `worker`, `keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from limbeck import __version__
from limbeck.cli.terminal import Home, print_table, tell
from limbeck.errors import InvalidInput
from limbeck.settings import Settings
from limbeck.storage.keys import BearerKey, Keys

__all__ = ["keys", "serve", "worker"]


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8462,
    home: Home = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Take any request; on loopback only.")] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Serve https, with a certificate of its own making.")] = False,
    certificate: Annotated[Path | None, typer.Option(help="PEM of a certificate chain to serve https with.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM of its private key.")] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Leave jobs to `limbeck worker` elsewhere.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say what is wrong with the configuration, and end.")] = False,
) -> int:
    """Serve AWS's clients: Amazon Bedrock, and as much of S3, STS and IAM as its users need."""
    from limbeck.api import serve as server
    from limbeck.api.tls import Certificate, own_certificate

    settings = Settings.read(home)
    if (certificate is None) != (key is None):
        raise InvalidInput("--certificate and --key go together; --tls alone makes a certificate")
    shown = own_certificate(settings.tls, host) if tls and not certificate else None
    if certificate and key:
        shown = Certificate(certificate, key)
    if check:
        faults = server.check(host, port, not no_auth, settings, shown)
        for fault in faults:
            print(fault)
        return 2 if faults else 0
    ready = f"limbeck {__version__} serves on {'https' if shown else 'http'}://{host}:{port} (Ctrl-C stops)"
    if shown and shown.authority:
        ready += f"\nclients must trust its authority: AWS_CA_BUNDLE={shown.authority}"
    told = lambda: tell.print(ready, highlight=False, soft_wrap=True)  # noqa: E731 (said once)
    server.serve(host, port, not no_auth, settings, told, shown, not no_worker)
    return 0


def worker(home: Home = None) -> None:
    """Take jobs from the service's queue and do them; as many workers as you like, on one database."""
    from limbeck.worker import shift

    settings = Settings.read(home)
    tell.print("a worker takes jobs (Ctrl-C stops)", highlight=False)
    shift.run(settings)


keys = typer.Typer(help="The service's keys.", no_args_is_help=True)


@keys.command("add")
def keys_add(
    user: str,
    bearer: Annotated[bool, typer.Option("--bearer", help="A key that is sent as it is, over https.")] = False,
    home: Home = None,
) -> None:
    """Make a key and show its secret, this once, in the form of AWS's environment variables."""
    held = Keys(Settings.read(home).keys)
    if bearer:
        print(f"AWS_BEARER_TOKEN_BEDROCK={held.add_bearer(user)[1]}")
        return
    made = held.add(user)
    print(f"AWS_ACCESS_KEY_ID={made.id}\nAWS_SECRET_ACCESS_KEY={made.secret}")


@keys.command("list")
def keys_list(home: Home = None) -> None:
    """The keys, without their secrets."""
    table = Table("user", "kind", "key", "created", box=None)
    for key in Keys(Settings.read(home).keys).all():
        table.add_row(key.user, "bearer" if isinstance(key, BearerKey) else "access", key.id, key.created)
    print_table(table)


@keys.command("remove")
def keys_remove(key_id: str, home: Home = None) -> None:
    """Forget a key; requests it signs are refused from then on."""
    Keys(Settings.read(home).keys).remove(key_id)
