"""Pages for people: server-rendered, live by server-sent events, nothing from other sites."""

from overread.web.account import router as _account
from overread.web.audit import router as _audit
from overread.web.docs import router as _docs
from overread.web.features import router as _features
from overread.web.login import router as _login
from overread.web.patients import router as _patients
from overread.web.privacy import router as _privacy
from overread.web.rejected import router as _rejected
from overread.web.study import router as _study
from overread.web.system import router as _system
from overread.web.templates import STATIC, error_page
from overread.web.users import router as _users
from overread.web.worklist import router as _worklist

ROUTERS = (
    _login,
    _account,
    _users,
    _worklist,
    _study,
    _rejected,
    _features,
    _patients,
    _privacy,
    _audit,
    _system,
    _docs,
)

__all__ = ["ROUTERS", "STATIC", "error_page"]
