"""`python -m portrait4d`: the command line."""

from portrait4d.cli.main import main

if __name__ == "__main__":
    main()
