"""The ``vipd`` command: one module per command group. ``main`` turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 no daemon.
"""

from __future__ import annotations

import sys

from vipd.errors import ConfigError, DaemonAbsent, VipdError

FAILED, BAD_CONFIGURATION, NO_DAEMON = 1, 2, 3


def main() -> None:
    """Entry point of the ``vipd`` program."""
    from vipd.cli.app import app

    try:
        app(prog_name="vipd")
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(BAD_CONFIGURATION)
    except DaemonAbsent as error:
        print(f"vipd: {error}", file=sys.stderr)
        sys.exit(NO_DAEMON)
    except VipdError as error:
        print(f"vipd: {error}", file=sys.stderr)
        sys.exit(FAILED)
