"""What is put on record: actions, who does them, how they ended. Each action says which DICOM event it is.

Event ids and types are those of DICOM PS3.15 A.5.3 and PS3.16 CID 400, 401; action codes those of RFC 3881 5.1.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Code:
    """A coded concept of PS3.16."""

    value: str
    meaning: str
    scheme: str = "DCM"


class Does(StrEnum):
    """EventActionCode (RFC 3881 5.1.2)."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class AuditOutcome(StrEnum):
    """How it ended."""

    SUCCESS = "success"
    #: Not allowed: no right, no session, another tenant's.
    DENIED = "denied"
    #: Allowed, and did not work: not there, a conflict, a fault.
    FAILED = "failed"


class ActorKind(StrEnum):
    """What somebody is."""

    PERSON = "person"
    #: A program of the hospital with an API key, or a log-in of the role service.
    MACHINE = "machine"
    #: A DICOM peer: its name is the AE title.
    PEER = "peer"
    #: A process of ours: worker, arrival of a study, command line.
    SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who did it, and from where. Names are user names and AE titles, never a patient's."""

    kind: ActorKind
    name: str
    user_id: UUID | None = None
    role: str = ""
    #: Id of the log-in (`jti`) or of the API key; never the secret itself.
    session: str = ""
    #: Network address of the caller.
    address: str = ""
    #: "page", "api", "dicom", "worker", "command line".
    channel: str = ""


@dataclass(frozen=True, kw_only=True)
class PatientRef:
    """A patient as DICOM names one; recorded only as a keyed hash."""

    #: IssuerOfPatientID (0010,0021), or "".
    issuer: str
    #: PatientID (0010,0020).
    patient_id: str


class AuditAction(StrEnum):
    """Everything that is put on record."""

    # Who comes and goes.
    LOGIN = "login"
    LOGIN_FAILED = "login.failed"
    LOGIN_LOCKED = "login.locked"
    LOGOUT = "logout"
    SESSION_REVOKED = "session.revoked"
    # Who looked.
    WORKLIST_VIEW = "worklist.view"
    STUDY_VIEW = "study.view"
    IMAGE_VIEW = "image.view"
    ANALYSIS_VIEW = "analysis.view"
    OUTLINES_VIEW = "outlines.view"
    REJECTED_VIEW = "rejected.view"
    SYSTEM_VIEW = "system.view"
    SR_DOWNLOAD = "sr.download"
    SEG_DOWNLOAD = "seg.download"
    # What came in.
    UPLOAD = "upload"
    STUDY_RECEIVED = "study.received"
    INSTANCE_QUARANTINED = "instance.quarantined"
    # The AI.
    ANALYSIS_REQUESTED = "analysis.requested"
    ANALYSIS_COMPLETED = "analysis.completed"
    ANALYSIS_FAILED = "analysis.failed"
    ANALYSIS_CANCELLED = "analysis.cancelled"
    ANALYSIS_RETRIED = "analysis.retried"
    FEEDBACK_GIVEN = "feedback.given"
    # What leaves.
    EXPORT_MADE = "export.made"
    PATIENT_REPORT = "patient.report"
    # Configuration.
    FEATURE_CHANGED = "feature.changed"
    FEATURE_DENIED = "feature.denied"
    FEATURE_VIEW = "feature.view"
    PATIENT_OPTED_OUT = "patient.opted_out"
    PATIENT_OPTED_IN = "patient.opted_in"
    OPT_OUTS_VIEW = "opt_outs.view"
    SETTING_CHANGED = "setting.changed"
    SENDER_CHANGED = "sender.changed"
    MODEL_CHANGED = "model.changed"
    KEY_ROTATED = "key.rotated"
    TENANT_CREATED = "tenant.created"
    TENANT_SUSPENDED = "tenant.suspended"
    TENANT_RESUMED = "tenant.resumed"
    TENANT_EXPORTED = "tenant.exported"
    TENANT_DELETED = "tenant.deleted"
    USER_CREATED = "user.created"
    USER_CHANGED = "user.changed"
    USERS_VIEW = "users.view"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - what happened
    TOTP_CHANGED = "totp.changed"
    API_KEY_CREATED = "api_key.created"
    API_KEY_REVOKED = "api_key.revoked"
    # What goes.
    CUSTODY_REPORTED = "custody.reported"
    OBJECTS_DELETED = "objects.deleted"
    STUDY_DELETED = "study.deleted"
    # The trail itself.
    AUDIT_VIEW = "audit.view"
    AUDIT_EXPORTED = "audit.exported"
    AUDIT_EXPIRED = "audit.expired"


ACTIVITY: Final = Code(value="110100", meaning="Application Activity")
AUDIT_USED: Final = Code(value="110101", meaning="Audit Log Used")
INSTANCES_ACCESSED: Final = Code(value="110103", meaning="DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code(value="110104", meaning="DICOM Instances Transferred")
STUDY_DELETED: Final = Code(value="110105", meaning="DICOM Study Deleted")
EXPORT: Final = Code(value="110106", meaning="Export")
IMPORT: Final = Code(value="110107", meaning="Import")
PATIENT_RECORD: Final = Code(value="110110", meaning="Patient Record")
PROCEDURE_RECORD: Final = Code(value="110111", meaning="Procedure Record")
QUERY: Final = Code(value="110112", meaning="Query")
SECURITY_ALERT: Final = Code(value="110113", meaning="Security Alert")
AUTHENTICATION: Final = Code(value="110114", meaning="User Authentication")

LOG_IN: Final = Code(value="110122", meaning="Login")
LOG_OUT: Final = Code(value="110123", meaning="Logout")
SECURITY_CONFIGURATION: Final = Code(value="110129", meaning="Security Configuration")
SOFTWARE_CONFIGURATION: Final = Code(value="110131", meaning="Software Configuration")
RESTRICTED_FUNCTION: Final = Code(value="110132", meaning="Use of Restricted Function")
ROLES_CHANGED: Final = Code(value="110136", meaning="Security Roles Changed")
ATTRIBUTES_CHANGED: Final = Code(value="110137", meaning="User security Attributes Changed")
NETWORK_CONFIGURATION: Final = Code(value="110128", meaning="Network Configuration")


@dataclass(frozen=True, kw_only=True)
class DicomEvent:
    """How an action is told in DICOM's words."""

    id: Code
    does: Does
    #: EventTypeCode, where PS3.15 has one.
    type: Code | None = None


def _event(id: Code, does: Does, type: Code | None = None) -> DicomEvent:
    return DicomEvent(id=id, does=does, type=type)


_A = AuditAction
#: The DICOM event of each action.
EVENTS: Final[Mapping[AuditAction, DicomEvent]] = {
    _A.LOGIN: _event(AUTHENTICATION, Does.EXECUTE, LOG_IN),
    _A.LOGIN_FAILED: _event(AUTHENTICATION, Does.EXECUTE, LOG_IN),
    _A.LOGIN_LOCKED: _event(SECURITY_ALERT, Does.EXECUTE, ATTRIBUTES_CHANGED),
    _A.LOGOUT: _event(AUTHENTICATION, Does.EXECUTE, LOG_OUT),
    _A.SESSION_REVOKED: _event(AUTHENTICATION, Does.EXECUTE, LOG_OUT),
    _A.WORKLIST_VIEW: _event(QUERY, Does.EXECUTE),
    _A.STUDY_VIEW: _event(PATIENT_RECORD, Does.READ),
    _A.IMAGE_VIEW: _event(INSTANCES_ACCESSED, Does.READ),
    _A.ANALYSIS_VIEW: _event(PROCEDURE_RECORD, Does.READ),
    _A.OUTLINES_VIEW: _event(PROCEDURE_RECORD, Does.READ),
    _A.REJECTED_VIEW: _event(QUERY, Does.EXECUTE),
    _A.SYSTEM_VIEW: _event(ACTIVITY, Does.READ),
    _A.SR_DOWNLOAD: _event(EXPORT, Does.READ),
    _A.SEG_DOWNLOAD: _event(EXPORT, Does.READ),
    _A.UPLOAD: _event(IMPORT, Does.CREATE),
    _A.STUDY_RECEIVED: _event(INSTANCES_TRANSFERRED, Does.CREATE),
    _A.INSTANCE_QUARANTINED: _event(INSTANCES_TRANSFERRED, Does.CREATE),
    _A.ANALYSIS_REQUESTED: _event(PROCEDURE_RECORD, Does.CREATE),
    _A.ANALYSIS_COMPLETED: _event(PROCEDURE_RECORD, Does.UPDATE),
    _A.ANALYSIS_FAILED: _event(PROCEDURE_RECORD, Does.UPDATE),
    _A.ANALYSIS_CANCELLED: _event(PROCEDURE_RECORD, Does.UPDATE),
    _A.ANALYSIS_RETRIED: _event(PROCEDURE_RECORD, Does.UPDATE),
    _A.FEEDBACK_GIVEN: _event(PROCEDURE_RECORD, Does.UPDATE),
    _A.EXPORT_MADE: _event(EXPORT, Does.READ),
    _A.PATIENT_REPORT: _event(EXPORT, Does.READ),
    _A.FEATURE_CHANGED: _event(SECURITY_ALERT, Does.EXECUTE, SOFTWARE_CONFIGURATION),
    _A.FEATURE_DENIED: _event(SECURITY_ALERT, Does.EXECUTE, RESTRICTED_FUNCTION),
    _A.FEATURE_VIEW: _event(ACTIVITY, Does.READ),
    _A.PATIENT_OPTED_OUT: _event(PATIENT_RECORD, Does.UPDATE),
    _A.PATIENT_OPTED_IN: _event(PATIENT_RECORD, Does.UPDATE),
    _A.OPT_OUTS_VIEW: _event(QUERY, Does.EXECUTE),
    _A.SETTING_CHANGED: _event(SECURITY_ALERT, Does.EXECUTE, SOFTWARE_CONFIGURATION),
    _A.SENDER_CHANGED: _event(SECURITY_ALERT, Does.EXECUTE, NETWORK_CONFIGURATION),
    _A.MODEL_CHANGED: _event(SECURITY_ALERT, Does.EXECUTE, SOFTWARE_CONFIGURATION),
    _A.KEY_ROTATED: _event(SECURITY_ALERT, Does.EXECUTE, SECURITY_CONFIGURATION),
    _A.TENANT_CREATED: _event(SECURITY_ALERT, Does.EXECUTE, SECURITY_CONFIGURATION),
    _A.TENANT_SUSPENDED: _event(SECURITY_ALERT, Does.EXECUTE, SECURITY_CONFIGURATION),
    _A.TENANT_RESUMED: _event(SECURITY_ALERT, Does.EXECUTE, SECURITY_CONFIGURATION),
    _A.TENANT_EXPORTED: _event(EXPORT, Does.READ),
    _A.TENANT_DELETED: _event(SECURITY_ALERT, Does.EXECUTE, SECURITY_CONFIGURATION),
    _A.USER_CREATED: _event(SECURITY_ALERT, Does.EXECUTE, ATTRIBUTES_CHANGED),
    _A.USER_CHANGED: _event(SECURITY_ALERT, Does.EXECUTE, ROLES_CHANGED),
    _A.USERS_VIEW: _event(ACTIVITY, Does.READ),
    _A.PASSWORD_CHANGED: _event(SECURITY_ALERT, Does.EXECUTE, ATTRIBUTES_CHANGED),
    _A.TOTP_CHANGED: _event(SECURITY_ALERT, Does.EXECUTE, ATTRIBUTES_CHANGED),
    _A.API_KEY_CREATED: _event(SECURITY_ALERT, Does.EXECUTE, ATTRIBUTES_CHANGED),
    _A.API_KEY_REVOKED: _event(SECURITY_ALERT, Does.EXECUTE, ATTRIBUTES_CHANGED),
    _A.CUSTODY_REPORTED: _event(ACTIVITY, Does.EXECUTE),
    _A.OBJECTS_DELETED: _event(ACTIVITY, Does.DELETE),
    _A.STUDY_DELETED: _event(STUDY_DELETED, Does.DELETE),
    _A.AUDIT_VIEW: _event(AUDIT_USED, Does.READ),
    _A.AUDIT_EXPORTED: _event(AUDIT_USED, Does.READ),
    _A.AUDIT_EXPIRED: _event(AUDIT_USED, Does.DELETE),
}


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """What of the trail is asked for; None: all."""

    #: Name of who did it, exactly.
    actor: str | None = None
    action: AuditAction | None = None
    outcome: AuditOutcome | None = None
    study_id: UUID | None = None
    #: Keyed hashes of patients, hexadecimal: any of them.
    patients: tuple[str, ...] | None = None
    date_from: datetime | None = None
    date_to: datetime | None = None
    #: Only what stands below this row in the list: its time and id.
    before: tuple[datetime, int] | None = None
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """A row of the trail, as it was recorded."""

    id: int
    at: datetime
    #: An `AuditAction`; text, since an archive may hold what later versions no longer do.
    action: str
    outcome: str
    #: Error code of what was denied or failed, else "".
    code: str
    actor: Actor
    #: Keyed hash of issuer and patient id, hexadecimal; None where no patient is concerned.
    patient: str | None
    #: Our own id of the study.
    study_id: UUID | None
    facts: Mapping[str, Any] = field(default_factory=dict)
