"""Portrait4D's reconstructor: a photo becomes tri-planes, neutralised and reenacted by motion codes.

Deng et al. 2024, section 3.3; v2: Deng et al. 2024b, section 3.1.
Module and parameter names are those of the released checkpoints, so that converting one only copies tensors.
"""
