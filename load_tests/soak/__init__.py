"""The soak: mixed traffic for half an hour, and then nothing is left of it.

Callers come by a Poisson process at 80 % of what the service was just measured to answer. They use all surfaces; some
leave in the middle, cancel, send nonsense, or read too slowly. Every five minutes they pause, and what the service
holds when it has come to rest is written down: no document, no request, no image job, no key, no task and no file
descriptor may be left, and no process may have grown by more than 2 % since the first of these pauses.

What fills once and stays, such as vLLM's KV cache and its cache of pictures, is set so small that it is full by then,
and what is stored is kept for a minute.
"""
