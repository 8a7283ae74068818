"""One scene from posed pictures: tri-planes and decoder optimised directly, without a GAN."""
