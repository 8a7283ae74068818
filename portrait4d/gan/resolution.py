"""The side of the rendered picture, which may grow during training (EG3D, Chan et al. 2022, section 4.4)."""


def neural_resolution(num_images: int, *, initial: int, final: int, fade_images: int, start_images: int = 0) -> int:
    """Side in pixels after `num_images` images: linear from `initial` to `final`, rounded, halves to the even number.

    Args:
        num_images: images seen.
        initial: until `start_images`.
        final: from `start_images + fade_images` on.
        fade_images: length of the change; 0 for none.
        start_images: where the change begins.
    """
    passed = num_images - start_images
    progress = min(max(passed / fade_images, 0.0), 1.0) if fade_images > 0 else float(passed >= 0)
    return round(initial * (1.0 - progress) + final * progress)
