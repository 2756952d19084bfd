"""How a step runs on this machine."""
