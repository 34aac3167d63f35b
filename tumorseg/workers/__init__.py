"""The one supervised process pool."""
