"""What `track`, `avatar`, `render` and `doctor` print around the library's functions."""

from dataclasses import asdict
from pathlib import Path

from portrait4d.cli.console import progress_bars, say, say_json, tell_engine, warn
from portrait4d.options import ReenactOptions, RenderOptions
from portrait4d.runtime.paths import AVATAR_SUFFIXES, MOTION_SUFFIXES, check_output
from preprocess.files.file_check import check_not_input


def run_track(driver: Path, output: Path, *, options: ReenactOptions, as_json: bool, is_quiet: bool) -> None:
    """Tracks a driver and writes its motion file."""
    from portrait4d.engines.choose import named_files
    from portrait4d.pipeline import track_driver
    from portrait4d.reenactment.report import describe_gaps, find_gaps

    check_output(output, MOTION_SUFFIXES)
    check_not_input(output, driver, options.flame, *named_files(options.engine))
    tell_engine(options.engine, is_quiet=is_quiet)
    with progress_bars(is_quiet=is_quiet) as progress:
        motion = track_driver(driver, output, options=options, progress=progress)
    gaps = find_gaps(motion)
    for line in motion.warnings:
        warn(line)
    if as_json:
        return say_json(
            {
                "driver": str(driver),
                "output": str(output),
                "num_frames": len(motion),
                "frame_rate": str(motion.frame_rate),
                "num_held": int((~motion.valid).sum()),
                "mean_fit_error": round(float(motion.fit_error.mean()), 5),
                "gaps": gaps,
                "warnings": motion.warnings,
            }
        )
    rate = float(motion.frame_rate)
    error = 100 * float(motion.fit_error.mean())
    say(f"{output}: {len(motion)} frames at {rate:g} per second, fit error {error:.2f} % of the outer-eye distance")
    for line in describe_gaps(gaps):
        say(line)


def run_avatar(sources: list[Path], output: Path, *, options: ReenactOptions, as_json: bool, is_quiet: bool) -> None:
    """Builds and saves an avatar; of several photos it says which one the avatar shows."""
    from portrait4d.engines.choose import named_files
    from portrait4d.pipeline import build_source, load_models

    check_output(output, AVATAR_SUFFIXES)
    check_not_input(output, *sources, options.flame, *named_files(options.engine))
    tell_engine(options.engine, is_quiet=is_quiet or as_json)
    source = build_source(sources, models=load_models(options), face=options.face)
    avatar = source.avatar
    avatar.save(output)
    for line in avatar.warnings:
        warn(line)
    if as_json:
        report = {"output": str(output), "engine": avatar.engine, "shown": str(source.path)}
        return say_json({**report, "warnings": list(avatar.warnings)})
    shown = f", shows {source.path} (of {len(sources)} photos)" if len(sources) > 1 else ""
    say(f"{output}: engine {avatar.engine}{shown}, {output.stat().st_size / 1e6:.1f} MB")


def run_render(source: Path, output: Path, *, options: RenderOptions, as_json: bool, is_quiet: bool) -> None:
    """Renders views, an orbit, or exports a mesh."""
    from portrait4d.jobs.views import render_avatar

    tell_engine(options.engine, is_quiet=is_quiet)
    with progress_bars(is_quiet=is_quiet) as progress:
        report = render_avatar(source, output, options=options, progress=progress)
    for line in report.warnings:
        warn(line)
    if as_json:
        return say_json(asdict(report))
    for file in report.files:
        say(file)


def run_doctor(*, as_json: bool) -> int:
    """Prints the checks; returns 0 if the program can work, else 1."""
    from portrait4d.jobs.doctor import examine, is_healthy

    checks = examine()
    if as_json:
        say_json({"healthy": is_healthy(checks), "checks": [asdict(check) for check in checks]})
        return 0 if is_healthy(checks) else 1
    marks = {"ok": "ok", "optional": "--", "missing": "MISSING"}
    width = max(len(check.name) for check in checks)
    for check in checks:
        say(f"{marks[check.state]:<8}{check.name.ljust(width)}  {check.detail}")
        if check.cure:
            say(f"{'':<8}{'':<{width}}  -> {check.cure}")
    missing = [check.name for check in checks if check.state == "missing"]
    say("")
    say(f"missing: {', '.join(missing)}" if missing else "everything needed is here")
    return 1 if missing else 0
