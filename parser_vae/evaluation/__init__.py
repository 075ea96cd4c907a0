"""Two treebanks in, a report out: any parser's output can be scored."""

from parser_vae.evaluation.report import Change, Example, Measure, Report, ScorerReport, evaluate

__all__ = ["Change", "Example", "Measure", "Report", "ScorerReport", "evaluate"]
