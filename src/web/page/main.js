/** @file The page: which view is shown, the run that is watched, the strip of figures at the top. */
import { get, listen } from './api.js'
import { byId, fill, h, problemBox } from './dom.js'
import { count, duration, rate } from './format.js'
import { address, here } from './route.js'
import { analysesView } from './views/analyses.js'
import { documentView } from './views/document.js'
import { patternsView } from './views/patterns.js'
import { progressView } from './views/progress.js'
import { searchView } from './views/search.js'
import { tablesView } from './views/tables.js'

/** @typedef {import('./api.js').ProgressEvent} ProgressEvent */
/** @typedef {import('./route.js').Place} Place */
/**
 * @typedef {object} View  What a view is once it is shown.
 * @property {(event: ProgressEvent) => void} [onEvent]  the run has moved
 * @property {(place: Place) => boolean} [onPlace]  the address changed; whether the view took it in
 * @property {() => void} [close]
 */
/**
 * @typedef {object} Scene  What a view is given.
 * @property {HTMLElement} root
 * @property {string} run
 * @property {readonly import('./api.js').Query[]} queries
 * @property {Place} place
 * @property {boolean} canExplain
 * @property {boolean} canAnalyse
 * @property {() => ProgressEvent | undefined} progress
 */

/** @type {Readonly<Record<string, { title: string, isListed: boolean, show: (scene: Scene) => View }>>} */
const views = {
  tables: { title: 'Tables', isListed: true, show: tablesView },
  patterns: { title: 'Patterns', isListed: true, show: patternsView },
  analyses: { title: 'Analyses', isListed: true, show: analysesView },
  search: { title: 'Documents', isListed: true, show: searchView },
  progress: { title: 'Progress', isListed: true, show: progressView },
  documents: { title: 'Document', isListed: false, show: documentView },
}

const [main, strip, live, picker, nav] = [byId('main'), byId('strip'), byId('live'), byId('run'), byId('views')]
/** What is watched. @type {{ run: string, queries: readonly import('./api.js').Query[], canExplain: boolean, canAnalyse: boolean, end: () => void } | undefined} */
let watched
/** @type {ProgressEvent | undefined} */
let progress
/** @type {{ name: string, run: string, view: View } | undefined} */
let shown
/** Counts changes of place: what was asked for an earlier one is dropped. */
let turn = 0

const showLive = (/** @type {boolean} */ isLive) => {
  const text = isLive ? 'live' : 'reconnecting…'
  if (live.textContent === text) return
  live.textContent = text
  live.dataset.state = isLive ? 'live' : 'away'
}

const showStrip = () => {
  if (progress === undefined) return fill(strip)
  const { documents, lag, activity, deadLetters, unread, run } = progress
  const done = documents - lag
  const isIdle = activity.rate.documents === 0
  const left = isIdle || lag === 0 ? '' : `, about ${duration((lag / activity.rate.documents) * 1000)} left`
  fill(strip,
    h('progress', { max: Math.max(1, documents), value: done, 'aria-label': 'documents scored' }),
    h('ul', { class: 'figures' },
      h('li', {}, h('b', {}, count(done)), ` of ${count(documents)} documents`),
      h('li', {}, h('b', {}, rate(activity.rate.documents)), ' documents/s', left),
      h('li', {}, 'lag ', h('b', {}, count(lag)), lag === 0 && documents > 0 ? ' · caught up' : ''),
      h('li', {}, h('a', { href: address(run, 'progress') }, h('b', {}, count(deadLetters)), ' dead letters')),
      unread > 0 && h('li', { class: 'muted' }, `reading what is there, ${count(unread)} to go`)))
}

const showNav = (/** @type {string} */ run, /** @type {string} */ current) =>
  fill(nav, Object.entries(views).filter(([, { isListed }]) => isListed).map(([name, { title }]) =>
    h('li', {}, h('a', { href: address(run, name), 'aria-current': name === current ? 'page' : undefined }, title))))

const showRuns = (/** @type {import('./api.js').Status} */ status, /** @type {string} */ run) => {
  fill(picker, status.runs.map((one) => h('option', { value: one.run, selected: one.run === run }, one.run)))
}
picker.addEventListener('change', () => {
  location.hash = address(/** @type {HTMLSelectElement} */ (picker).value, here().view === 'documents' ? 'tables' : here().view)
})

const watch = async (/** @type {string} */ run, /** @type {import('./api.js').Status} */ status) => {
  const queries = await get(['runs', run, 'queries'])
  watched?.end()
  progress = undefined
  showStrip()
  const end = listen(run, {
    onState: showLive,
    onEvent: (event) => {
      progress = event
      showStrip()
      if (shown?.run === run) shown.view.onEvent?.(event)
    },
  })
  watched = { run, queries, canExplain: status.canExplain, canAnalyse: status.canAnalyse, end }
  return watched
}

const show = async () => {
  const place = here()
  const mine = ++turn
  if (shown !== undefined && shown.run === place.run && shown.name === place.view && shown.view.onPlace?.(place) === true) return
  try {
    /** @type {import('./api.js').Status | undefined} */
    const status = watched === undefined || watched.run !== place.run ? await get(['status']) : undefined
    if (mine !== turn) return
    const run = place.run ?? status?.run ?? undefined
    if (run === undefined) return showNothing()
    if (place.run === undefined) return location.replace(address(run, 'tables'))
    const { queries, canExplain, canAnalyse } = status === undefined && watched !== undefined ? watched : await watch(run, /** @type {import('./api.js').Status} */ (status))
    if (mine !== turn) return
    if (status !== undefined) showRuns(status, run)
    const known = Object.hasOwn(views, place.view) ? place.view : 'tables'
    showNav(run, known)
    shown?.view.close?.()
    const isFirst = shown === undefined
    fill(main)
    document.title = `${views[known].title} · ${run} · tributary`
    shown = { name: place.view, run, view: views[known].show({ root: main, run, queries, place, canExplain, canAnalyse, progress: () => progress }) }
    if (!isFirst) main.focus({ preventScroll: true })
    if (!isFirst) scrollTo(0, 0)
  } catch (error) {
    if (mine !== turn) return
    shown?.view.close?.()
    shown = undefined
    fill(main, h('h1', {}, 'That did not work'), problemBox(error), h('p', {}, h('a', { href: '#/' }, 'All runs')))
    // The server may come back.
    if (error instanceof Error && 'status' in error && error.status === 0) setTimeout(() => mine === turn && void show(), 2000)
  }
}

/** Before the first run: looks again until there is one. */
const showNothing = () => {
  const mine = turn
  if (main.dataset.empty === undefined)
    fill(main, h('div', { class: 'empty' }, h('h1', {}, 'No runs yet'), h('p', {}, 'This page shows a run as soon as there is one:'),
      h('pre', {}, 'tributary score --run NAME --model DIR --factors NAME')))
  main.dataset.empty = ''
  setTimeout(() => {
    if (mine !== turn) return
    delete main.dataset.empty
    void show()
  }, 2000)
}

byId('skip').addEventListener('click', (event) => {
  event.preventDefault() // the address's hash says where one is
  main.focus()
})
addEventListener('hashchange', () => void show())
void show()
