"""The queue of image jobs in Redis: who may do what to a job, and nothing about what a job holds.

A job is *open* exactly while its key ``job:<id>`` exists. Whoever deletes that key ends the job, and only one can:
the worker that stores an outcome, the server that cancels, or time, when the server does not renew the key. Every
change is one Lua script, so none is ever half done.
"""
