"""`portrait4d train`: the reconstructor learns, from synthesised subjects or from clips."""

from portrait4d.cli.console import Telling
from portrait4d.cli.training import ConfigOption, RunOption, SettingsArgument, TrainOptions, run_training_command


def train(
    settings: SettingsArgument = None,
    *,
    config: ConfigOption = None,
    output: RunOption = None,
    options: TrainOptions,
    tell: Telling,
) -> None:
    """Train the one-shot reconstructor; the same command resumes a run that was stopped.

    Configurations: portrait4d/portrait4d, portrait4d/static, portrait4d/v2, portrait4d/portrait4d-24gb,
    portrait4d/toy64. Several GPUs or machines: start it with torchrun, see docs/training.md.
    """
    from portrait4d.reconstructor.training.task import ReconstructorTraining

    run_training_command(ReconstructorTraining, config, output, settings, options, tell)
