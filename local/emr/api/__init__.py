"""The EMR API of the endpoint: actions, and the shapes of their answers."""
