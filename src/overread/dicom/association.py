"""Who calls and what for: TLS, the peer's address and certificate, and the services that an association may ask for."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import ssl
from pathlib import Path

from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)

from overread.domain.errors import SetupError


def tls_context(certificate: Path, key: Path, senders_ca: Path | None) -> ssl.SSLContext:
    """A server's context for TLS 1.3 and nothing older (PS3.15 B.13 asks for 1.2 at least).

    With `senders_ca` (PEM, may hold several and self-signed ones) each sender must show a certificate that it covers,
    whose sha256 then identifies the sender to the `SenderDirectory`. Raises `SetupError`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
        if senders_ca is not None:
            context.load_verify_locations(senders_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SetupError(f"The DICOM receiver cannot use its TLS certificate or key: {error}.") from error
    return context


def _is_storage(abstract_syntax: UID) -> bool:
    """Whether a SOP class may be one of storage: unknown and private ones may, a known one of another service not."""
    if abstract_syntax.is_private or abstract_syntax.name == str(abstract_syntax):
        return True
    return "Storage" in abstract_syntax.name and "Storage Commitment" not in abstract_syntax.name


def refuse_other_services(request: A_ASSOCIATE) -> None:
    """Let pynetdicom's unrestricted negotiation see other services as such.

    It goes by names of its own and takes some (Modality Worklist) for unknown storage classes. The answer repeats a
    context's id and not its abstract syntax, so another one that it does refuse may stand in.
    """
    for context in request.presentation_context_definition_list:
        abstract_syntax = UID(str(context.abstract_syntax))
        served = (Verification, StorageCommitmentPushModel)
        if abstract_syntax not in served and not _is_storage(abstract_syntax):
            context.abstract_syntax = ModalityPerformedProcedureStep


def plain_address(text: str) -> str:
    """An IP address in its one spelling: an IPv4 address that came over IPv6 as IPv4."""
    with contextlib.suppress(ValueError):
        parsed = ipaddress.ip_address(text.partition("%")[0])
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    return text


def certificate_sha256(assoc: Association) -> str | None:
    """Of the certificate that the peer showed, hexadecimal; None without TLS or without one."""
    sock = assoc.dul.socket.socket if assoc.dul.socket is not None else None
    if not isinstance(sock, ssl.SSLSocket):
        return None
    certificate = sock.getpeercert(binary_form=True)
    return hashlib.sha256(certificate).hexdigest() if certificate else None
