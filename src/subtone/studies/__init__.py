"""Studies: questions that many runs answer together, each with one command; see :mod:`subtone.studies.run`.

A study is cut into cells that are computed in processes of their own and kept, so that it resumes; what it found is
:class:`subtone.evaluation.findings.Findings`. (Nothing is imported here: a process that computes a cell loads no more
than that cell needs.)
"""
