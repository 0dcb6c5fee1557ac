"""`python -m dsdeploy` is the same as `dsdeploy`."""

from dsdeploy.cli import main

if __name__ == "__main__":
    main()
