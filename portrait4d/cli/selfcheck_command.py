"""What `selfcheck` prints."""

from dataclasses import asdict
from pathlib import Path

from portrait4d.cli.console import fail, say, say_json
from portrait4d.runtime.paths import check_output


def run_selfcheck_command(
    engine: str, photo: Path | None, output: Path | None, *, flame: str | None, device: str, as_json: bool
) -> int:
    """Prints the findings; returns 0 if all that were judged passed, else 1."""
    from portrait4d.engines.choose import named_files
    from portrait4d.jobs.selfcheck import run_selfcheck
    from preprocess.files.file_check import check_not_input
    from preprocess.media.image import write_png

    if output is not None:
        check_output(output, frozenset({".png"}))
        check_not_input(output, photo, flame, *named_files(engine))
    check = run_selfcheck(engine, photo, flame=flame, device=device)
    if output is not None:
        write_png(output, check.picture)
    if as_json:
        findings = [asdict(finding) for finding in check.findings]
        say_json({"engine": check.engine, "passed": check.passed, "findings": findings})
        return 0 if check.passed else 1
    marks = {True: "ok", False: "FAILED", None: "--"}
    width = max(len(finding.name) for finding in check.findings)
    for finding in check.findings:
        basis = f" ({finding.basis})" if finding.basis else ""
        say(f"{marks[finding.passed]:<8}{finding.name:<{width}}  {finding.value}; expected {finding.expected}{basis}")
    failed = [finding.name for finding in check.findings if finding.passed is False]
    if failed:
        fail(f"the weights of {check.engine} do not do what they should: {', '.join(failed)}")
        return 1
    say(f"the weights of {check.engine} work")
    return 0
