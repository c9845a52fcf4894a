"""Pictures that answers link to: kept for a while, in memory, in Redis, or wherever fsspec can write."""
