"""What it costs to show the model its own pictures, and another way to do it."""
