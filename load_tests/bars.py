"""Goals, as every benchmark here prints them: ``bar NAME VALUE GOAL met|missed``."""


def at_least(name: str, value: float, goal: float) -> bool:
    """A goal that is met from ``goal`` upwards. Returns whether it is."""
    return _print(name, value, goal, value >= goal)


def at_most(name: str, value: float, goal: float) -> bool:
    """A goal that is met up to ``goal``. Returns whether it is."""
    return _print(name, value, goal, value <= goal)


def _print(name: str, value: float, goal: float, met: bool) -> bool:
    print(f"bar {name} {value:.3f} {goal:.3f} {'met' if met else 'missed'}", flush=True)
    return met
