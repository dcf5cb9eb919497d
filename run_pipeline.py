"""Manō from the command line: `python run_pipeline.py --help`."""

import sys


def main() -> None:
    # Imported here so that a wrong Python or a missing package is the only thing that can fail before this line.
    try:
        from pipeline.command import run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted before anything began; nothing has changed\n")
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
