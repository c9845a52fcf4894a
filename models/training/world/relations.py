"""Relations between two shapes of a scene."""

from models.training.world.scene import PLACES, SIZES, Shape, inside

RELATIONS = ("left of", "above", "inside", "bigger than")


def holds(relation: str, first: Shape, second: Shape) -> bool:
    """Whether a relation holds from the first shape to the second.

    Raises:
        ValueError: there is no such relation.
    """
    (first_x, first_y), (second_x, second_y) = PLACES[first.place], PLACES[second.place]
    match relation:
        case "left of":
            return first_x < second_x
        case "above":
            return first_y < second_y
        case "inside":
            return inside(first, second)
        case "bigger than":
            return SIZES[first.size] > SIZES[second.size]
        case _:
            raise ValueError(f"no relation {relation!r}")


# Size and place of both shapes in the one picture that a request by relation stands for.
LAYOUTS: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "left of": (("big", "left"), ("big", "right")),
    "above": (("big", "top"), ("big", "bottom")),
    "inside": (("small", "center"), ("huge", "center")),
    "bigger than": (("huge", "left"), ("small", "right")),
}


def related(relation: str, first: tuple[str, str], second: tuple[str, str]) -> tuple[Shape, Shape]:
    """Two shapes, each given by colour and kind, in the layout of a relation."""
    (color, kind), (other_color, other_kind) = first, second
    (size, place), (other_size, other_place) = LAYOUTS[relation]
    return Shape(kind, color, size, place), Shape(other_kind, other_color, other_size, other_place)
