import assert from 'node:assert/strict'
import { spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { Registry } from 'prom-client'
import { parse } from 'yaml'
import { packageRoot } from '../../src/base/index.js'
import { makeMetrics } from '../../src/monitor/index.js'
import { toolOr } from './tools.js'

const deploy = join(packageRoot(), 'deploy')
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8')

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly record?: string; readonly alert?: string; readonly expr: string; readonly annotations?: Record<string, string> }[] }[]
}
const rules = (parse(read('prometheus/rules.yml')) as Rules).groups.flatMap((group) => group.rules)
const alerts = rules.flatMap(({ alert, annotations }) => (alert === undefined ? [] : [{ alert, annotations }]))

interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[]; readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>> }[]
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] }
}
const dashboard = JSON.parse(read('grafana/dashboard.json')) as Dashboard

/** Every name with which a series can be asked for. */
const known = (): ReadonlySet<string> => {
  const registry = new Registry()
  makeMetrics(registry)
  const names = registry.getMetricsAsArray().flatMap(({ name, type }) =>
    String(type) === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  )
  return new Set([...names, 'up', ...rules.flatMap(({ record }) => record ?? [])])
}

/** The metrics that an expression asks for: names that are neither functions nor labels nor words of the language. */
const asked = (expr: string): readonly string[] => {
  const bare = expr.replace(/"[^"]*"|\{[^}]*\}|\[[^\]]*\]/g, ' ').replace(/\b(by|on|without|ignoring)\s*\([^)]*\)/g, ' ')
  return [...bare.matchAll(/[a-zA-Z_:][\w:]*(?!\w*\s*\()/g)].map(([name]) => name).filter((name) => !['and', 'or', 'unless'].includes(name) && /[_:]|^up$/.test(name))
}

describe('deploy/', () => {
  test('every metric of the dashboard, the rules and the alerts is one that is exported or recorded', () => {
    const names = known()
    const variables = dashboard.templating.list.flatMap(({ query }) => (typeof query === 'object' && query !== null && 'query' in query ? [String(query.query)] : []))
    const labelled = variables.map((query) => /label_values\((\w+)/.exec(query)?.[1] ?? '')
    const exprs = [...rules.map(({ expr }) => expr), ...dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))]
    assert.ok(exprs.length > 40)
    for (const expr of exprs) {
      const used = asked(expr)
      assert.ok(used.length > 0, expr)
      for (const name of used) assert.ok(names.has(name), `${name} in ${expr}`)
    }
    for (const name of labelled) assert.ok(names.has(name), name)
  })

  test('the dashboard shows every metric of tributary', () => {
    const text = JSON.stringify(dashboard) + JSON.stringify(rules)
    for (const name of known()) {
      const base = name.replace(/_(bucket|sum|count)$/, '')
      if (base.startsWith('tributary_')) assert.ok(text.includes(base), `${base} is in no panel`)
    }
  })

  test('dashboard.json is what make.js makes; panels do not overlap', async () => {
    const made = (await import(pathToFileURL(join(deploy, 'grafana', 'make.js')).href)) as { readonly dashboard: unknown }
    assert.equal(read('grafana/dashboard.json'), `${JSON.stringify(made.dashboard, null, 2)}\n`)
    const taken = new Set<string>()
    for (const { title, gridPos: { x, y, w, h } } of dashboard.panels)
      for (let i = x; i < x + w; i++)
        for (let j = y; j < y + h; j++) {
          assert.ok(i < 24 && !taken.has(`${i} ${j}`), title)
          taken.add(`${i} ${j}`)
        }
  })

  test('every alert has its paragraph, and a case in which it fires and one in which it does not', () => {
    const page = readFileSync(join(packageRoot(), 'docs', 'monitoring.md'), 'utf8')
    const cases = (parse(read('prometheus/tests/alerts.yml')) as { tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[] }).tests.flatMap((given) => given.alert_rule_test)
    assert.ok(alerts.length >= 8)
    for (const { alert, annotations } of alerts) {
      assert.match(page, new RegExp(`^### ${alert}$`, 'm'))
      assert.equal(annotations?.runbook_url, `docs/monitoring.md#${alert.toLowerCase()}`)
      const own = cases.filter(({ alertname }) => alertname === alert).map(({ exp_alerts }) => exp_alerts.length > 0)
      assert.deepEqual([...new Set(own)].sort(), [false, true], alert)
    }
  })

  test('promtool: configuration, rules and their unit tests', (t) => {
    const promtool = toolOr(t, 'promtool')
    if (promtool === undefined) return
    for (const args of [['check', 'config', 'prometheus/prometheus.yml'], ['test', 'rules', 'prometheus/tests/alerts.yml', 'prometheus/tests/recording.yml']]) {
      const ran: SpawnSyncReturns<string> = spawnSync(promtool, args, { cwd: deploy, encoding: 'utf8' })
      assert.equal(ran.status, 0, `${ran.stdout}${ran.stderr}`)
    }
  })
})
