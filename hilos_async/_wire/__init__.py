"""One request on its way: whom to ask, when, how often, and over which connection."""
