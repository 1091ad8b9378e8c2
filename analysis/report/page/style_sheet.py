"""How the page looks: by day and night, on paper and on a telephone."""

STYLE = """
:root { color-scheme: light dark;
  --ink: #1c1c1e; --paper: #ffffff; --faint: #5c5c62; --line: #d4d4d8; --lead: #eef3f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --paper: #17181a; --faint: #a6a6ae; --line: #3c3d42; --lead: #20272e; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 50rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; padding-top: 0.75rem; border-top: 1px solid var(--line); }
.about, figcaption, caption { color: var(--faint); font-size: 0.9rem; }
.verdict { background: var(--lead); padding: 0.5rem 1rem; border-radius: 0.5rem; margin: 1rem 0; }
.verdict p:first-child { font-size: 1.15rem; font-weight: 600; }
figure { margin: 1rem 0; }
.drawing { overflow-x: auto; }
svg { display: block; max-width: 100%; min-width: 27rem; height: auto; }
@media (prefers-color-scheme: dark) { svg { filter: brightness(1.4); } }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; max-width: 34rem;
  font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: right; overflow-wrap: break-word;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; }
th { font-weight: 600; }
tbody th { font-weight: 400; }
code, pre { font: 0.85rem/1.5 ui-monospace, Consolas, Menlo, monospace; }
pre { white-space: pre-wrap; padding: 0.75rem 1rem; border: 1px solid var(--line); border-radius: 0.5rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .verdict { background: none; border: 1px solid #888888; }
  figure, table, .verdict { break-inside: avoid; }
}
"""
