"""Two treebanks in, a report out: any parser's output can be scored."""

from parser_vae.evaluation.domain import DomainDivergence, domain_divergence
from parser_vae.evaluation.render import Mark, marks, tree_svg, tree_text
from parser_vae.evaluation.report import Change, Example, Measure, Report, ScorerReport, evaluate

__all__ = [
    "Change",
    "DomainDivergence",
    "Example",
    "Mark",
    "Measure",
    "Report",
    "ScorerReport",
    "domain_divergence",
    "evaluate",
    "marks",
    "tree_svg",
    "tree_text",
]
