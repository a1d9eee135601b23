"""``python -m vipd.supervisor``: see ``main``."""

from vipd.supervisor.main import entry

entry()
