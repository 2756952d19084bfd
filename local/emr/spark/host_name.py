"""Java on a machine whose own host name does not resolve.

Spark asks Java for the local host whenever AWS keys are in the environment, and fails if its name has no address
(``SparkHadoopUtil.appendS3CredentialsFromEnvironment``). ``SPARK_LOCAL_HOSTNAME`` and ``SPARK_LOCAL_IP`` do not change
that question, so Java gets its own file of host names.
"""

from __future__ import annotations

import socket
from pathlib import Path

SYSTEM_HOSTS = Path("/etc/hosts")


def name_environment(folder: Path) -> dict[str, str]:
    """Return the environment variables with which Java resolves this machine's name; none if it resolves anyway.

    With them, Java resolves only the names in a file: those of ``/etc/hosts``, and this machine's.

    Parameters
    ----------
    folder : Path
        Where to write the file.
    """
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        hosts = folder / "hosts"
        known = SYSTEM_HOSTS.read_text(encoding="utf-8", errors="replace") if SYSTEM_HOSTS.exists() else ""
        hosts.write_text(f"{known}\n127.0.0.1 localhost {name}\n", encoding="utf-8")
        return {"JDK_JAVA_OPTIONS": f'"-Djdk.net.hosts.file={hosts}"'}
    return {}
