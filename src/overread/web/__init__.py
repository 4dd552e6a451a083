"""Pages for people: server-rendered, live by server-sent events, nothing from other sites."""

from overread.web.docs import router as _docs
from overread.web.login import router as _login
from overread.web.rejected import router as _rejected
from overread.web.study import router as _study
from overread.web.system import router as _system
from overread.web.templates import STATIC, error_page
from overread.web.worklist import router as _worklist

ROUTERS = (_login, _worklist, _study, _rejected, _system, _docs)

__all__ = ["ROUTERS", "STATIC", "error_page"]
