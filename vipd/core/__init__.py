"""The pure core: events and instants in, actions out. No clock, socket, randomness or logger."""
