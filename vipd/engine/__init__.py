"""The engine process: the only real-time part. Standard library only, and nothing that waits."""
