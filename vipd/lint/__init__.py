"""The lint that thinks: what a configuration of several nodes *does*, before anybody runs it.

It answers "if X fails on A, who is master?" for every check, interface and node, not by a formula
of its own but by running the real core of every node (``vipd.core.Node``) together in virtual
time, on a network that loses nothing and kernels that refuse nothing. What it prints is therefore
what the daemons do; where the two differ, one of them has a fault, and a test looks for it.

``members`` reads the files; ``layout`` finds out who shares a network and a virtual router;
``stage`` is the ideal world; ``forecast`` plays the scenarios; ``mismatches`` and ``traps`` say
what is wrong; ``times`` states worst cases; ``report`` and ``render`` show it all.
"""
