"""All benchmarks, one after the other, and the page of what they found."""
