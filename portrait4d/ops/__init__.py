"""Operations that StyleGAN networks need beyond torch's own; plain torch, differentiable twice."""
