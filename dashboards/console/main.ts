// The console's frame: which view the address names, whether the aggregator is ready, light or dark.
import { ask, forgetTroubles } from './api.ts'
import { changesView } from './changes.ts'
import { deviceView } from './device.ts'
import { devicesView } from './devices.ts'
import { every, h, setText } from './dom.ts'
import { ledgerView } from './ledger.ts'
import { logsView } from './logs.ts'
import type { View } from './view.ts'

const views: Record<string, View> = {
  devices: devicesView,
  device: deviceView,
  logs: logsView,
  ledger: ledgerView,
  config: changesView,
}

let ending = new AbortController()

function route(): void {
  const [path = '', search = ''] = location.hash.replace(/^#\/?/, '').split('?')
  const [kind = '', ...rest] = path.split('/')
  const view = views[kind]
  if (view === undefined) {
    location.replace('#/devices')
    return
  }
  ending.abort()
  ending = new AbortController()
  forgetTroubles()
  const root = document.querySelector<HTMLElement>('#content')
  if (root === null) return
  root.replaceChildren()
  const parameters = new URLSearchParams(search)
  const name = decodeURIComponent(rest.join('/'))
  document.title = `${name || kind} · dpulse`
  markCurrent(kind === 'device' ? 'devices' : kind)
  view({
    root,
    name,
    parameters,
    signal: ending.signal,
    remember(changes) {
      for (const [key, value] of Object.entries(changes)) {
        if (value === undefined || value === '') parameters.delete(key)
        else parameters.set(key, value)
      }
      const text = parameters.toString()
      history.replaceState(undefined, '', `#/${path}${text === '' ? '' : `?${text}`}`)
    },
  })
}

function markCurrent(kind: string): void {
  for (const link of document.querySelectorAll('nav a')) {
    if (link.getAttribute('href') === `#/${kind}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
}

interface HealthReport {
  ready: boolean
  parts: { name: string; ready: boolean; detail: string }[]
}

async function showHealth(): Promise<void> {
  const box = document.querySelector('#health')
  if (box === null) return
  const report = await ask<HealthReport>('/api/health', {}, new AbortController().signal)
  const waiting = report?.parts.filter(({ ready }) => !ready).map(({ name }) => name) ?? []
  const state = report === undefined ? 'down' : report.ready ? 'ready' : 'waiting'
  const text = { down: 'no answer', ready: 'ready', waiting: `not ready: ${waiting.join(', ')}` }[state]
  box.className = `health ${state}`
  box.setAttribute('title', report?.parts.map(({ name, detail }) => `${name}: ${detail}`).join('\n') ?? '')
  if (box.firstElementChild === null) box.append(h('i', {}), h('span', {}))
  if (box.lastElementChild !== null) setText(box.lastElementChild, text)
}

const themes = ['auto', 'light', 'dark'] as const

function applyTheme(): void {
  const theme = localStorage.getItem('theme') ?? 'auto'
  document.documentElement.dataset.theme = theme
  const button = document.querySelector('#theme')
  if (button !== null) setText(button, `Theme: ${theme}`)
  window.dispatchEvent(new Event('themechange'))
}

document.querySelector('#theme')?.addEventListener('click', () => {
  const now = themes.findIndex((theme) => theme === (localStorage.getItem('theme') ?? 'auto'))
  localStorage.setItem('theme', themes[(now + 1) % themes.length] ?? 'auto')
  applyTheme()
})
// "/" goes to the search field, as in the tools that people know.
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.target instanceof HTMLInputElement) return
  const field = document.querySelector<HTMLInputElement>('input[type=search]')
  if (field === null) return
  event.preventDefault()
  field.focus()
})
// The skip link is no route.
document.querySelector('.skip')?.addEventListener('click', (event) => {
  event.preventDefault()
  document.querySelector<HTMLElement>('#content')?.focus()
})
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', applyTheme)
window.addEventListener('hashchange', route)
applyTheme()
every(5000, new AbortController().signal, showHealth)
route()
