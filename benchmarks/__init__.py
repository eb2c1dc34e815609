"""What the library is measured with; no part of what is installed. Run: nox -s bench"""
