"""`python -m edge` is `edge`."""

from edge.cli import main

if __name__ == "__main__":  # a spawned child imports this module too
    main()
