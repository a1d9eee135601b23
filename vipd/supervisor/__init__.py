"""The supervisor process: everything that may wait. It guards the engine, and the engine it."""
