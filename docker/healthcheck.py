#!/usr/bin/env -S python3 -I
"""`healthcheck PORT PATH`: fails, and says why, unless this container answers there with status 200."""

import sys
from http.client import HTTPConnection, HTTPException

port, path = sys.argv[1:]
try:
    connection = HTTPConnection("127.0.0.1", int(port), timeout=4)
    connection.request("GET", path)
    response = connection.getresponse()
    reason = response.read().decode()
except (OSError, HTTPException) as error:
    sys.exit(f"no answer: {error!r}")
if response.status != 200:
    sys.exit(f"{response.status}: {reason}")
