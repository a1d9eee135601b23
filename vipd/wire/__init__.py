"""Bytes <-> model: adverts and announcements. Sans-IO, knows nothing of sockets or the core."""
