"""Settings of a deployment, parameters of a run, and the trigger form."""
