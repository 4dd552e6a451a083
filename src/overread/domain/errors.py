"""The one base error and the errors that a caller can act on.

Each class has a stable `code` (docs/reference/errors.md lists them). HTTP status codes are given to them in
`overread.http.errors` and nowhere else; DICOM status codes in `overread.dicom.receive`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class OverreadError(Exception):
    """Something went wrong that can be named. `str(error)` is one sentence for a person."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    #: Whether trying the same thing again later can succeed (network, queue, memory), see services.retry.
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        #: What the reader can do about it, one sentence.
        self.remedy = remedy
        self.details: Mapping[str, Any] = details

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


# --- input ------------------------------------------------------------------------------------------------


class InvalidRequest(OverreadError):
    """A request misses a parameter or has one that cannot be used."""

    code = "INVALID_REQUEST"


class InvalidDicom(OverreadError):
    """Not DICOM, truncated, or without what every DICOM instance needs."""

    code = "INVALID_DICOM"


class NoPixelData(InvalidDicom):
    """An image was expected and there are no pixels in it."""

    code = "NO_PIXEL_DATA"


class PixelDataMismatch(InvalidDicom):
    """PixelData (7FE0,0010) is not as long as Rows, Columns, frames and bits say."""

    code = "PIXEL_DATA_MISMATCH"


class UnsupportedTransferSyntax(InvalidDicom):
    """Kept as it came, but no installed decoder can read the pixels."""

    code = "UNSUPPORTED_TRANSFER_SYNTAX"


class UnsupportedPixels(InvalidDicom):
    """Pixels that are there and whole, but of a kind no analyser can use (float, 1x1, constant)."""

    code = "UNSUPPORTED_PIXELS"


class UnsupportedModality(OverreadError):
    """A modality that the product has no word for."""

    code = "UNSUPPORTED_MODALITY"


class TooLarge(OverreadError):
    """An upload, archive or declared image larger than the installation allows."""

    code = "TOO_LARGE"


class UnsafeArchive(OverreadError):
    """An archive that would unpack outside its folder, or into far more than its size (a bomb)."""

    code = "UNSAFE_ARCHIVE"


class UnsupportedFile(OverreadError):
    """A file that is neither DICOM, ZIP, PNG nor JPEG."""

    code = "UNSUPPORTED_FILE"


class NotDeidentified(OverreadError):
    """A copy without names cannot be made of this: a document, a private object, an identity that stays."""

    code = "NOT_DEIDENTIFIED"


class BurnedInText(NotDeidentified):
    """Words may be in the picture, and nothing can say that they are gone."""

    code = "BURNED_IN_TEXT"


# --- who ---------------------------------------------------------------------------------------------------


class Unauthenticated(OverreadError):
    code = "UNAUTHENTICATED"


class SecondFactorRequired(Unauthenticated):
    """Name and password are right, and the account wants a code besides."""

    code = "SECOND_FACTOR_REQUIRED"


class SessionEnded(Unauthenticated):
    """Nobody used the page for a while."""

    code = "SESSION_IDLE"


class ProviderUnavailable(OverreadError):
    """The hospital's identity provider cannot be reached, or does not answer as OpenID Connect says."""

    code = "IDENTITY_PROVIDER_UNAVAILABLE"
    transient = True


class Forbidden(OverreadError):
    code = "FORBIDDEN"


class PasswordChangeRequired(Forbidden):
    """Somebody else chose the password: the user must choose their own first."""

    code = "PASSWORD_CHANGE_REQUIRED"


class FeatureDisabled(Forbidden):
    """The hospital has switched this part of the AI off."""

    code = "FEATURE_DISABLED"


class PatientObjected(Forbidden):
    """The patient does not want to be read by AI."""

    code = "PATIENT_OBJECTED"


class TenantMismatch(Forbidden):
    """X-Tenant-ID names another tenant than the token."""

    code = "TENANT_MISMATCH"


class TenantSuspended(Forbidden):
    """The operator has suspended this hospital, or it is no longer there: nobody works for it."""

    code = "TENANT_SUSPENDED"


class UnknownSender(Forbidden):
    """A DICOM peer that no tenant has registered."""

    code = "UNKNOWN_SENDER"


class RateLimited(OverreadError):
    code = "RATE_LIMITED"
    transient = True


# --- not there, or not now --------------------------------------------------------------------------------


class StudyNotFound(OverreadError):
    code = "STUDY_NOT_FOUND"


class AnalysisNotFound(OverreadError):
    code = "ANALYSIS_NOT_FOUND"


class NotFound(OverreadError):
    code = "NOT_FOUND"


class FrameNotFound(NotFound):
    """The instance is there, and has not as many frames."""

    code = "FRAME_NOT_FOUND"


class Conflict(OverreadError):
    """The state does not allow it: cancelling a completed analysis, retrying one that runs."""

    code = "CONFLICT"


class FeatureUnavailable(Conflict):
    """A feature that this version does not have cannot be switched on."""

    code = "FEATURE_UNAVAILABLE"


class NothingToAnalyse(Conflict):
    """A study of filed objects only: reports, presentation states, derived images."""

    code = "NOTHING_TO_ANALYSE"


class DuplicateUid(Conflict):
    """An instance with a known SOPInstanceUID and other pixels: quarantined, never overwritten."""

    code = "DUPLICATE_UID"


# --- processing -------------------------------------------------------------------------------------------


class InferenceError(OverreadError):
    code = "INFERENCE_ERROR"


class ModelOutOfMemory(InferenceError):
    code = "MODEL_OUT_OF_MEMORY"
    transient = True


class ModelTimeout(InferenceError):
    code = "PROCESSING_TIMEOUT"
    transient = True


class ModelStartTimeout(ModelTimeout):
    """A model's process did not start, or did not load its weights, in time."""

    code = "MODEL_TIMEOUT"


class NoSegmentation(OverreadError):
    """No DICOM SEG can be written that would lie where the images lie; the outlines and findings are there."""

    code = "NO_SEGMENTATION"


class InvalidPackage(OverreadError):
    """A model package that lacks what a card must say, or is not what its sha256 says."""

    code = "INVALID_MODEL_PACKAGE"


class StoreUnavailable(OverreadError):
    """The database cannot be reached just now."""

    code = "DATABASE_UNAVAILABLE"
    transient = True


class ObjectStoreUnavailable(StoreUnavailable):
    """Objects cannot be read or written just now; the database can."""

    code = "OBJECT_STORE_UNAVAILABLE"


class TenantUnavailable(OverreadError):
    """This hospital alone is out of service: its database could not be brought up to date. The others work."""

    code = "TENANT_UNAVAILABLE"
    transient = True


class AuditReceiverUnavailable(OverreadError):
    """The server to which the audit trail is forwarded does not take messages; they are kept and sent again."""

    code = "AUDIT_RECEIVER_UNAVAILABLE"
    transient = True


class ObjectMissing(OverreadError):
    """An indexed object is not in the object store."""

    code = "OBJECT_MISSING"


class InPacs(OverreadError):
    """A received image that is no longer here: the PACS confirmed that it keeps it."""

    code = "IN_PACS"


class SegmentationRemoved(OverreadError):
    """The segmentation of an analysis that a newer one replaced, or that failed, was removed after its time."""

    code = "SEGMENTATION_REMOVED"


class ObjectDamaged(ObjectMissing):
    """A stored object is not what was stored: changed, cut off, or another one's bytes."""

    code = "OBJECT_DAMAGED"


class PacsUnavailable(OverreadError):
    """The PACS cannot be asked about the images: no connection, refused, or no answer. Everything stays."""

    code = "PACS_UNAVAILABLE"
    transient = True


class UnknownTransaction(Forbidden):
    """A storage commitment result that nobody of this hospital asked this AE for."""

    code = "UNKNOWN_TRANSACTION"


class KeyUnavailable(OverreadError):
    """The key of encrypted data cannot be had: no master key, no KMS, or a version that is retired."""

    code = "KEY_UNAVAILABLE"
    transient = True


class KeyShredded(KeyUnavailable):
    """The tenant's keys were shredded: nothing of it can be read again."""

    code = "KEY_SHREDDED"
    transient = False


class IdentifiersDamaged(OverreadError):
    """Encrypted identifiers in the database were changed, or are not in the row where they were put."""

    code = "IDENTIFIERS_DAMAGED"


class BackupDamaged(OverreadError):
    """A backup is not what was written: a file is missing, changed or cut off."""

    code = "BACKUP_DAMAGED"


class StorageFull(OverreadError):
    """No room on disk: nothing was acknowledged."""

    code = "STORAGE_FULL"
    transient = True


class SetupError(OverreadError):
    """The installation cannot start: port taken, no write right, disk full. One clear sentence."""

    code = "SETUP_ERROR"
