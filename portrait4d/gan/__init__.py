"""Adversarial training of 3D generators: discriminator, losses, regularisers, schedules, averaged weights."""
