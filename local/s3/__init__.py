"""An S3 store on this machine, for runs and tests without an AWS account; production code never imports it."""
