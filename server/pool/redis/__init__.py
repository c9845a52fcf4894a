"""A pool of workers in other processes, on any number of machines, behind Redis.

``pool.py`` is what a server asks to draw, ``submission.py`` puts its jobs in line, ``replies.py`` hears how they are
getting on, ``census.py`` counts the workers and the line.
"""
