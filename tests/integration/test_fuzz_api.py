"""A few hundred odd requests to every operation of the API; `make prove` sends thousands (benchmarks/fuzz_api.py)."""

from __future__ import annotations

from benchmarks.fuzz_api import administrator, fuzz, problem_of

from overread import bootstrap
from overread.domain.study import TenantId


def test_no_request_breaks_the_api(overread: bootstrap.Overread, tenant: TenantId) -> None:
    app = bootstrap.build_app(overread)
    outcome = fuzz(app, administrator(overread, app, tenant), cases=300, seed=5)
    assert not outcome.problems, "\n".join(outcome.problems[:5])
    assert outcome.cases >= 300 and outcome.operations > 25
    # They are let in, and not all of them are nonsense.
    assert outcome.statuses[401] < outcome.cases * 0.1
    assert sum(n for status, n in outcome.statuses.items() if status < 300) > outcome.cases * 0.1


def test_what_is_a_problem() -> None:
    good = {"error": "x", "code": "X", "timestamp": "now"}
    assert problem_of(500, "application/json", lambda: good) == "status 500"
    assert problem_of(504, "application/json", lambda: good) == "status 504"
    assert problem_of(400, "text/plain", lambda: good) == "an error as text/plain"
    assert problem_of(400, "application/json", lambda: {"error": "x"}) == "an error without code, timestamp"
    assert problem_of(503, "application/json", lambda: good) == ""
    assert problem_of(200, "text/html", lambda: None) == ""
