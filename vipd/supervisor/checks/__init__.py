"""The checks: is what this host shall serve alive?

``board`` holds them all, ``runner`` times one, ``judge`` turns findings into verdicts, the
``probe_*`` modules ask one question each. ``docs/checks.md`` is the operators' reference.
"""
