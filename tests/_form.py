"Notebooks and test files with lines over 120 or three levels of comprehensions; the lists only shrink"
NOT_YET = (
    '14_lookahead/warmup.ipynb', '81_evaluate/evaluate.ipynb',
)

NOT_YET_FILES = (
    'tests/test_overfit.py', 'tests/test_report.py', 'tests/test_runs.py', 'tests/bench/bench_tgat.py',
    'tests/bench/bench_uci.py',
)
