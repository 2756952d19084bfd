"""Deployment to AWS: settings from the stack outputs, the folder for Amazon MWAA."""
