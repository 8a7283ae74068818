"""EG3D (Chan et al. 2022): a tri-plane GAN, and the core that GenHead and Portrait4D share."""
