"""The API as it is: its endpoints, objects, words and errors. Pure: no I/O."""
