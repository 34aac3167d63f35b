"""`python -m tumorseg`."""

from tumorseg.cli.main import main

if __name__ == "__main__":
    main()
