"""For each route: what it puts on record, or why nothing. A route that is not here fails the tests.

`Inside`: the route or its service records it, with the study that it concerns; the edge adds what was denied or failed.
`AtEdge`: the edge records it when it is answered. `Nothing`: no patient data and no change, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from overread.domain.audit import AuditAction as A


@dataclass(frozen=True)
class Inside:
    """Recorded where the data is read or changed."""

    action: A


@dataclass(frozen=True)
class AtEdge:
    """Recorded by `http.audit` with the answer."""

    action: A


@dataclass(frozen=True)
class Nothing:
    """Not recorded."""

    because: str


Entry = Inside | AtEdge | Nothing

_NO_DATA: Final = "shows nothing of a patient and changes nothing"

ROUTES: Final[Mapping[tuple[str, str], Entry]] = {
    # log-in
    ("POST", "/api/auth/login"): Inside(A.LOGIN),
    ("GET", "/login"): Nothing("an empty form"),
    ("POST", "/login"): Inside(A.LOGIN),
    ("POST", "/login/code"): Inside(A.LOGIN),
    ("GET", "/login/oidc"): Nothing("only sends on to the identity provider"),
    ("GET", "/login/oidc/callback"): Inside(A.LOGIN),
    ("POST", "/logout"): Inside(A.LOGOUT),
    ("POST", "/api/auth/logout"): Inside(A.LOGOUT),
    ("POST", "/api/auth/logout/everywhere"): Inside(A.SESSION_REVOKED),
    ("POST", "/account/log-out-everywhere"): Inside(A.SESSION_REVOKED),
    ("GET", "/api/auth/session"): Nothing("says only who is logged in and until when"),
    ("POST", "/api/auth/session/used"): Nothing("only says that somebody is there"),
    # accounts
    ("GET", "/account"): Nothing("somebody's own account"),
    ("POST", "/account/password"): Inside(A.PASSWORD_CHANGED),
    ("POST", "/account/second-factor"): Nothing("shows a fresh secret that counts for nothing until it is confirmed"),
    ("POST", "/account/second-factor/confirm"): Inside(A.TOTP_CHANGED),
    ("POST", "/api/auth/password"): Inside(A.PASSWORD_CHANGED),
    ("GET", "/api/users"): AtEdge(A.USERS_VIEW),
    ("POST", "/api/users"): Inside(A.USER_CREATED),
    ("PATCH", "/api/users/{userId}"): Inside(A.USER_CHANGED),
    ("POST", "/api/users/{userId}/password"): Inside(A.PASSWORD_CHANGED),
    ("DELETE", "/api/users/{userId}/second-factor"): Inside(A.TOTP_CHANGED),
    ("DELETE", "/api/users/{userId}/sessions"): Inside(A.SESSION_REVOKED),
    ("GET", "/admin/users"): AtEdge(A.USERS_VIEW),
    ("POST", "/admin/users"): Inside(A.USER_CREATED),
    ("POST", "/admin/users/{user_id}/disabled"): Inside(A.USER_CHANGED),
    ("POST", "/admin/users/{user_id}/password"): Inside(A.PASSWORD_CHANGED),
    ("POST", "/admin/users/{user_id}/role"): Inside(A.USER_CHANGED),
    ("POST", "/admin/users/{user_id}/second-factor"): Inside(A.TOTP_CHANGED),
    ("POST", "/admin/users/{user_id}/sessions"): Inside(A.SESSION_REVOKED),
    ("GET", "/api/api-keys"): AtEdge(A.USERS_VIEW),
    ("POST", "/api/api-keys"): Inside(A.API_KEY_CREATED),
    ("DELETE", "/api/api-keys/{keyId}"): Inside(A.API_KEY_REVOKED),
    # lists
    ("GET", "/"): AtEdge(A.WORKLIST_VIEW),
    ("POST", "/"): AtEdge(A.WORKLIST_VIEW),
    ("POST", "/worklist/rows"): AtEdge(A.WORKLIST_VIEW),
    ("GET", "/worklist"): Nothing("only sends on to the worklist"),
    ("GET", "/worklist/rows"): AtEdge(A.WORKLIST_VIEW),
    ("GET", "/api/image-analysis"): AtEdge(A.WORKLIST_VIEW),
    ("POST", "/api/image-analysis/search"): AtEdge(A.WORKLIST_VIEW),
    ("GET", "/api/studies"): AtEdge(A.WORKLIST_VIEW),
    ("POST", "/api/studies/search"): AtEdge(A.WORKLIST_VIEW),
    ("GET", "/rejected"): AtEdge(A.REJECTED_VIEW),
    # studies
    ("POST", "/api/studies"): Inside(A.UPLOAD),
    ("GET", "/api/studies/{studyId}"): Inside(A.STUDY_VIEW),
    ("GET", "/api/studies/{studyId}/instances/{sopInstanceUid}/image.png"): Inside(A.IMAGE_VIEW),
    ("GET", "/studies/{study_id}"): Inside(A.STUDY_VIEW),
    ("GET", "/studies/{study_id}/stage"): Inside(A.STUDY_VIEW),
    ("POST", "/studies/{study_id}/analyse"): Inside(A.ANALYSIS_REQUESTED),
    # analyses
    ("POST", "/api/image-analysis"): Inside(A.ANALYSIS_REQUESTED),
    ("GET", "/api/image-analysis/{analysisId}"): Inside(A.ANALYSIS_VIEW),
    ("DELETE", "/api/image-analysis/{analysisId}"): Inside(A.ANALYSIS_CANCELLED),
    ("POST", "/api/image-analysis/{analysisId}/retry"): Inside(A.ANALYSIS_RETRIED),
    ("GET", "/api/image-analysis/{analysisId}/sr"): Inside(A.SR_DOWNLOAD),
    ("GET", "/api/image-analysis/{analysisId}/seg"): Inside(A.SEG_DOWNLOAD),
    ("GET", "/api/image-analysis/{analysisId}/outlines"): Inside(A.OUTLINES_VIEW),
    ("POST", "/analyses/{analysis_id}/retry"): Inside(A.ANALYSIS_RETRIED),
    ("POST", "/analyses/{analysis_id}/cancel"): Inside(A.ANALYSIS_CANCELLED),
    # features, patients
    ("GET", "/api/ai-features"): AtEdge(A.FEATURE_VIEW),
    ("GET", "/api/ai-features/audit-log"): AtEdge(A.FEATURE_VIEW),
    ("PUT", "/api/ai-features/{featureKey}"): Inside(A.FEATURE_CHANGED),
    ("GET", "/admin/features"): AtEdge(A.FEATURE_VIEW),
    ("POST", "/admin/features"): Inside(A.FEATURE_CHANGED),
    ("GET", "/api/opt-outs"): Inside(A.OPT_OUTS_VIEW),
    ("POST", "/api/opt-outs"): Inside(A.PATIENT_OPTED_OUT),
    ("POST", "/api/opt-outs/find"): AtEdge(A.OPT_OUTS_VIEW),
    ("POST", "/api/opt-outs/{optOutId}/removal"): Inside(A.PATIENT_OPTED_IN),
    ("POST", "/api/patients/access-report"): Inside(A.PATIENT_REPORT),
    ("GET", "/admin/patients"): Inside(A.OPT_OUTS_VIEW),
    ("POST", "/admin/patients"): Inside(A.PATIENT_OPTED_OUT),
    ("POST", "/admin/patients/{opt_out}/removal"): Inside(A.PATIENT_OPTED_IN),
    ("POST", "/admin/patients/report"): Inside(A.PATIENT_REPORT),
    ("POST", "/api/studies/{studyId}/export"): Inside(A.EXPORT_MADE),
    # the trail itself
    ("GET", "/api/audit"): Inside(A.AUDIT_VIEW),
    ("POST", "/api/audit/search"): Inside(A.AUDIT_VIEW),
    ("GET", "/admin/audit"): Inside(A.AUDIT_VIEW),
    ("POST", "/admin/audit/patient"): Inside(A.AUDIT_VIEW),
    ("POST", "/admin/audit/export"): Inside(A.AUDIT_EXPORTED),
    # the rest
    ("GET", "/system"): AtEdge(A.SYSTEM_VIEW),
    ("GET", "/api/events"): Nothing("ids only; what a page then fetches is recorded"),
    ("GET", "/privacy"): Nothing(_NO_DATA),
    ("GET", "/docs"): Nothing(_NO_DATA),
    ("GET", "/openapi.json"): Nothing(_NO_DATA),
    ("GET", "/healthz"): Nothing(_NO_DATA),
    ("GET", "/readyz"): Nothing(_NO_DATA),
}


def entry_of(scope: Scope) -> Entry | None:
    """Of the route that a request came to; None where there is none."""
    path = getattr(scope.get("route"), "path", None)
    method = "GET" if scope.get("method") == "HEAD" else scope.get("method", "")
    return ROUTES.get((method, path)) if path is not None else None
