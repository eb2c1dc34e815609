"""Many answers: lookups, batches, lists and watches. No HTTP."""
