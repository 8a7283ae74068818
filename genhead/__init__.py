"""Floor 3: the part-wise 4D head GAN and its training data. Empty of its own parts until its networks land."""

PORTRAIT4D_FLOOR = "genhead"
