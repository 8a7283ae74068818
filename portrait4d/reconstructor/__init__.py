"""Portrait4D's reconstructor (Deng et al. 2024, section 3.3; v2: Deng et al. 2024b, section 3.1): a photo becomes
tri-planes, neutralised and reenacted by motion codes.

Module and parameter names are those of the released checkpoints, so that converting one is no more than copying.
"""
