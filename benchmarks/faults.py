"""Faults inside every command, and what survives them: python benchmarks/faults.py [--seed 0].

Commands are killed or stopped at drawn moments of their work, bytes of a run are flipped, the disk
is full, outputs lead to hostile places, two commands share a folder, and the clock jumps by years.
What survives ends with the bits of an undisturbed command, or with an error that names the file.
Prints a Markdown table, and progress on stderr; exit code 1 if anything is lost. Linux and macOS;
a disk that fills up and read-only places are mounted where that is allowed.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from injection import Command, Fault, Moment, Outcome, contents, differences, run_mld

from mld.runtime.processor import processor_name
from mld_core.errors import ExitCode

SPEC = """
name: faults
data: {kind: examples, train: 48, validation: 12, test: 12}
modalities:
  picture: {kind: image, latent_dim: 4, size: 8, channels: 1}
  word: {kind: text, latent_dim: 4}
autoencode: {steps: 12, batch_size: 16}
diffuse: {network: {kind: residual-mlp, width: 16, depth: 1}, steps: 16, batch_size: 16}
generate: {num_samples: 6, num_previews: 2, steps: 3, guidance: 1}
evaluate: {steps: 8, batch_size: 16}
compute: {accelerator: cpu, precision: 32-true, threads: 1}
"""
SUITE = "{name: faults, spec: spec.yaml, seeds: [0, 1]}"
COMMANDS = {
    "run": ["run", "spec.yaml", "--out", "out"],
    "sample": ["sample", "trained", "--out", "out", "-n", "40"],
    "impute": ["impute", "trained", "data/table.csv", "--out", "out", "-n", "2"],
    "score": ["score", "trained", "data/table.csv", "--out", "out.csv"],
    "information": ["information", "trained", "--rows", "10"],
    "report": ["report", "trained"],
    "bench": ["bench", "suite.yaml", "--out", "out", "--jobs", "1"],
}
"""By name, in a folder that holds the inputs and the finished run `trained`."""
READERS = {
    "run": ["run", "spec.yaml", "--out", "trained"],
    "sample": ["sample", "trained", "--out", "out", "-n", "1"],
    "report": ["report", "trained"],
    "score": ["score", "trained", "data/table.csv", "--out", "out.csv"],
}
"""Commands that read a finished run."""
EXIT_CODE = {"kill": -9, "terminate": ExitCode.INTERRUPTED}
LEAST = {"kill": 5, "terminate": 2}
"""Faults for each stage and command at least."""
REFUSED = (ExitCode.USAGE, ExitCode.RUN_DIR)
START = "from mld.app import main; main()"
BALLAST, READ_ONLY = "ballast", "read-only"
"""Names of a file that fills a disk, and of a folder that cannot be written."""
DISK_BYTES, PAGE_BYTES = 32 << 20, 4096
OTHER_KILLS = 6
"""Of each command but `mld run`."""
CHECKPOINT_FLIPS = 5
"""Of the flipped bits."""
LAST = 400
"""Characters of a message that are shown."""
HELD, RACES = 2, 2
"""Times that a second command meets a first one at work, and that both start at once."""
POLL_SECONDS = 0.02


@dataclass
class Row:
    """A row of the table: a fault at some places of the work, and what was lost by it."""

    fault: str
    where: str
    at: list[str] = field(default_factory=list)
    tried: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, problems: Sequence[str], at: str = "") -> None:
        """Count one fault and what was wrong after it."""
        self.tried += 1
        self.at += [at] if at else []
        if problems:
            self.lost.append("; ".join(problems))

    def cells(self) -> list[str]:
        """As text."""
        lost = len(self.lost)
        counts = map(str, (self.tried, self.tried - lost, lost))
        return [self.fault, self.where, *counts, ", ".join(self.at)]


class Bench:
    """A folder of victims, copies of the inputs in which commands run, and what these give."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.rng = Random(seed)
        self.inputs = root / "inputs"
        self.count = 0
        self.inputs.mkdir()
        (self.inputs / "spec.yaml").write_text(SPEC)
        (self.inputs / "suite.yaml").write_text(SUITE)
        self._add_trained_run()

    def _add_trained_run(self) -> None:
        folder = self.victim()
        undisturbed(folder, COMMANDS["run"])
        undisturbed(folder, ["sample", "out", "--out", "data", "-n", "6"])
        shutil.copytree(folder / "out", self.inputs / "trained")
        shutil.copytree(folder / "data", self.inputs / "data")
        with (self.inputs / "data" / "table.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["picture", "word"])
            for row in range(6):
                text = (self.inputs / "data" / "word" / f"{row:04d}.txt").read_text()
                cells = f"picture/{row:04d}.png", text or "one"
                table.writerow([cell * (row % 3 != column) for column, cell in enumerate(cells)])

    def victim(self, parent: Path | None = None) -> Path:
        """A new copy of the inputs."""
        self.count += 1
        folder = (parent or self.root) / f"victim-{self.count}"
        return Path(shutil.copytree(self.inputs, folder))

    @cache  # noqa: B019  (as long as the program runs)
    def reference(self, command: str) -> dict[str, str]:
        """What a folder holds after a command in a process of its own, with other hash seeds."""
        show(f"reference of {command}")
        folder = self.victim()
        undisturbed(folder, COMMANDS[command])
        return contents(folder)

    @cache  # noqa: B019
    def moments(self, command: str, action: str) -> list[Moment]:
        """All moments of a command's work, each once, in order."""
        folder = self.victim()
        outcome = run_mld(folder, COMMANDS[command], Fault(action=action))
        problems = self.problems(command, folder, outcome)
        assert not problems, problems
        return list(dict.fromkeys(outcome.moments))

    @cache  # noqa: B019
    def reading(self, reader: str) -> tuple[dict[str, str], str]:
        """What a folder holds after a reader of the intact run, and what that prints."""
        folder = self.victim()
        outcome = run_mld(folder, READERS[reader])
        assert outcome.code == 0, outcome.stderr
        return contents(folder), outcome.stdout

    def problems(self, command: str, folder: Path, outcome: Outcome) -> list[str]:
        """What is wrong with a folder after a command that should have succeeded."""
        if outcome.code:
            return [f"{command}: exit code {outcome.code}: {outcome.stderr[-LAST:]}"]
        lost = differences(self.reference(command), contents(folder))
        return [f"{command}: {name} differs" for name in lost]


def undisturbed(folder: Path, args: Sequence[str]) -> None:
    """Run `mld` in a process of its own."""
    environment = {**os.environ, "MLD_STORE": "store", "PYTHONHASHSEED": "1"}
    process = [sys.executable, "-c", START, *args]
    subprocess.run(process, cwd=folder, env=environment, check=True, capture_output=True)


def choose(moments: Sequence[Moment], count: int, least: int, rng: Random) -> list[Moment]:
    """`count` moments in order: at least so many of each stage, all others uniformly."""
    chosen: set[Moment] = set()
    for stage in dict.fromkeys(each.stage for each in moments):
        stage_moments = [each for each in moments if each.stage == stage]
        chosen.update(rng.sample(stage_moments, min(least, len(stage_moments))))
    others = [each for each in moments if each not in chosen]
    chosen.update(rng.sample(others, max(0, min(len(others), count - len(chosen)))))
    return [each for each in moments if each in chosen]


def interrupt(
    bench: Bench, command: str, action: str, count: int, clock: bool = False
) -> list[Row]:
    """Interrupt a command at one moment after the other, resuming each time, until it ends."""
    moments = choose(bench.moments(command, action), count, LEAST[action], bench.rng)
    fault = "clock jumps, " * clock + {"kill": "SIGKILL", "terminate": "SIGTERM"}[action]
    stages = dict.fromkeys(moment.stage for moment in moments)
    rows = {stage: Row(fault, where(command, stage)) for stage in stages}
    folder = bench.victim()
    for moment in moments:
        # A file's moment is only reached if the file is written.
        seconds = 0 if "," in moment.name else bench.rng.choice([0, 1000])
        injected, problems = Fault(moment, action, seconds, clock), []
        outcome = run_mld(folder, COMMANDS[command], injected)
        if outcome.code == 0 and moment not in outcome.moments:
            # What the last interruption has saved lies beyond this moment.
            problems = bench.problems(command, folder, outcome)
            folder = bench.victim()
            outcome = run_mld(folder, COMMANDS[command], injected)
        if outcome.code != EXIT_CODE[action]:
            problems.append(f"exit code {outcome.code}")
        if outcome.crashed:
            problems.append(f"crash: {outcome.stderr[-LAST:]}")
        at = f"{moment.name}{went_on(moment, outcome)}"
        show(f"{fault}, {where(command, moment.stage)}: {at} {'; '.join(problems)}")
        rows[moment.stage].add(problems, at)
        if clock:
            scatter_file_times(folder, bench.rng)
    problems = bench.problems(
        command, folder, run_mld(folder, COMMANDS[command], Fault(clock=clock))
    )
    if problems:
        # Which of the interruptions has done it is not known.
        for row in rows.values():
            row.lost = ["; ".join(problems)] * row.tried
    return [*rows.values()]


def went_on(moment: Moment, outcome: Outcome) -> str:
    """From which step a training went on that was then interrupted at a moment."""
    first = next((each.name for each in outcome.moments if " step " in each.name), "")
    same_job = first and first.split()[0] == moment.name.split()[0]
    return f" (from {first.split()[-1]})" if same_job else ""


def where(command: str, stage: str) -> str:
    """A stage of a command; the stage of commands without stages is the command."""
    return f"mld {command}" if stage == command else f"mld {command}, {stage}"


def scatter_file_times(folder: Path, rng: Random) -> None:
    """Move the times of all files into other years."""
    for path in folder.rglob("*"):
        seconds = time.time() + rng.choice([-(10**9), 10**9])
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def flip_bits(bench: Bench, count: int) -> Row:
    """Flip a bit in each file of a finished run, and more in larger ones; then read the run."""
    row, harmless = Row("flipped bit", "a finished run"), Counter[str]()
    others = [reader for reader in READERS if reader != "run"]
    for number, name in enumerate(draw_files(bench, count)):
        position, bit = bench.rng.random(), bench.rng.randrange(8)
        problems, noticed = [], False
        for reader in ("run", others[number % len(others)]):
            folder = bench.victim()
            flip(folder / name, position, bit)
            named, errors = read_flipped(bench, folder, reader, name)
            problems += [f"{name}, then {reader}: {each}" for each in errors]
            noticed |= named
            shutil.rmtree(folder)
        harmless[name.name] += not (noticed or problems)
        row.add(problems)
        show(f"flipped bit in {name}: {'; '.join(problems) or f'noticed {noticed}'}")
    unnoticed = ", ".join(f"{name} {times}" for name, times in harmless.items() if times)
    count = row.tried - len(row.lost) - harmless.total()
    row.at = [f"noticed by name: {count}", f"harmless: {unnoticed or 'none'}"]
    return row


def draw_files(bench: Bench, count: int) -> list[Path]:
    """Each file of the finished run once, and others in proportion to their sizes."""
    paths = files_of(bench.inputs / "trained")
    more = max(0, count - len(paths))
    drawn = bench.rng.choices(paths, [path.stat().st_size for path in paths], k=more)
    return [path.relative_to(bench.inputs) for path in (*paths, *drawn)]


def read_flipped(bench: Bench, folder: Path, reader: str, name: Path) -> tuple[bool, list[str]]:
    """Whether a reader of a run names a file that has changed, and what is wrong if it does not.

    If it ends with an error, it must leave all as it was, else give the same as before the change.
    """
    before = contents(folder)
    outcome = run_mld(folder, READERS[reader])
    if outcome.code:
        named = outcome.code == ExitCode.RUN_DIR and name.name in outcome.stderr
        errors = [] if named else [f"exit code {outcome.code}: {outcome.stderr[-LAST:]}"]
        return named, errors + differences(before, contents(folder))
    after, stdout = bench.reading(reader)
    changed = differences(after, contents(folder)) + ["stdout"] * (outcome.stdout != stdout)
    return False, [each for each in changed if each != name.as_posix()]


def flip_checkpoint_bits(bench: Bench, count: int) -> Row:
    """Flip bits in the checkpoint of an interrupted run, and resume it."""
    row = Row("flipped bit", "the checkpoint of an interrupted run")
    folder = bench.victim()
    run_mld(folder, COMMANDS["run"], Fault(Moment("diffuse", "diffuse step 9")))
    checkpoint = folder / "out" / "checkpoints" / "diffuse.safetensors"
    intact = checkpoint.read_bytes()
    for _ in range(count):
        checkpoint.write_bytes(intact)
        flip(checkpoint, bench.rng.random(), bench.rng.randrange(8))
        outcome = run_mld(folder, COMMANDS["run"])
        named = outcome.code == ExitCode.RUN_DIR and checkpoint.name in outcome.stderr
        row.add([] if named else [f"exit code {outcome.code}: {outcome.stderr[-LAST:]}"])
    row.at = [f"noticed by name: {row.tried - len(row.lost)}"]
    return row


def files_of(folder: Path) -> list[Path]:
    """The files that are not empty."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]


def flip(path: Path, position: float, bit: int) -> None:
    """Flip a bit of the byte at a relative position."""
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    path.write_bytes(data)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """A small file system in memory at a folder; False where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        allowed = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", str(folder)], check=True)


def fill_disk(bench: Bench, command: str, times: int) -> Row:
    """Let the disk fill up at one place after the other of a command; then there is space again."""
    bench.reference(command)
    with mounted(bench.root / f"disk-{command}", f"size={DISK_BYTES}") as is_disk:
        folder = bench.victim(bench.root / f"disk-{command}")
        row = Row("full disk" if is_disk else "files cannot grow", f"mld {command}")
        need = 3 * used_bytes(folder / "trained") if command in ("run", "bench") else 1 << 19
        ballast = folder.parent / BALLAST
        for number in range(times):
            space, fault = need * number // times, Fault(checkpoint_seconds=0)
            if is_disk:
                written = used_bytes(folder) - used_bytes(bench.inputs)
                fill(ballast, max(0, space - written))
            else:
                fault = Fault(file_bytes=space // 8)
            outcome = run_mld(folder, COMMANDS[command], fault)
            if outcome.code == 0:
                break
            full = "No space left" if is_disk else "File too large"
            names = outcome.code in (ExitCode.RUN_DIR, ExitCode.PARTIAL) and full in outcome.stderr
            problems = (
                []
                if names and not outcome.crashed
                else [f"{outcome.code}: {outcome.stderr[-LAST:]}"]
            )
            row.add(problems, f"{space >> 10} kB")
        ballast.unlink(missing_ok=True)
        again = ["--retry-failed"] if command == "bench" else []
        problems = bench.problems(command, folder, run_mld(folder, [*COMMANDS[command], *again]))
        if problems:
            row.lost = ["; ".join(problems)] * row.tried
        return row


def used_bytes(folder: Path) -> int:
    """The bytes of the pages of all files."""
    sizes = (path.stat().st_size for path in files_of(folder))
    return sum(-(-size // PAGE_BYTES) * PAGE_BYTES for size in sizes)


def fill(ballast: Path, space: int) -> None:
    """Leave so many bytes of a disk free."""
    ballast.unlink(missing_ok=True)
    ballast.write_bytes(bytes(shutil.disk_usage(ballast.parent).free - space))


def a_link(target: str) -> Callable[[Path], Path]:
    """Makes a link to a target."""

    def make(place: Path) -> Path:
        place.symlink_to(target)
        return place

    return make


def a_socket(place: Path) -> Path:
    """Make a socket."""
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(place.parent)  # its path may be too long
        server.bind(place.name)
        os.chdir(here)
    return place


def a_file(place: Path) -> Path:
    """Make a file of the user's."""
    place.write_text("mine")
    return place


def a_fifo(place: Path) -> Path:
    """Make a named pipe."""
    os.mkfifo(place)
    return place


def a_full_folder(place: Path) -> Path:
    """Make a folder with a file of the user's."""
    (place / place.name).mkdir(parents=True)
    a_file(place / "mine.txt")
    return place


PLACES: dict[str, Callable[[Path], Path]] = {
    "a file": a_file,
    "below a file": lambda place: a_file(place) / place.name,
    "a dangling link": a_link("nowhere/at/all"),
    "a link to itself": a_link("place"),
    "a link to a file": a_link("spec.yaml"),
    "a folder with files": a_full_folder,
    "a FIFO": a_fifo,
    "a socket": a_socket,
    "too long a name": lambda place: place.with_name("x" * 300 + place.suffix),
    "too long a path": lambda place: place.parent.joinpath(*["x" * 200] * 30, place.name),
    "/dev/full": lambda place: Path("/dev/full"),
    "in /dev/null": lambda place: Path("/dev/null") / place.name,
    "in /proc": lambda place: Path("/proc") / place.name,
    "read-only": lambda place: place.parent / READ_ONLY / place.name,
    "an input": lambda place: Path("data/table.csv" if place.suffix else "trained"),
}
"""Makes something hostile at a path, and returns where the command shall write."""
WRITERS: dict[str, tuple[list[str], str]] = {
    "run": (["run", "spec.yaml", "--out"], "place"),
    "sample": (["sample", "trained", "--out"], "place"),
    "impute": (["impute", "trained", "data/table.csv", "--out"], "place"),
    "score": (["score", "trained", "data/table.csv", "--out"], "place.csv"),
    "bench": (["bench", "suite.yaml", "--out"], "place"),
    "new-modality": (["new-modality", "tide", "--into"], "place"),
}
"""The commands that write where the user says: their arguments before it, and a fitting name."""
VALID = {("run", "an input"), ("new-modality", "a folder with files"), ("new-modality", "an input")}
"""Where a command may write though it looks hostile: a run resumes in a run's folder."""


def write_to_hostile_places(bench: Bench, command: str) -> Row:
    """Let a command write where it cannot, or must not."""
    row = Row("hostile place", f"mld {command}")
    args, name = WRITERS[command]
    for description, make in PLACES.items():
        if (command, description) in VALID:
            continue
        folder = bench.victim()
        with mounted(folder / READ_ONLY, "ro,size=4k") as is_disk:
            if not is_disk:
                (folder / READ_ONLY).chmod(0o500)
            place = make(folder / name)
            place = place.relative_to(folder) if place.is_relative_to(folder) else place
            before = everything(folder)
            outcome = run_mld(folder, [*args, str(place)])
            problems = []
            if outcome.code not in REFUSED or outcome.crashed:
                problems.append(f"exit code {outcome.code}")
            if not any(part[:40] in outcome.stderr for part in (str(place), place.name)):
                problems.append("the message does not name the place")
            if before != everything(folder):
                problems.append("something has changed")
            row.add(
                [f"{description}: {each}: {outcome.stderr[-LAST:]}" for each in problems],
                description,
            )
    return row


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Kind and content of all below a folder, by path."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = os.readlink(path).encode() if stat.S_ISLNK(mode) else b""
        entries[str(path)] = mode, path.read_bytes() if stat.S_ISREG(mode) else content
    return entries


def share_folder(bench: Bench, command: str) -> Row:
    """Start a command while another one is in the middle of its work on the same folder."""
    row = Row("two commands on one folder", f"mld {command}")
    moments = bench.moments(command, "hold")
    for moment in bench.rng.sample(moments[len(moments) // 4 :], HELD):
        folder = bench.victim()
        first = Command(folder, COMMANDS[command], Fault(moment, "hold"))
        while moment not in first.reached():
            time.sleep(POLL_SECONDS)
        second = run_mld(folder, COMMANDS[command])
        first.hold.touch()
        problems = bench.problems(command, folder, first.wait())
        if second.code != ExitCode.RUN_DIR or "is in use by process" not in second.stderr:
            problems.append(f"the second: {second.code}: {second.stderr[-LAST:]}")
        row.add(problems, moment.name)
    for _ in range(RACES):
        folder = bench.victim()
        both = [Command(folder, COMMANDS[command]) for _ in range(2)]
        outcomes = sorted((each.wait() for each in both), key=lambda outcome: outcome.code)
        problems = bench.problems(command, folder, outcomes[0])
        if outcomes[1].code not in (0, ExitCode.RUN_DIR) or outcomes[1].crashed:
            problems.append(f"the other: {outcomes[1].code}: {outcomes[1].stderr[-LAST:]}")
        row.add(problems, "started at once")
    return row


def show(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def all_rows(bench: Bench, kills: int, flips: int) -> Iterator[Row]:
    """Every fault, with its row of the table."""
    for command in COMMANDS:
        count = kills - OTHER_KILLS * (len(COMMANDS) - 1) if command == "run" else OTHER_KILLS
        yield from interrupt(bench, command, "kill", count)
    for command in COMMANDS:
        yield from interrupt(bench, command, "terminate", 4)
    yield from interrupt(bench, "run", "kill", 0, clock=True)
    yield flip_bits(bench, flips - CHECKPOINT_FLIPS)
    yield flip_checkpoint_bits(bench, CHECKPOINT_FLIPS)
    for command in ("run", "sample", "impute", "score", "bench"):
        yield fill_disk(bench, command, 6)
    for command in WRITERS:
        yield write_to_hostile_places(bench, command)
    for command in ("run", "sample", "impute", "information", "report", "bench"):
        yield share_folder(bench, command)


def parse_args() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs, of them 5 a stage")
    parser.add_argument("--flips", type=int, default=200, help="flipped bits, of them 1 a file")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of moments and bits")
    return parser.parse_args()


def main() -> int:
    """Print the table; 1 if anything was lost, else 0."""
    args = parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        for row in all_rows(Bench(Path(folder), args.seed), args.kills, args.flips):
            show(f"{row.fault}, {row.where}: {row.tried} tried, {len(row.lost)} lost")
            for problem in dict.fromkeys(row.lost):
                show(f"  {problem}")
            rows.append(row)
    print(f"{processor_name()}, seed {args.seed}\n")
    print_table(rows)
    return int(any(row.lost for row in rows))


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows and their sums as Markdown."""
    headers = ["fault", "where", "tried", "survived", "lost", "at"]
    total = Row("all", "", tried=sum(row.tried for row in rows))
    total.lost = [problem for row in rows for problem in row.lost]
    for cells in (headers, ["---"] * len(headers), *(row.cells() for row in (*rows, total))):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
