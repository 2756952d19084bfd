"""The commands ``make run``, ``make up`` and ``make down``. Production code never imports this package."""
