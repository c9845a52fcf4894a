"""How far a pool grows: more workers, and what Redis can carry. Nothing is drawn: what draws sleeps."""
