"""``python -m …hanging``: one that never ends."""

import threading

threading.Event().wait()
