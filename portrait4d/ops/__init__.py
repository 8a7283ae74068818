"""The few operations that StyleGAN networks need beyond torch's own; plain torch, differentiable twice."""
