"""Documents about the world: what a user asks, and the text and pictures of a good answer.

- :mod:`~models.training.documents.document`: the type that all readers yield, also for real data.
- :mod:`~models.training.documents.wording`: scenes and wishes as text, and back.
- :mod:`~models.training.documents.requests`, :mod:`~models.training.documents.questions`: what users ask; evaluation
  asks the same.
- :mod:`~models.training.documents.mixtures`: the kinds of documents that each stage of training sees.
"""

from models.training.documents.document import Document, Drawn, Piece, Shown, Turn, render
from models.training.documents.mixtures import INSTRUCTIONS, INTERLEAVED, PAIRS, Mixture

__all__ = [
    "INSTRUCTIONS",
    "INTERLEAVED",
    "PAIRS",
    "Document",
    "Drawn",
    "Mixture",
    "Piece",
    "Shown",
    "Turn",
    "render",
]
