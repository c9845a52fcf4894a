"""Where the time goes: flame graphs of the two hottest paths, and what a UNet call asks of a chip."""
