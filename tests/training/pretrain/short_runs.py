"""How the tests train: just long enough to see that it works."""

from models.training.pretrain.loop import Schedule

SHORT = Schedule(steps=4, learning_rate=1e-3, warmup=1, ema=0.9, save_every=2)
POOL = 64  # pictures encoded at a time
