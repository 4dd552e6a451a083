"""What the use cases know of keys: what wraps them, where they are, what stands for a patient."""

from __future__ import annotations

from typing import Protocol

from overread.domain.study import TenantId
from overread.services.values import TenantKeys


class KeyManagement(Protocol):
    """Wraps data keys by a master key: `store.keys_master` (file, environment) or a KMS."""

    @property
    def key_id(self) -> str:
        """Of the master key that wraps now; kept beside what it wrapped."""
        ...

    def wrap(self, key: bytes, context: str) -> bytes:
        """`key` encrypted, and bound to `context`. Raises `KeyUnavailable`."""
        ...

    def unwrap(self, wrapped: bytes, key_id: str, context: str) -> bytes:
        """Raises `KeyUnavailable`: no such master key, a changed `wrapped`, or another `context`."""
        ...

    def refresh(self) -> None:
        """See whether another master key wraps now."""
        ...


class KeyRing(Protocol):
    """The data keys of tenants, unwrapped, in memory for a short time."""

    def keys(self, tenant: TenantId) -> TenantKeys:
        """The same object while nothing changed. Raises `KeyUnavailable`, `KeyShredded`, `StoreUnavailable`."""
        ...

    def reload(self, tenant: TenantId) -> TenantKeys:
        """As `keys`, and not from memory."""
        ...


class KeyShredder(Protocol):
    """`store.keys_admin`: what deleting a tenant does to its keys. Needs the owner's log-in."""

    def shred(self, tenant: TenantId) -> None:
        """Delete all wrapped keys of the tenant, and never make new ones: what they encrypted is worthless.

        Other processes forget theirs within seconds. Doing it twice is fine.
        """
        ...


class PatientIndex(Protocol):
    """Stands for patients where their identifiers must not be: opt-outs, audit, search. One tenant's."""

    def blind(self, issuer: str, patient_id: str) -> bytes:
        """32 bytes, the same for the same patient for ever (key rotation included), another in another tenant.

        `issuer` is IssuerOfPatientID (0010,0021) or "", `patient_id` PatientID (0010,0020). HMAC-SHA256: nobody without
        the tenant's key can make it or undo it.
        """
        ...

    def content(self, sha256: str) -> str:
        """64 hexadecimal digits that stand for a file's sha256: names an object without telling which file it is."""
        ...
