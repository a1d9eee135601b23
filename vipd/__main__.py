"""``python -m vipd``: the same as the ``vipd`` program."""

from vipd.cli import main

main()
