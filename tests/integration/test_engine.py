"""The embedded server when the state folder it belonged to is gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from overread.domain.errors import SetupError
from overread.store.engine import EmbeddedPostgres

pytestmark = pytest.mark.embedded_only


@pytest.fixture
def left_behind(tmp_path: Path) -> Iterator[Path]:
    """A state folder whose database was made with a secret that is lost."""
    state = tmp_path / "state"
    state.mkdir()
    earlier = EmbeddedPostgres(state, "the earlier password")
    earlier.start()
    earlier.ensure_database()
    earlier.stop()
    yield state
    for folder in [*earlier.data.parent.parent.glob(f"{earlier.data.parent.name}.*"), earlier.data.parent]:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_new_installation_sets_the_old_database_aside(left_behind: Path) -> None:
    server = EmbeddedPostgres(left_behind, "another password")
    server.start()
    try:
        server.ensure_database()
        with psycopg.connect(server.url, password="another password") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        (aside,) = server.data.parent.parent.glob(f"{server.data.parent.name}.*")
        assert (aside / "data" / "PG_VERSION").exists()  # nothing of it is lost
    finally:
        server.stop()


def test_objects_without_their_secret_are_told(left_behind: Path) -> None:
    (left_behind / "objects").mkdir()
    server = EmbeddedPostgres(left_behind, "another password")
    with pytest.raises(SetupError, match=r"another secret\.key"):
        server.start()
    assert server.pid is None and (server.data / "PG_VERSION").exists()
