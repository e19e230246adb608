"""`python -m totes`, for places where the console script is not on the path."""

from totes.cli.app import main

if __name__ == "__main__":
    main()
