"""The style sheet of the HTML page: light and dark, wide and narrow, screen and paper."""

PAGE_STYLE = """
:root { --ink: #1d232b; --soft: #5c6672; --line: #d9dee5; --paper: #ffffff; --ground: #f4f6f8; --better: #0060a8;
  --worse: #c2410c; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ec; --soft: #9aa5b2; --line: #343c47; --paper: #171b21;
  --ground: #0e1115; --better: #74bdff; --worse: #ff9d6b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 0 0 .8rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
header p { color: var(--soft); margin: 0 0 1.2rem; overflow-wrap: anywhere; }
code { font-size: .9em; overflow-wrap: anywhere; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem;
  margin: 0 0 1.2rem; }
.finding { font-size: 1.3rem; line-height: 1.4; margin: 0 0 1rem; }
.note { border-left: 3px solid var(--worse); padding-left: .7rem; margin: 0 0 .8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; }
.card { border: 1px solid var(--line); border-left-width: 5px; border-radius: 8px; padding: .7rem .9rem; }
.card h3 { margin: 0; font-size: .85rem; font-weight: 600; color: var(--soft); }
.card p { margin: 0; font-size: .9rem; }
.card .big { font-size: 1.9rem; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card .big small { font-size: .9rem; font-weight: 400; color: var(--soft); }
.card.better { border-left-color: var(--better); }
.card.worse { border-left-color: var(--worse); }
.badge { font-weight: 600; }
.better .badge, tr.better .change, span.better { color: var(--better); }
.worse .badge, tr.worse .change, span.worse { color: var(--worse); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th { font-weight: 500; text-align: left; }
thead th { color: var(--soft); font-size: .82rem; vertical-align: bottom; border-bottom: 1px solid var(--line); }
td, th { padding: .15rem .6rem .15rem 0; white-space: nowrap; }
.num { text-align: right; }
.scores td, .scores tbody th { vertical-align: top; }
tr.group th { padding-top: .7rem; font-weight: 650; }
.scores tbody tr:not(.group) th { padding-left: .8rem; }
.rows tbody tr:hover { background: var(--ground); }
.rows td, .rows tbody th { padding-top: 0; padding-bottom: 0; }
.rows .plot { width: 55%; padding-left: .6rem; }
.plot svg { display: block; width: 100%; overflow: visible; }
.plot .axis text { fill: var(--soft); font-size: 11px; text-anchor: middle; }
th.plot { text-align: center; white-space: normal; }
.plot .grid { stroke: var(--line); stroke-width: 1; }
.plot .zero { stroke: var(--soft); stroke-width: 1.5; }
.plot .range { stroke: var(--soft); stroke-width: 2.5; stroke-linecap: round; }
.plot .dot { fill: var(--paper); stroke: var(--soft); stroke-width: 2; }
tr.better .dot { fill: var(--better); stroke: var(--better); }
tr.worse .dot { fill: var(--worse); stroke: var(--worse); }
tr.better .range { stroke: var(--better); }
tr.worse .range { stroke: var(--worse); }
.where > input { position: absolute; opacity: 0; }
.where > label { display: inline-block; padding: .25rem .8rem; border: 1px solid var(--line); border-radius: 99px;
  margin-right: .4rem; cursor: pointer; font-size: .9rem; }
.where > input:checked + label { background: var(--ink); color: var(--paper); }
.where > input:focus-visible + label { outline: 3px solid var(--better); }
.panel { display: none; }
#by-nltk:checked ~ .panel-nltk, #by-conll18:checked ~ .panel-conll18 { display: block; }
details { margin-top: .4rem; font-size: .92rem; }
summary { cursor: pointer; color: var(--soft); }
.legend { font-size: .88rem; color: var(--soft); display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
.legend svg { vertical-align: middle; margin-right: .35rem; }
.legend line { stroke: var(--soft); stroke-width: 1.5; }
.legend .mark-label i { color: var(--worse); font-style: normal; }
.legend .mark-wrong line { stroke: var(--worse); stroke-width: 1.8; stroke-dasharray: 5 3; }
.legend .mark-broken line { stroke: var(--worse); stroke-width: 3; stroke-dasharray: 5 3; }
.legend .mark-fixed line { stroke: var(--better); stroke-width: 3; }
figure { margin: 0 0 1.6rem; border-top: 1px solid var(--line); padding-top: .8rem; }
figcaption { position: sticky; inset-inline-start: 0; width: max-content; color: var(--soft);
  font-size: .8rem; font-weight: 650; text-transform: uppercase; letter-spacing: .06em; margin-top: .5rem; }
.sentence { font-size: 1.1rem; margin: 0; }
.meta { color: var(--soft); font-size: .88rem; margin: 0; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0; }
footer { color: var(--soft); font-size: .85rem; margin-top: 1rem; }
@media (max-width: 44rem) {
  .wide { display: none; }
  section { padding: .9rem .8rem; }
  .rows { font-size: .84rem; }
  .rows td, .rows th { padding-right: .35rem; }
  .rows .plot { width: 65%; }
  .finding { font-size: 1.1rem; }
}
@media print { body { background: none; } section { break-inside: avoid-page; border: none; }
  .scroll { overflow: visible; } .panel { display: block; } .where > label { display: none; } }
"""
