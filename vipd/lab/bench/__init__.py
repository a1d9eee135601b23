"""Measurements of vipd beside keepalived: see ``__main__``."""
