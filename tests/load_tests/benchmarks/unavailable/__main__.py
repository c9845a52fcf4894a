"""``python -m …unavailable``: one that cannot run here."""

from load_tests.results import Results, arguments_of

arguments = arguments_of("unavailable", __doc__).parse_args()
results = Results("unavailable")
results.cannot_run("there is no flux capacitor")
results.write(arguments.json)
