"""`python -m mld`: the command line, as launchers of several processes start it."""

from mld.app import main

if __name__ == "__main__":
    main()
