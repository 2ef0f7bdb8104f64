"""Opens a tracker twice for the same run, and logs five numbers, a picture and a sound.

The arguments are its kind, and a folder with a picture x.png and a sound x.wav.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mld_core import Registry, SampleFile, Scalars, TrackedRun

kind, folder = sys.argv[1], Path(sys.argv[2])
plugin = Registry().tracker(kind)
for first in (1, 3):
    run = TrackedRun("digits", "k1", folder / "run", {"name": "digits"})
    tracker = plugin(plugin.Config(), run)
    assert tracker.last_steps() is None
    steps = (first, first + 1)
    tracker.log([Scalars("a/b", step, {"a/b/loss": step / 3}, 1.7e9 + step) for step in steps])
    if first == 3:
        tracker.log([Scalars("run", 0, {"run/joint_coherence": 0.5}, 1.7e9)])
        picture = SampleFile("samples/joint/digit/0000", folder / "x.png", None)
        sound = SampleFile("samples/joint/tone/0000", folder / "x.wav", None)
        tracker.log_samples([picture, sound])
    tracker.flush()
    tracker.close()
