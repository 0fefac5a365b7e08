"""A program with a queue library of its own: here files in a folder. QScaler says when to leave."""

import sys
import time
from pathlib import Path

from qscaler import Lifecycle


def main(folder: Path) -> None:
    with Lifecycle() as life:
        while not life.should_leave():
            file = next(iter(sorted(folder.glob("*.task"))), None)
            if file is None:
                time.sleep(0.1)
                continue
            with life.busy():
                print("working on", file.read_text(), flush=True)
                file.unlink()
    print("nothing is left half done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
