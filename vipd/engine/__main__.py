"""``python -m vipd.engine``: see ``main``."""

from vipd.engine.main import entry

entry()
