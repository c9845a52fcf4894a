"""Goals, as every benchmark here prints them: ``bar NAME VALUE GOAL met|missed``."""


def at_least(name: str, value: float, goal: float) -> None:
    """A goal that is met from ``goal`` upwards."""
    _print(name, value, goal, value >= goal)


def at_most(name: str, value: float, goal: float) -> None:
    """A goal that is met up to ``goal``."""
    _print(name, value, goal, value <= goal)


def _print(name: str, value: float, goal: float, met: bool) -> None:
    print(f"bar {name} {value:.3f} {goal:.3f} {'met' if met else 'missed'}", flush=True)
