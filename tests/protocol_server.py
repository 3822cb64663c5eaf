"""Starts what the official Engine.IO and Socket.IO protocol suites expect on port 3000.

The suites are in socketio/socket.io under docs/engine.io-protocol/v4-test-suite and
docs/socket.io-protocol/v5-test-suite; run them beside this with `npm ci && npm test`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

SETTINGS = {
    "ping_interval": 0.3,
    "ping_timeout": 0.2,
    "max_message_bytes": 1_000_000,
    "socketio_connect_seconds": 1,
    "socketio_recovery_seconds": 0,
    "access": "open",
}


def main() -> None:
    """Become the server; a port may be given."""
    folder = Path(__file__).resolve().parent
    arguments = [str(folder.parent / "rtapp.py"), "--port", (sys.argv[1:] or ["3000"])[0]]
    arguments += ["--data", tempfile.mkdtemp(), "--app", str(folder / "protocol_handlers.py")]
    for key, value in SETTINGS.items():
        arguments += ["--set", f"{key}={value}"]
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
