"""Every reader against bytes that nobody meant: coverage-guided, with what it finds kept as a test.

    python -m parity_tests.fuzz                       # every target, twenty seconds each, two at a time
    python -m parity_tests.fuzz net h5 --seconds 600  # two of them for longer

A target (targets.py) reads a file as the project does. Whatever its bytes, one of the errors that the reader documents
may come out of it and nothing else, within five seconds and within the memory that converters/safety/limits.py
names; judge.py holds it to that. Seeds (seeds.py) are made by the program, mutators.py changes them in ways that get
past checksums and lengths. What was found and mended lies in corpus/<target>/; test_fuzz.py runs it without atheris.
"""
