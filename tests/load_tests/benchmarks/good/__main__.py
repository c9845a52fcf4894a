"""``python -m …good``: something that is fast. Not that it would mean anything.

A second paragraph, about ``code`` and :class:`~load_tests.results.Results`.
"""

from load_tests.results import Results, Series, arguments_of

arguments = arguments_of("good", __doc__).parse_args()
results = Results("good", conditions="quick" if arguments.quick else "full", date="2026-01-31")
results.table("Speeds", ("who", "metres a second"), [("hare", 20.0), ("tortoise", 0.1234)])
results.plot("Way", "seconds", "metres", [Series("hare", (0, 1), (0, 20)), Series("tortoise", (0, 1), (0, 0.1))])
results.at_least("hare_to_tortoise", 162.0, 100.0)
results.at_most("tortoise_to_hare", 0.5, 0.01)
results.write(arguments.json)
