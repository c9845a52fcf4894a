"""How good a model is at the synthetic world of its training, measured on answers of the service itself.

Trials (``comprehension``, ``creation``, ``interleaving``, ``feedback``) are requests with exact truths, each of which
assesses its answer without knowing where that came from. ``model`` answers them, in this process or over HTTP.
"""
