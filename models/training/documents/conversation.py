"""Documents without pictures."""

import random

from models.training.documents.document import Document
from models.training.documents.wording import listed
from models.training.world import BACKGROUNDS, COLORS, KINDS, SIZES

THINGS = listed([f"{kind}s" for kind in KINDS])
GREETING = f"Hello! I can draw {THINGS}. Ask me for a picture or a story."
EXCHANGES = (
    ("Hello.", GREETING),
    ("Hi!", GREETING),
    ("Who are you?", "I am a tiny DreamLLM. I write text and draw pictures of shapes."),
    ("What can you do?", f"I can draw {THINGS}, tell stories in pictures and answer questions about pictures."),
    ("What colors do you know?", f"I know {listed(list(COLORS))}."),
    ("What sizes do you know?", f"I know {listed(list(SIZES))}."),
    ("What shapes do you know?", f"I know {THINGS}."),
    ("What backgrounds do you know?", f"I know {listed(list(BACKGROUNDS))}."),
    ("How many shapes can you draw?", "I can draw one, two or three shapes in a picture."),
    ("Thank you.", "You are welcome."),
    ("Goodbye.", "Goodbye!"),
)


def conversation(rng: random.Random) -> Document:
    """Text alone."""
    asked, answer = rng.choice(EXCHANGES)
    return Document((asked,), (answer,))
