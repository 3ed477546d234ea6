"""In-order bytes to commands, replies and exchanges. Says what was seen, never what to think of it."""
