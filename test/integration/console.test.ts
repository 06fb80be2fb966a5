// The page in a real browser over the real thing: `dpulse up` as a process, this machine's own readings, and what
// `logger` sends while the page is open.
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { chromium } from 'playwright-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest'
import { askingOf } from '../support/asking.ts'
import { apiUrl, eventually, healthy, startProgram } from '../support/programs.ts'
import type { Program } from '../support/programs.ts'
import { runTool } from '../support/senders.ts'

const portOffset = 9_400
const url = apiUrl(portOffset)
const directory = mkdtempSync(join(tmpdir(), 'dpulse-console-'))
const { get } = askingOf(portOffset)
/** Where pictures of the views go, for whoever wants to look at them. */
const pictures = process.env.SCREENSHOTS
const executablePath = [process.env.CHROMIUM ?? '', '/usr/bin/chromium', '/usr/bin/google-chrome'].find(
  (path) => path !== '' && existsSync(path),
)

let up: Program | undefined
let browser: Browser | undefined
let device = ''
beforeAll(async () => {
  if (executablePath === undefined) return
  up = startProgram('up', { data: directory, portOffset })
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  })
  await eventually('dpulse up is healthy', 90, () => healthy(portOffset))
  device = await eventually('the device is known', 60, async () => {
    const [first] = await get<{ device: string }[]>('/api/devices')
    return first?.device
  })
})
afterAll(async () => {
  await browser?.close()
  await up?.stop()
  rmSync(directory, { recursive: true, force: true })
})
beforeEach(({ skip }) => {
  if (browser === undefined) skip('no Chromium here: install the package chromium, or name one in CHROMIUM')
})

const applied = `
sources: { machine: { type: system, interval: 10s } }
exporters: { aggregator: { type: mqtt } }
pipelines: { all: { sources: [machine], exporters: [aggregator] } }
`

async function open(view: string) {
  if (browser === undefined) throw new Error('no browser')
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
  onTestFinished(() => context.close())
  context.setDefaultTimeout(90_000)
  const page = await context.newPage()
  const complaints: string[] = []
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text())
  })
  page.on('request', (request) => {
    if (!request.url().startsWith(url)) complaints.push(`asked elsewhere: ${request.url()}`)
  })
  await page.goto(`${url}/#/${view}`)
  return { page, complaints }
}

async function picture(page: Page, name: string): Promise<void> {
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true })
}
const say = (text: string) =>
  runTool(
    'logger',
    '-n',
    '127.0.0.1',
    '-P',
    String(5514 + portOffset),
    '--udp',
    '--rfc5424',
    '-t',
    'pump',
    text,
  )

test('this machine is online, and its name leads to charts of its own readings', async () => {
  const { page, complaints } = await open('devices')
  await page.getByText('1 of 1 online').waitFor()
  await picture(page, 'devices')
  await page.getByRole('link', { name: device }).click()
  await page.getByRole('heading', { name: device }).waitFor()
  const chart = page.locator('figure[data-metric="system.memory.utilization"]')
  await chart.locator('canvas').waitFor()
  await expect.poll(() => chart.locator('.legend li').count(), { timeout: 60_000 }).toBeGreaterThan(1)
  await expect
    .poll(() => chart.locator('.legend li').first().textContent(), { timeout: 60_000 })
    .toMatch(/[\d.]+ %/)
  await page
    .getByRole('row', { name: /system\.cpu\.load_average\.1m/ })
    .first()
    .waitFor()
  await picture(page, 'device')
  expect(complaints).toEqual([])
})

test('a line of logger is on the open page within 2 s, and the search finds it again', async () => {
  const { page, complaints } = await open('logs')
  await page
    .getByText(/No records|shown/)
    .first()
    .waitFor()
  for (const word of ['one', 'two', 'three']) {
    await say(`valve ${word} opened`)
    await page.locator('.record .body', { hasText: `valve ${word} opened` }).waitFor({ timeout: 2000 })
  }
  expect(await page.locator('.record .body', { hasText: 'valve' }).allTextContents()).toEqual([
    'valve three opened',
    'valve two opened',
    'valve one opened',
  ])
  await page.getByLabel('Text').fill('VALVE TWO')
  await page.getByText('1 shown').waitFor()
  const record = page.locator('.record').first()
  await record.locator('summary').click()
  await record.locator('dt', { hasText: 'syslog.appname' }).waitFor()
  await picture(page, 'logs')
  expect(complaints).toEqual([])
})

test('a device goes by its own configuration until one is applied, and the page says whose is in force', async () => {
  const { page, complaints } = await open('config')
  await page.getByText('1 its own', { exact: true }).waitFor()
  await page.getByRole('row', { name: new RegExp(`${device} its own .*\\(detected\\)`) }).waitFor()
  const answer = await fetch(`${url}/api/config?device=${device}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ text: applied, by: 'ada' }),
  })
  expect(answer.status).toBe(200)
  await page.getByText('1 in force', { exact: true }).waitFor()
  await page.getByRole('cell', { name: 'ada' }).waitFor()
  await picture(page, 'config')
  await fetch(`${url}/api/config?device=${device}`, { method: 'DELETE' })
  await page.getByText('1 its own', { exact: true }).waitFor()
  expect(complaints).toEqual([])
})

test('the ledger balances on the page as it does in the answer', async () => {
  const { page, complaints } = await open('ledger')
  await page
    .getByText(/^Balanced/)
    .first()
    .waitFor()
  await page
    .getByRole('row', { name: new RegExp(device) })
    .first()
    .waitFor()
  const { balanced } = await get<{ balanced: boolean }>('/api/ledger')
  expect(balanced).toBe(true)
  await picture(page, 'ledger')
  expect(complaints).toEqual([])
})

test('on a narrow dark screen nothing sticks out', async () => {
  const { page } = await open(`device/${device}`)
  await page.emulateMedia({ colorScheme: 'dark' })
  await page.setViewportSize({ width: 390, height: 844 })
  for (const view of ['devices', `device/${device}`, 'logs', 'ledger', 'config']) {
    await page.goto(`${url}/#/${view}`)
    await page.getByRole('heading').first().waitFor()
    await picture(page, `narrow-${view.split('/')[0]}`)
    const wide = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    )
    expect({ view, wide }).toEqual({ view, wide: 0 })
  }
})
