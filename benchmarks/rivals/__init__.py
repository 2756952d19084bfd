"""What people use instead: each system as its own documentation advises, in an environment of its own."""
