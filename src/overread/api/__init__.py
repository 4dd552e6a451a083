"""The REST API: one router a resource."""

from overread.api.analyses import router as _analyses
from overread.api.api_keys import router as _api_keys
from overread.api.audit import router as _audit
from overread.api.events import router as _events
from overread.api.exports import router as _exports
from overread.api.features import router as _features
from overread.api.health import router as _health
from overread.api.images import router as _images
from overread.api.login import router as _login
from overread.api.optouts import router as _optouts
from overread.api.outlines import router as _outlines
from overread.api.studies import router as _studies
from overread.api.uploads import router as _uploads
from overread.api.users import router as _users

ROUTERS = (
    _login,
    _users,
    _api_keys,
    _analyses,
    _outlines,
    _uploads,
    _studies,
    _images,
    _exports,
    _events,
    _features,
    _optouts,
    _audit,
    _health,
)

__all__ = ["ROUTERS"]
