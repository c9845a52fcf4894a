"""Property tests that never fail on time: the machine may be busy with something else."""

from hypothesis import HealthCheck, settings

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
