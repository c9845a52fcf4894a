"""How many GPUs a load needs: a discrete-event simulation of servers and workers, fed with measured times."""
