"""Odd requests to every operation of the API, made from its own OpenAPI description (schemathesis).

    python -m benchmarks.fuzz_api --cases 2000 --report docs/reference/api-fuzz.md

Nothing may answer with a status of 500 or more but 503, which the description declares; every error has the
specification's form. Each case comes with a fresh log-in of an administrator, who may do the most.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import schemathesis
from fastapi import FastAPI

from overread import bootstrap
from overread.config import Settings
from overread.domain.ids import uuid7
from overread.domain.study import TenantId
from overread.services.access import Means, hash_password
from overread.services.values import UserRow
from overread.store import migrate, roles

#: Never ends.
ENDLESS = "/api/events"


@dataclass
class Outcome:
    """What came back."""

    seed: int
    operations: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    #: Operations with the statuses that each of them answered.
    by_operation: dict[str, collections.Counter[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """How many requests were sent."""
        return self.statuses.total()


def problem_of(status: int, content_type: str, body: Callable[[], Any]) -> str:
    """What is wrong with an answer; "" if nothing is."""
    if status >= 500 and status != 503:
        return f"status {status}"
    if status < 400:
        return ""
    if not content_type.startswith("application/json"):
        return f"an error as {content_type or 'nothing'}"
    missing = {"error", "code", "timestamp"} - set(body())
    return f"an error without {', '.join(sorted(missing))}" if missing else ""


def fuzz(app: FastAPI, log_in: Callable[[], dict[str, str]], *, cases: int, seed: int) -> Outcome:
    """Send about `cases` requests, spread evenly over the operations."""
    outcome = Outcome(seed=seed)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app).exclude(path=ENDLESS)
    operations = [result.ok() for result in schema.get_all_operations()]
    outcome.operations = len(operations)
    # Some take no parameters and are asked once a round: further rounds, with other seeds, make the number full.
    for turn in range(20):
        missing = cases - outcome.cases
        if missing <= 0:
            break
        for operation in operations:
            each = max(1, -(-missing // len(operations)))
            _try(operation, seed=seed + turn, max_examples=each, log_in=log_in, outcome=outcome)
    return outcome


def _try(
    operation: Any, *, seed: int, max_examples: int, log_in: Callable[[], dict[str, str]], outcome: Outcome
) -> None:
    name = f"{operation.method.upper()} {operation.path}"
    seen = outcome.by_operation.setdefault(name, collections.Counter())

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def one(case: Any) -> None:
        answer = case.call(headers=log_in())
        seen[answer.status_code] += 1
        outcome.statuses[answer.status_code] += 1
        content_type = (answer.headers.get("content-type") or [""])[0]
        problem = problem_of(answer.status_code, content_type, answer.json)
        if problem:
            outcome.problems.append(f"{name}: {problem}; again with {case.as_curl_command()}")

    one()


def administrator(overread: bootstrap.Overread, app: FastAPI, tenant: TenantId) -> Callable[[], dict[str, str]]:
    """Makes an account and gives the headers of a fresh log-in each time (without argon2, slow on purpose)."""
    user = UserRow(
        id=uuid7(),
        tenant=tenant,
        name="fuzzer",
        display_name="Fuzzer",
        role="admin",
        password_hash=hash_password("never used to log in"),
        disabled=False,
    )
    with overread.database.unit(tenant) as unit:
        unit.users.add(user)
    access = app.state.services.access

    def log_in() -> dict[str, str]:
        token = access._issue(access.accounts.named(tenant, "fuzzer"), Means.TOKEN).token
        return {"Authorization": f"Bearer {token}", "X-Tenant-ID": tenant.slug}

    return log_in


def report(outcome: Outcome) -> str:
    """Markdown."""
    lines = [
        "# Odd requests to the API",
        "",
        "`python -m benchmarks.fuzz_api` (part of `make prove`): requests that schemathesis makes from the",
        "application's OpenAPI description, as an administrator, on the real database. Required: no status of 500 or",
        "more but a 503, and the specification's form for every error.",
        "",
        f"{outcome.cases} requests to {outcome.operations} operations, seed {outcome.seed}: "
        f"**{len(outcome.problems)} problems**. Statuses: "
        + ", ".join(f"{status} × {n}" for status, n in sorted(outcome.statuses.items()))
        + ".",
        "",
        "| operation | answers |",
        "| --- | --- |",
    ]
    lines += [
        f"| `{name}` | {', '.join(f'{status} × {n}' for status, n in sorted(seen.items()))} |"
        for name, seen in outcome.by_operation.items()
    ]
    lines += ["", *(f"- {problem}" for problem in outcome.problems)] if outcome.problems else []
    return "\n".join(lines) + "\n"


def main() -> int:
    """An installation of its own, then the requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overread-fuzz-") as folder:
        settings = Settings(state=Path(folder) / "state", _env_file=None)  # type: ignore[call-arg]
        server = bootstrap.embedded(settings)
        server.start()
        try:
            server.ensure_database()
            engine = migrate.owner_engine(server.url, roles.password(settings.secret(), "owner"))
            migrate.ensure(engine, settings.secret())
            tenant = TenantId(slug="demo")
            migrate.create_tenant(engine, settings.secret(), tenant, "Demo")
            engine.dispose()
            overread = bootstrap.build(settings)
            app = bootstrap.build_app(overread)
            outcome = fuzz(app, administrator(overread, app, tenant), cases=arguments.cases, seed=arguments.seed)
            overread.close()
        finally:
            server.destroy()
    text = report(outcome)
    if arguments.report:
        arguments.report.write_text(text)
    print(text)
    return 1 if outcome.problems or outcome.cases < arguments.cases else 0


if __name__ == "__main__":
    sys.exit(main())
