"""Scripts for the developers of lakery-cloud; none of them is in the wheel."""
