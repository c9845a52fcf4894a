"""Why a checkpoint cannot be converted."""


class ConversionError(ValueError):
    """The checkpoint is not one that can be converted, or not into this folder. The message tells what is wrong."""
