"""The main job on this machine, with one command: no Docker, no AWS account, no question.

Production code never imports this package.
"""
