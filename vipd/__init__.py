"""vipd: keeps a virtual IP on exactly one healthy load-balancer host."""

__version__ = "0.1.0"
