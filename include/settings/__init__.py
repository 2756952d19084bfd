"""Settings of a deployment, parameters of a run, and the form that asks for them."""
