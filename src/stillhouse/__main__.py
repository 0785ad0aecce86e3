"""`python -m stillhouse` is the command line."""

from stillhouse.cli.main import main

if __name__ == "__main__":
    main()
