"""What each action of the audit trail is called on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from overread.domain.audit import AuditAction as A
from overread.domain.audit import AuditEvent

WORDS: Final[Mapping[A, str]] = {
    A.LOGIN: "logged in",
    A.LOGIN_FAILED: "log-in failed",
    A.LOGIN_LOCKED: "account locked",
    A.LOGOUT: "logged out",
    A.SESSION_REVOKED: "sessions ended",
    A.WORKLIST_VIEW: "looked at a list of studies",
    A.STUDY_VIEW: "opened a study",
    A.IMAGE_VIEW: "looked at images",
    A.ANALYSIS_VIEW: "read a result",
    A.OUTLINES_VIEW: "looked at outlines",
    A.REJECTED_VIEW: "looked at what was rejected",
    A.SYSTEM_VIEW: "looked at the system page",
    A.SR_DOWNLOAD: "took the report (SR) out",
    A.SEG_DOWNLOAD: "took the outlines (SEG) out",
    A.UPLOAD: "uploaded files",
    A.STUDY_RECEIVED: "sent images",
    A.INSTANCE_QUARANTINED: "sent what was put aside",
    A.ANALYSIS_REQUESTED: "asked for an analysis",
    A.ANALYSIS_COMPLETED: "analysis done",
    A.ANALYSIS_FAILED: "analysis failed",
    A.ANALYSIS_CANCELLED: "cancelled an analysis",
    A.ANALYSIS_RETRIED: "asked for another try",
    A.FEEDBACK_GIVEN: "gave feedback",
    A.EXPORT_MADE: "exported a study",
    A.PATIENT_REPORT: "made a patient's report",
    A.FEATURE_CHANGED: "switched a feature",
    A.FEATURE_DENIED: "asked for AI that is off",
    A.FEATURE_VIEW: "looked at the features",
    A.PATIENT_OPTED_OUT: "patient's objection recorded",
    A.PATIENT_OPTED_IN: "patient's objection taken back",
    A.OPT_OUTS_VIEW: "looked at the objections",
    A.SETTING_CHANGED: "changed a setting",
    A.SENDER_CHANGED: "changed a sender",
    A.MODEL_CHANGED: "changed a model",
    A.KEY_ROTATED: "rotated a key",
    A.TENANT_CREATED: "hospital made",
    A.TENANT_SUSPENDED: "hospital suspended",
    A.TENANT_RESUMED: "hospital resumed",
    A.TENANT_EXPORTED: "hospital exported",
    A.TENANT_DELETED: "hospital deleted",
    A.USER_CREATED: "made an account",
    A.USER_CHANGED: "changed an account",
    A.USERS_VIEW: "looked at the accounts",
    A.PASSWORD_CHANGED: "changed a password",
    A.TOTP_CHANGED: "changed a second factor",
    A.API_KEY_CREATED: "made an API key",
    A.API_KEY_REVOKED: "revoked an API key",
    A.CUSTODY_REPORTED: "PACS said what it keeps",
    A.OBJECTS_DELETED: "objects deleted",
    A.STUDY_DELETED: "study deleted",
    A.AUDIT_VIEW: "searched this trail",
    A.AUDIT_EXPORTED: "exported this trail",
    A.AUDIT_EXPIRED: "years of this trail dropped",
}


def action_word(action: str) -> str:
    """For a person; a word that is not known here is shown as it is."""
    return WORDS.get(A(action), action) if action in set(A) else action


def details(event: AuditEvent) -> tuple[tuple[str, str], ...]:
    """The facts of a row as names and short texts."""
    shown = []
    for name, value in event.facts.items():
        if value in (None, "", []):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        shown.append((name.replace("_", " "), text if len(text) <= 120 else f"{text[:119]}…"))
    return tuple(shown)
