"""The fuzzer: requests to every operation of ``/openapi.json``, most of them broken in one way or three.

Whatever comes, the server answers in time, in the shape that it describes, and with no 5xx but the 503 that says why;
streams end with a last event; and after all of it nothing is left. A request is made from the seed of the run and its
own number, so it can be made again; what it finds is also written down as the bytes that were sent.
"""
