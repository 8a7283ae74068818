"""Floor 3: the part-wise 4D head GAN (GenHead), its training and its data."""

PORTRAIT4D_FLOOR = "genhead"
