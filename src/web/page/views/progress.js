/** @file How the run goes: throughput, lag of each partition, dead letters, and what the run is. */
import { get } from '../api.js'
import { throughputChart } from '../charts.js'
import { fill, h, problemBox } from '../dom.js'
import { count, duration, rate, time } from '../format.js'

const lettersMax = 50
const retryWords = { never: '', wanted: ' · tried again soon: waits for a worker', done: ' · tried again: scored', failed: ' · tried again: failed' }

/** @param {import('../main.js').Scene} scene @returns {import('../main.js').View} */
export const progressView = ({ root, run, progress }) => {
  const [chart, partitions, letters, about] = [h('div'), h('div'), h('div'), h('div')]
  fill(root, h('div', { class: 'content wide' }, h('h1', {}, 'Progress'),
    h('div', { class: 'two' },
      h('section', {}, h('h2', {}, 'Throughput'), chart),
      h('section', {}, h('h2', {}, 'Partitions'), partitions)),
    h('section', {}, h('h2', {}, 'Dead letters'), letters),
    h('section', {}, h('h2', {}, 'The run'), about)))
  let isAsking = false
  const loadLetters = async () => {
    if (isAsking) return
    isAsking = true
    try {
      /** @type {import('../api.js').DeadLetters} */
      const { letters: newest } = await get(['dead-letters'], { limit: lettersMax })
      const isOpen = new Set([...letters.querySelectorAll('details[open]')].map((one) => /** @type {HTMLElement} */ (one).dataset.key))
      const keyOf = (/** @type {typeof newest[number]} */ letter) => `${letter.timestampMs} ${letter.run} ${letter.document} ${letter.shard} ${letter.index} ${letter.partition} ${letter.offset}`
      fill(letters, newest.length === 0
        ? h('p', { class: 'muted' }, 'None: everything could be processed.')
        : h('ul', { class: 'letters' }, newest.map((letter) =>
          h('li', {}, h('details', { 'data-key': keyOf(letter), open: isOpen.has(keyOf(letter)) },
            h('summary', {}, h('span', { class: 'chip' }, letter.stage), ' ', letter.document ?? `${letter.shard ?? letter.topic ?? '?'} #${letter.index ?? letter.offset ?? '?'}`, ': ', letter.cause),
            h('p', { class: 'muted small' }, time(letter.timestampMs), letter.run === null ? '' : ` · run ${letter.run}`,
              letter.partition === null ? '' : ` · partition ${letter.partition}, offset ${letter.offset}`, ` · ${count(letter.originalBytes)} bytes`,
              retryWords[letter.retry.state], letter.retry.state === 'failed' ? `: ${letter.retry.cause ?? ''}` : ''),
            h('pre', { class: 'original', tabindex: 0 }, letter.original))))))
    } catch (error) {
      fill(letters, problemBox(error))
    } finally {
      isAsking = false
    }
  }
  const loadRun = async () => {
    try {
      /** @type {import('../api.js').RunDetail} */
      const detail = await get(['runs', run])
      const { accuracy } = detail
      fill(about, h('dl', { class: 'about' }, [
        ['Began', time(detail.createdMs)], ['Queries', count(detail.queries)], ['Model', `${detail.model} (${detail.checkpoint.slice(0, 16)})`],
        ...(detail.queryCheckpoint === detail.checkpoint ? [] : [['Model of the queries', `${detail.queryModel} (${detail.queryCheckpoint.slice(0, 16)})`]]),
        ['Factors', `${detail.factors} (${detail.factorsHash.slice(0, 16)})`], ['Join', detail.joinReason.startsWith(detail.join) ? detail.joinReason : `${detail.join}: ${detail.joinReason}`],
        ...(accuracy === null ? [] : [['Against full rank', `mean r ${accuracy.pearsonMean.toFixed(4)}, least ${accuracy.pearsonMin.toFixed(4)}, on ${count(accuracy.documents)} documents`]]),
        ['Versions', Object.entries(detail.versions).map(([name, version]) => `${name} ${version}`).join(', ')],
      ].map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)))),
      h('details', {}, h('summary', {}, 'All settings that identify it'), h('pre', { class: 'original', tabindex: 0 }, JSON.stringify(detail.settings, null, 2))))
    } catch (error) {
      fill(about, problemBox(error))
    }
  }
  const draw = (/** @type {import('../api.js').ProgressEvent | undefined} */ event) => {
    if (event === undefined) return
    const { activity } = event
    fill(chart, throughputChart(activity.history),
      h('p', { class: 'muted small' }, `${count(activity.scored)} pieces and ${count(activity.tokens)} tokens scored; now ${rate(activity.rate.documents)} documents/s, ${rate(activity.rate.tokens)} tokens/s`,
        activity.lastMs === null ? '' : `; last commit ${duration(Math.max(0, Date.now() - activity.lastMs))} ago`))
    fill(partitions, h('table', { class: 'plain' }, h('thead', {}, h('tr', {}, ['Partition', 'Position', 'End', 'Lag'].map((name) => h('th', { scope: 'col', class: 'number' }, name)), h('th', { scope: 'col' }, 'Done'))),
      h('tbody', {}, event.partitions.map(({ partition, position, end, lag }) =>
        h('tr', {}, h('th', { scope: 'row', class: 'number' }, partition), h('td', { class: 'number' }, count(position)), h('td', { class: 'number' }, count(end)), h('td', { class: 'number' }, count(lag)),
          h('td', {}, h('progress', { max: Math.max(1, end), value: position, 'aria-label': `partition ${partition}` })))))))
    if (event.changed.deadLetters) void loadLetters()
  }
  draw(progress())
  void loadLetters()
  void loadRun()
  return { onEvent: draw }
}
