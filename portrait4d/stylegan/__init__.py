"""StyleGAN2's networks: mapping, synthesis, super-resolution and discriminator blocks.

Module and parameter names are those of the released checkpoints, so that converting one only copies tensors.
"""
