"""Certificates: one of our own making for a machine that has none, and a look at those that are given.

    HOME/tls/ca.pem             whom clients must trust: AWS_CA_BUNDLE, curl --cacert
    HOME/tls/certificate.pem    the server's
    HOME/tls/key.pem            its private key, which only its owner reads

The authority's own key is not kept: nobody can make another certificate that these clients would trust. Another name
for the server means another authority: remove the folder, and the next start makes them anew.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme
from cryptography import x509

from limbeck.errors import InvalidInput

__all__ = ["Certificate", "own_certificate"]


@dataclass(frozen=True)
class Certificate:
    """The server's certificate and key; ``authority`` is whom to trust, where that is nobody clients know."""

    chain: Path
    key: Path
    authority: Path | None = None

    def faults(self, host: str) -> list[str]:
        """What is wrong with it for a server that listens on ``host``, a sentence each."""
        missing = [f"{path}: no such file" for path in (self.chain, self.key) if not path.is_file()]
        if missing:
            return missing
        faults = []
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.chain, self.key, password=lambda: "")
            found = x509.load_pem_x509_certificate(self.chain.read_bytes())
        except (OSError, ValueError) as error:
            return [f"{self.chain} and {self.key} are no certificate with its key: {error}"]
        now = datetime.now(UTC)
        if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
            span = f"{found.not_valid_before_utc:%Y-%m-%d} to {found.not_valid_after_utc:%Y-%m-%d}"
            faults.append(f"{self.chain} is valid from {span}, and today is {now:%Y-%m-%d}")
        if self.key.stat().st_mode & 0o077:
            faults.append(f"{self.key} can be read by others; chmod 600 {self.key}")
        if self.authority and host not in ("0.0.0.0", "::", *_names(found)):  # noqa: S104 (compared, not bound)
            faults.append(f"{self.chain} is not for {host}; remove {self.chain.parent}, and another is made")
        return faults


def own_certificate(folder: Path, host: str) -> Certificate:
    """The certificate in ``folder``, made now if there is none: for ``host`` and for this machine's own names."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem", folder / "ca.pem")
    if folder.exists():
        return made
    names = {"localhost", "*.localhost", "127.0.0.1", "::1", socket.gethostname()}
    if host not in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        names.add(host)
    authority = trustme.CA(organization_name="Limbeck", organization_unit_name="made by limbeck serve --tls")
    try:
        issued = authority.issue_cert(*sorted(names), organization_name="Limbeck")
    except ValueError as error:
        raise InvalidInput(f"no certificate can be made for {', '.join(sorted(names))}: {error}") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".tls."))  # readable by its owner only, files and all
    chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
    for name, text in (("key.pem", issued.private_key_pem.bytes()), ("certificate.pem", chain)):
        _write(draft / name, text)
    _write(draft / "ca.pem", authority.cert_pem.bytes())
    try:
        draft.rename(folder)
    except OSError:  # another process made it meanwhile
        shutil.rmtree(draft)
    return made


def _write(path: Path, text: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)


def _names(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
