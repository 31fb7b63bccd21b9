/** @file The look of the report: colours for light and dark (text and lines at WCAG AA contrast), and the style sheet. */

/** Names are CSS variables. */
export const lightColours = {
  page: '#f6f7f9', surface: '#ffffff', text: '#1b2430', muted: '#55606e', line: '#d5dae1', accent: '#0b5cad', mark: '#ffe9a8', 'mark-text': '#3a2c00',
  'group-factual': '#1a6fb5', 'group-reasoning': '#b3521b', 'group-control': '#5d6673', 'group-other-0': '#2f7d4f', 'group-other-1': '#8a4a9e', 'group-other-2': '#9a7400',
  bar: '#2f6da8', 'bar-weak': '#b9c3cf',
  good: '#1b6e3c', bad: '#a8281f', open: '#6a5400',
  'heat-0': '#2166ac', 'heat-1': '#5b9bc9', 'heat-2': '#a2cbe2', 'heat-3': '#d6e7f1', 'heat-4': '#f1f2f4', 'heat-5': '#fbe0d0', 'heat-6': '#f2ad88', 'heat-7': '#d8664f', 'heat-8': '#a81c2b',
  'heat-none': '#ffffff',
} as const

export const darkColours: Readonly<Record<keyof typeof lightColours, string>> = {
  page: '#12161c', surface: '#1a2028', text: '#e6eaf0', muted: '#a3afbd', line: '#343d49', accent: '#7db8f0', mark: '#5c4a12', 'mark-text': '#ffedc0',
  'group-factual': '#6cb2f0', 'group-reasoning': '#f09a5f', 'group-control': '#a7b1be', 'group-other-0': '#6fcf97', 'group-other-1': '#d29ae6', 'group-other-2': '#e0bd4f',
  bar: '#6aa9e0', 'bar-weak': '#4a5563',
  good: '#74d19b', bad: '#f5938a', open: '#e3c766',
  'heat-0': '#7cc0f5', 'heat-1': '#4a93cf', 'heat-2': '#306592', 'heat-3': '#24435c', 'heat-4': '#252c35', 'heat-5': '#4f3428', 'heat-6': '#8a4f33', 'heat-7': '#cf6f4d', 'heat-8': '#ff9d86',
  'heat-none': '#1a2028',
}

/** The colour of a group: of its own where its name is known. */
export const colourOf = (group: string, groups: readonly string[]): keyof typeof lightColours => {
  const known = (name: string): boolean => name === 'factual' || name === 'reasoning' || name.toLowerCase().startsWith('control')
  if (group === 'factual') return 'group-factual'
  if (group === 'reasoning') return 'group-reasoning'
  if (known(group)) return 'group-control'
  const place = groups.filter((name) => !known(name)).indexOf(group) % 3
  return place === 1 ? 'group-other-1' : place === 2 ? 'group-other-2' : 'group-other-0'
}

const variables = (colours: Readonly<Record<string, string>>): string => Object.entries(colours).map(([name, value]) => `--${name}:${value}`).join(';')

export const styleSheet = `
:root{color-scheme:light dark;${variables(lightColours)}}
@media (prefers-color-scheme:dark){:root{${variables(darkColours)}}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer,nav{max-width:72rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:2.25rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.35rem;margin:2.75rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--line)}
h3{font-size:1.08rem;margin:1.75rem 0 .4rem;overflow-wrap:anywhere}
p{margin:.4rem 0 .8rem;max-width:75ch}
a{color:var(--accent)}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.muted{color:var(--muted)}
.small{font-size:.87rem}
.facts{display:flex;flex-wrap:wrap;gap:.6rem 2.2rem;margin:1.1rem 0 0;padding:0}
.facts div{min-width:6rem}
.facts dt{font-size:.82rem;color:var(--muted)}
.facts dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;list-style:none;margin:1.4rem 0 0;padding:.7rem 0;border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
.card{background:var(--surface);border:1px solid var(--line);border-radius:8px;padding:1rem 1.15rem;margin:0 0 1rem}
.card>:first-child{margin-top:0}.card>:last-child{margin-bottom:0}
.verdicts{display:flex;flex-wrap:wrap;gap:.35rem 1.2rem;margin:.35rem 0 .7rem}
.verdict{font-weight:600}
.flag{font-size:.8rem;color:var(--open)}
.agrees{color:var(--good)}.disagrees{color:var(--bad)}.undecided,.not-measured{color:var(--open)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
figure{margin:0 0 1rem;min-width:0}
figcaption{font-weight:600;margin:0 0 .4rem}
.chart{display:block;width:100%;height:auto;color:var(--text);font-size:11px;overflow:visible}
.chart text{white-space:pre}
.heat{max-width:46rem}
.pair figure{max-width:40rem}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1rem;font-size:.85rem;margin:.2rem 0 .5rem;padding:0;list-style:none}
.key li{display:flex;align-items:center;gap:.4rem}
.key i{display:inline-block;width:.95rem;height:.95rem;border-radius:2px;border:1px solid var(--line)}
.scroll{overflow-x:auto;margin:.3rem 0 1rem}
table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums;min-width:100%}
caption{text-align:left;font-weight:600;padding:.2rem 0 .3rem}
th,td{padding:.28rem .7rem .28rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--muted);white-space:nowrap}
td.n,th.n{text-align:right}
td.n{white-space:nowrap}
td.text{min-width:18rem;white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.8rem;line-height:1.45}
td.id{overflow-wrap:anywhere;min-width:6.5rem}
mark{background:var(--mark);color:var(--mark-text);border-radius:2px;padding:0 .1em}
details{margin:.2rem 0 .8rem}
details.query{margin:0}
summary{cursor:pointer;color:var(--accent);padding:.15rem 0}
.query>summary{color:inherit;padding:.5rem 0;border-top:1px solid var(--line)}
.query>summary b{overflow-wrap:anywhere}
.query>summary .muted{overflow-wrap:anywhere}
.asks{white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.85rem;margin:.3rem 0 .7rem}
ul.plain{margin:.3rem 0 .8rem;padding-left:1.15rem;max-width:80ch}
ul.plain li{margin:.15rem 0}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.86em;overflow-wrap:anywhere}
footer{padding:1.5rem 1.25rem 3rem;color:var(--muted);font-size:.87rem}
@media (max-width:40rem){body{font-size:15px}h1{font-size:1.5rem}.card{padding:.8rem .85rem}main,header,footer,nav{padding-left:.85rem;padding-right:.85rem}.chart{font-size:14px}.heat .chart{font-size:11px}
.documents,.documents tbody{display:block}.documents thead{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}.documents caption{display:block}
.documents tr{display:grid;grid-template-columns:2.2rem auto auto 1fr;border-bottom:1px solid var(--line)}.documents td{border:0}.documents td.id{grid-column:1/-1;min-width:0;padding-top:0;color:var(--muted)}.documents td.text{grid-column:1/-1;min-width:0;padding-top:0}}
@media print{:root{${variables(lightColours)};--page:#fff}@page{margin:15mm 13mm}body{font-size:10.5pt}main,header,footer{padding-left:0;padding-right:0;max-width:none}nav{display:none}h2,h3,caption,thead,.key{break-after:avoid}p,li{orphans:3;widows:3}article.card,figure,tr{break-inside:avoid}.card{border-width:1px 0;border-radius:0;padding:.6rem 0}table{font-size:8.5pt}.heat{max-width:34rem}summary{color:inherit}.scroll{overflow:visible}a{color:inherit;text-decoration:none}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
`
