"""Each route of the application, who may call it, and how it is called: a new one without its row fails the tests.

tests/unit/test_http_access.py walks it on fakes, tests/integration/test_every_route.py on the real database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI

from overread.services.access import Role

ALL = frozenset(Role)
CLINICAL = frozenset({Role.RADIOLOGIST, Role.TECHNICIAN, Role.ADMIN, Role.SERVICE})
SYSTEM = frozenset({Role.ADMIN, Role.OPERATOR})
ADMIN = frozenset({Role.ADMIN})
OBJECTIONS = frozenset({Role.ADMIN, Role.TECHNICIAN})


@dataclass(frozen=True)
class Scene:
    """What there is in tenant alpha when a route is tried."""

    study_uid: str
    study: UUID
    completed: UUID
    pending: UUID
    failed: UUID
    sop: str
    #: An objection of a patient who has no study here.
    opt_out: UUID
    #: Somebody who is a radiologist here, and an API key.
    user: UUID
    key: str


@dataclass(frozen=True)
class Route:
    method: str
    #: As FastAPI has it.
    template: str
    #: The address in a scene.
    path: Callable[[Scene], str]
    roles: frozenset[Role]
    good: int = 200
    #: What another tenant's member gets: not found, or simply their own, empty list.
    foreign: int = 404
    body: Callable[[Scene], dict[str, object]] | None = None
    #: Fields of an HTML form, in place of a JSON body.
    form: Callable[[Scene], dict[str, str]] | None = None
    #: False: not called with a right token by the tests that walk this table (a stream without end, a file to send).
    called: bool = True


ROUTES = [
    Route("GET", "/api/image-analysis", lambda s: "/api/image-analysis", CLINICAL, foreign=200),
    Route(
        "POST",
        "/api/image-analysis",
        lambda s: "/api/image-analysis",
        CLINICAL,
        good=202,
        body=lambda s: {"studyId": s.study_uid, "modality": "X-ray", "patientId": "P-1"},
    ),
    Route("GET", "/api/image-analysis/{analysisId}", lambda s: f"/api/image-analysis/{s.completed}", CLINICAL),
    Route("DELETE", "/api/image-analysis/{analysisId}", lambda s: f"/api/image-analysis/{s.pending}", CLINICAL),
    Route(
        "POST", "/api/image-analysis/{analysisId}/retry", lambda s: f"/api/image-analysis/{s.failed}/retry", CLINICAL
    ),
    Route("GET", "/api/image-analysis/{analysisId}/sr", lambda s: f"/api/image-analysis/{s.completed}/sr", CLINICAL),
    Route("GET", "/api/image-analysis/{analysisId}/seg", lambda s: f"/api/image-analysis/{s.completed}/seg", CLINICAL),
    Route(
        "GET",
        "/api/image-analysis/{analysisId}/outlines",
        lambda s: f"/api/image-analysis/{s.completed}/outlines?sopInstanceUid={s.sop}",
        CLINICAL,
    ),
    Route("GET", "/api/studies", lambda s: "/api/studies", CLINICAL, foreign=200),
    Route(
        "POST",
        "/api/studies/search",
        lambda s: "/api/studies/search",
        CLINICAL,
        foreign=200,
        body=lambda s: {"patientId": "P-1"},
    ),
    Route(
        "POST",
        "/api/image-analysis/search",
        lambda s: "/api/image-analysis/search",
        CLINICAL,
        foreign=200,
        body=lambda s: {"patientId": "P-1"},
    ),
    Route("GET", "/api/studies/{studyId}", lambda s: f"/api/studies/{s.study_uid}", CLINICAL),
    Route(
        "GET",
        "/api/studies/{studyId}/instances/{sopInstanceUid}/image.png",
        lambda s: f"/api/studies/{s.study}/instances/{s.sop}/image.png?boxes=all",
        CLINICAL,
    ),
    Route("POST", "/api/studies/{studyId}/export", lambda s: f"/api/studies/{s.study_uid}/export", ADMIN),
    Route("GET", "/studies/{study_id}", lambda s: f"/studies/{s.study_uid}", CLINICAL),
    Route(
        "GET",
        "/studies/{study_id}/stage",
        lambda s: f"/studies/{s.study_uid}/stage?instance={s.sop}&analysis={s.completed}",
        CLINICAL,
    ),
    Route("GET", "/worklist/rows", lambda s: "/worklist/rows", CLINICAL, foreign=200),
    Route("POST", "/worklist/rows", lambda s: "/worklist/rows", CLINICAL, foreign=200),
    Route("POST", "/analyses/{analysis_id}/retry", lambda s: f"/analyses/{s.failed}/retry", CLINICAL, good=303),
    Route("POST", "/analyses/{analysis_id}/cancel", lambda s: f"/analyses/{s.pending}/cancel", CLINICAL, good=303),
    Route("POST", "/studies/{study_id}/analyse", lambda s: f"/studies/{s.study_uid}/analyse", CLINICAL, good=303),
    Route("GET", "/api/ai-features", lambda s: "/api/ai-features", CLINICAL, foreign=200),
    Route("GET", "/api/ai-features/audit-log", lambda s: "/api/ai-features/audit-log", ADMIN, foreign=200),
    Route(
        "PUT",
        "/api/ai-features/{featureKey}",
        lambda s: "/api/ai-features/quality_assessment",
        ADMIN,
        foreign=200,
        body=lambda s: {"enabled": False, "modality": "CT", "reason": "tried"},
    ),
    Route("GET", "/admin/features", lambda s: "/admin/features", ADMIN, foreign=200),
    # Without its fields: the form comes back and says so.
    Route("POST", "/admin/features", lambda s: "/admin/features", ADMIN, good=400, foreign=400),
    Route("GET", "/api/opt-outs", lambda s: "/api/opt-outs", OBJECTIONS, foreign=200),
    Route(
        "POST",
        "/api/opt-outs",
        lambda s: "/api/opt-outs",
        OBJECTIONS,
        good=201,
        foreign=201,
        body=lambda s: {"patientId": f"Q-{uuid4()}", "reason": "told the ward"},
    ),
    Route(
        "POST",
        "/api/opt-outs/find",
        lambda s: "/api/opt-outs/find",
        OBJECTIONS,
        foreign=200,
        body=lambda s: {"patientId": "P-1"},
    ),
    Route(
        "POST",
        "/api/opt-outs/{optOutId}/removal",
        lambda s: f"/api/opt-outs/{s.opt_out}/removal",
        OBJECTIONS,
        body=lambda s: {"reason": "changed their mind"},
    ),
    Route("GET", "/admin/patients", lambda s: "/admin/patients", OBJECTIONS, foreign=200),
    Route("POST", "/admin/patients", lambda s: "/admin/patients", OBJECTIONS, good=400, foreign=400),
    Route(
        "POST",
        "/admin/patients/{opt_out}/removal",
        lambda s: f"/admin/patients/{s.opt_out}/removal",
        OBJECTIONS,
        good=400,
        foreign=400,
    ),
    Route(
        "POST",
        "/api/patients/access-report",
        lambda s: "/api/patients/access-report",
        ADMIN,
        foreign=200,
        body=lambda s: {"patientId": "P-1"},
    ),
    Route("POST", "/admin/patients/report", lambda s: "/admin/patients/report", ADMIN, good=400, foreign=400),
    Route("GET", "/rejected", lambda s: "/rejected", frozenset({Role.ADMIN}), foreign=200),
    Route("GET", "/api/audit", lambda s: "/api/audit?action=study.view", ADMIN, foreign=200),
    Route(
        "POST",
        "/api/audit/search",
        lambda s: "/api/audit/search",
        ADMIN,
        foreign=200,
        body=lambda s: {"patientId": "P-1"},
    ),
    Route("GET", "/admin/audit", lambda s: "/admin/audit", ADMIN, foreign=200),
    # Without its field.
    Route("POST", "/admin/audit/patient", lambda s: "/admin/audit/patient", ADMIN, good=400, foreign=400),
    Route("POST", "/admin/audit/export", lambda s: "/admin/audit/export", ADMIN, foreign=200),
    Route("GET", "/system", lambda s: "/system", SYSTEM, foreign=200),
    Route("POST", "/logout", lambda s: "/logout", ALL, good=303, foreign=303),
    Route("POST", "/api/studies", lambda s: "/api/studies", CLINICAL, called=False),
    # Whoever sees no patients is sent on to /system.
    Route("GET", "/", lambda s: "/", ALL, called=False),
    Route("POST", "/", lambda s: "/", ALL, good=303, foreign=303),
    Route("GET", "/api/events", lambda s: "/api/events", CLINICAL, called=False),
    Route("GET", "/api/auth/session", lambda s: "/api/auth/session", ALL, foreign=200),
    Route("POST", "/api/auth/session/used", lambda s: "/api/auth/session/used", ALL, foreign=200),
    Route("POST", "/api/auth/logout", lambda s: "/api/auth/logout", ALL, good=204, foreign=204),
    Route("POST", "/api/auth/logout/everywhere", lambda s: "/api/auth/logout/everywhere", ALL, good=204, foreign=204),
    Route(
        "POST",
        "/api/auth/password",
        lambda s: "/api/auth/password",
        ALL,
        good=400,
        foreign=400,
        body=lambda s: {"password": "not the present one", "newPassword": "another long password"},
    ),
    Route("GET", "/api/users", lambda s: "/api/users", ADMIN, foreign=200),
    Route(
        "POST",
        "/api/users",
        lambda s: "/api/users",
        ADMIN,
        good=201,
        foreign=201,
        body=lambda s: {"name": f"new-{uuid4()}", "role": "technician"},
    ),
    Route(
        "PATCH",
        "/api/users/{userId}",
        lambda s: f"/api/users/{s.user}",
        ADMIN,
        good=204,
        body=lambda s: {"role": "technician", "disabled": True},
    ),
    Route("POST", "/api/users/{userId}/password", lambda s: f"/api/users/{s.user}/password", ADMIN),
    Route("DELETE", "/api/users/{userId}/second-factor", lambda s: f"/api/users/{s.user}/second-factor", ADMIN, 204),
    Route("DELETE", "/api/users/{userId}/sessions", lambda s: f"/api/users/{s.user}/sessions", ADMIN, 204),
    Route("GET", "/api/api-keys", lambda s: "/api/api-keys", ADMIN, foreign=200),
    Route(
        "POST",
        "/api/api-keys",
        lambda s: "/api/api-keys",
        ADMIN,
        good=201,
        foreign=201,
        body=lambda s: {"name": f"key {uuid4()}"},
    ),
    Route("DELETE", "/api/api-keys/{keyId}", lambda s: f"/api/api-keys/{s.key}", ADMIN, 204),
    Route("GET", "/account", lambda s: "/account", ALL, foreign=200),
    Route("POST", "/account/password", lambda s: "/account/password", ALL, good=400, foreign=400),
    Route("POST", "/account/second-factor", lambda s: "/account/second-factor", ALL, good=400, foreign=400),
    Route(
        "POST",
        "/account/second-factor/confirm",
        lambda s: "/account/second-factor/confirm",
        ALL,
        good=400,
        foreign=400,
    ),
    Route("POST", "/account/log-out-everywhere", lambda s: "/account/log-out-everywhere", ALL, good=303, foreign=303),
    Route("GET", "/admin/users", lambda s: "/admin/users", ADMIN, foreign=200),
    Route("POST", "/admin/users", lambda s: "/admin/users", ADMIN, good=400, foreign=400),
    Route(
        "POST",
        "/admin/users/{user_id}/role",
        lambda s: f"/admin/users/{s.user}/role",
        ADMIN,
        good=400,
        foreign=400,
    ),
    Route("POST", "/admin/users/{user_id}/disabled", lambda s: f"/admin/users/{s.user}/disabled", ADMIN, good=303),
    Route("POST", "/admin/users/{user_id}/password", lambda s: f"/admin/users/{s.user}/password", ADMIN),
    Route("POST", "/admin/users/{user_id}/second-factor", lambda s: f"/admin/users/{s.user}/second-factor", ADMIN, 303),
    Route("POST", "/admin/users/{user_id}/sessions", lambda s: f"/admin/users/{s.user}/sessions", ADMIN, good=303),
]
#: Need no log-in and show nothing of any hospital.
PUBLIC = {
    ("POST", "/api/auth/login"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/login/code"),
    ("GET", "/login/oidc"),
    ("GET", "/login/oidc/callback"),
    ("GET", "/docs"),
    ("GET", "/privacy"),
    ("GET", "/openapi.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    # Only sends on to "/".
    ("GET", "/worklist"),
}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """(method, template) of all that the application answers, pages too; raises if OpenAPI knows one more."""
    found: set[tuple[str, str]] = set()

    def walk(routes: Iterable[Any]) -> None:
        for route in routes:
            if (inner := getattr(route, "original_router", None)) is not None:
                walk(inner.routes)
            elif methods := getattr(route, "methods", None):
                found.update((method, route.path) for method in methods - {"HEAD"})
            else:
                assert route.path == "/static", f"{route} is neither a route nor static files"

    walk(app.routes)
    described = {(m.upper(), path) for path, operations in app.openapi()["paths"].items() for m in operations}
    assert described <= found
    return found
