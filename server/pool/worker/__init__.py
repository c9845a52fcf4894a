"""A worker: takes image jobs from Redis as its engine has room for them, draws them, and tells of them.

``worker.py`` runs it, ``executor.py`` takes one job from the queue to its end, ``settlement.py`` tells Redis how it
ended, ``leases.py`` keeps what is held; ``process.py`` and ``command.py`` are the process around it.
"""
