"""DreamServe: speaks HTTP, decides, streams. The model itself lives in ``models``."""
