// The page in a real browser, over the real HTTP server and a sample fleet.
import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { serveSample } from '../support/api-server.ts'
import { createFleetSample, createSample } from '../support/sample-queries.ts'
import type { Sample } from '../support/sample-queries.ts'

const candidates = [
  process.env.CHROMIUM ?? '',
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
]
const executablePath = candidates.find((path) => path !== '' && existsSync(path))

let browser: Browser | undefined
beforeAll(async () => {
  if (executablePath === undefined) return
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  })
})
afterAll(async () => browser?.close())
beforeEach(({ skip }) => {
  if (browser === undefined) skip('no Chromium here: install the package chromium, or name one in CHROMIUM')
})

interface Opened {
  page: Page
  url: string
  /** What the browser complained of: errors of scripts, refused policies, missing files. */
  complaints: string[]
}

async function open(sample: Sample, view: string): Promise<Opened> {
  const url = await serveSample(sample)
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
  return { page, url, complaints }
}

describe('devices', () => {
  test('show state, labels and a conflict, follow changes, and lead to the device', async () => {
    const sample = createFleetSample()
    const [first] = sample.fleet
    first?.conflicts.push({ collectors: ['east', 'west'], since: first.lastSeen, detail: 'Both are alive.' })
    const { page, complaints } = await open(sample, '')
    await page.getByText('1 of 2 online').waitFor()
    await page.getByText('east and west both claim mt2150x00001').waitFor()
    await page.getByText('rack=r2').waitFor()
    const second = sample.fleet[1]
    if (second !== undefined) second.state = 'online'
    await page.getByText('2 of 2 online').waitFor()
    await page.getByLabel('Filter devices').fill('rack=r2')
    await page.getByRole('link', { name: 'mt2150x00001' }).waitFor({ state: 'detached' })
    await page.getByRole('link', { name: 'mt2150x00002' }).click()
    await page.getByRole('heading', { name: 'mt2150x00002' }).waitFor()
    expect(complaints).toEqual([])
  })

  test('an empty fleet says how to get a device', async () => {
    const { page } = await open(createSample(), 'devices')
    await page.getByText('No devices yet').waitFor()
  })
})

describe('one device', () => {
  test('shows charts of the usual metrics with lines on them, and the newest values', async () => {
    const { page, complaints } = await open(createFleetSample(), 'device/mt2150x00001')
    const charts = page.locator('figure.chart')
    // Each chart asks for its own points.
    await expect.poll(() => charts.locator('canvas').count()).toBe(5)
    expect(await charts.evaluateAll((all) => all.map((one) => one.getAttribute('data-metric')))).toEqual([
      'system.cpu.utilization',
      'system.memory.usage',
      'system.cpu.load_average.1m',
      'hw.temperature',
      'system.network.io',
    ])
    // Legend: user and system, each with its newest value in per cent.
    const legend = await charts.nth(0).locator('.legend li').allTextContents()
    expect(legend).toHaveLength(2)
    expect(legend[0]).toMatch(/^user[\d.]+ %$/)
    const drawn = () =>
      charts
        .nth(3)
        .locator('canvas')
        .evaluate((canvas: HTMLCanvasElement) => {
          const pixels = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data ?? []
          const colours = new Set<string>()
          for (let at = 0; at < pixels.length; at += 4)
            colours.add(`${pixels[at]},${pixels[at + 1]},${pixels[at + 2]}`)
          return colours.size
        })
    await expect.poll(drawn).toBeGreaterThan(5)
    await page.getByRole('row', { name: /hw\.temperature hw\.name=soc/ }).waitFor()
    expect(complaints).toEqual([])
  })

  test('a metric is taken out and put back with the keyboard, and the address remembers it', async () => {
    const { page } = await open(createFleetSample(), 'device/mt2150x00001')
    await page.locator('figure.chart').nth(4).waitFor()
    await page.getByText('Choose metrics').focus()
    await page.keyboard.press('Enter')
    await page.getByLabel('Find a metric').fill('temperature')
    const box = page.getByRole('checkbox', { name: /hw\.temperature/ })
    await box.focus()
    await page.keyboard.press('Space')
    await page.locator('figure[data-metric="hw.temperature"]').waitFor({ state: 'detached' })
    expect(page.url()).not.toContain('hw.temperature')
    await page.reload()
    await page.locator('figure.chart').nth(3).waitFor()
    expect(await page.locator('figure[data-metric="hw.temperature"]').count()).toBe(0)
  })
})

describe('logs', () => {
  test('what a device sends is shown as text and never runs', async () => {
    const sample = createFleetSample()
    const hostile = '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'">'
    sample.add({
      body: hostile,
      device: 'mt2150x00001',
      attributes: { 'syslog.appname': hostile, [hostile]: hostile },
    })
    const { page, complaints } = await open(sample, 'logs')
    const record = page.locator('.record').first()
    await record.locator('.body').waitFor()
    expect(await record.locator('.body').textContent()).toBe(hostile)
    await record.locator('summary').click()
    expect(await record.locator('dt', { hasText: hostile }).textContent()).toBe(hostile)
    expect(await page.locator('.log script, .log img').count()).toBe(0)
    expect(await page.title()).toBe('logs · dpulse')
    expect(complaints).toEqual([])
  })

  test('a new record is on the page within 2 s, once, and on top', async () => {
    const sample = createFleetSample()
    const { page } = await open(sample, 'logs')
    await page.getByText('100 shown').waitFor()
    await expect.poll(() => sample.followers).toBe(1)
    sample.add({ body: 'fresh from the wire' })
    await page.getByText('fresh from the wire').waitFor({ timeout: 2000 })
    expect(await page.locator('.record .body').first().textContent()).toBe('fresh from the wire')
    expect(await page.getByText('fresh from the wire').count()).toBe(1)
  })

  test('a pause holds new records back and counts them, and going on shows them', async () => {
    const sample = createFleetSample()
    const { page } = await open(sample, 'logs')
    await page.getByText('100 shown').waitFor()
    await expect.poll(() => sample.followers).toBe(1)
    await page.getByRole('button', { name: 'Pause' }).click()
    for (let index = 0; index < 3; index += 1) sample.add({ body: `held ${index}` })
    await page.getByText('3 new waiting').waitFor()
    expect(await page.getByText('held 0').count()).toBe(0)
    await page.getByRole('button', { name: 'Go live' }).click()
    await page.getByText('held 2').waitFor()
    expect(await page.locator('.record .body').first().textContent()).toBe('held 2')
  })

  test('severity and text narrow both the search and the tail', async () => {
    const sample = createFleetSample()
    const { page } = await open(sample, 'logs')
    await page.getByText('100 shown').waitFor()
    await page.getByLabel('Lowest severity').selectOption('warn')
    await page.getByText('28 shown').waitFor()
    await page.getByLabel('Text').fill('LINK')
    await page.getByText('No records fit').waitFor()
    // The tail of the new search, and no longer that of the one before.
    await expect.poll(() => sample.followed.map(({ text }) => text)).toEqual(['LINK'])
    sample.add({ body: 'link flaps', severityNumber: 9 })
    sample.add({ body: 'Link down', severityNumber: 17 })
    await page.getByText('Link down').waitFor()
    expect(await page.getByText('link flaps').count()).toBe(0)
    expect(page.url()).toContain('severity=warn')
  })

  test('older pages come on demand, each record once', async () => {
    const sample = createSample()
    for (let index = 0; index < 450; index += 1) sample.add({ body: `old ${index}` })
    const { page } = await open(sample, 'logs')
    await page.getByText('200 shown').waitFor()
    await page.getByRole('button', { name: 'Older' }).click()
    await page.getByText('400 shown').waitFor()
    await page.getByRole('button', { name: 'Older' }).click()
    await page.getByText('450 shown').waitFor()
    const bodies = await page.locator('.record .body').allTextContents()
    expect(bodies).toEqual(Array.from({ length: 450 }, (_, index) => `old ${449 - index}`))
  })
})

describe('the ledger', () => {
  test('says at a glance that it balances, and at another that it does not', async () => {
    const sample = createFleetSample()
    const { page, complaints } = await open(sample, 'ledger')
    await page.getByText('Balanced, with 500 records whose end is unknown').waitFor()
    await page
      .getByText('20,640 produced = 20,000 stored + 100 dropped + 40 in flight + 500 unknown')
      .waitFor()
    await page.getByText('rate 80, overflow 20').waitFor()
    // The stream with a gap stands first and names it.
    const worst = page.locator('tbody tr').first()
    expect(await worst.locator('td').last().textContent()).toBe('12')
    const broken = sample.streams.at(-1)
    if (broken !== undefined) Object.assign(broken, { balanced: false, missing: [[3, 5]], stored: 3900 })
    await page.getByText('Not balanced').waitFor()
    expect(await worst.locator('td').last().textContent()).toBe('3–5')
    expect(complaints).toEqual([])
  })
})

describe('the frame', () => {
  test('says what is not ready, and that the server has gone', async () => {
    const sample = createFleetSample()
    sample.parts.push({ name: 'collector', ready: false, detail: 'starting' })
    const { page, url } = await open(sample, 'devices')
    await page.getByText('not ready: collector').waitFor()
    await page.route(`${url}/api/**`, (route) => route.abort())
    await page.getByText('The aggregator does not answer').waitFor()
  })

  test('is light or dark as one likes, and remembers it', async () => {
    const { page } = await open(createFleetSample(), 'devices')
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
    const button = page.getByRole('button', { name: /Theme/ })
    await button.click()
    const light = await ground()
    await button.click()
    expect(await button.textContent()).toBe('Theme: dark')
    const dark = await ground()
    expect(dark).not.toBe(light)
    await page.reload()
    await page.getByText('Theme: dark').waitFor()
    expect(await ground()).toBe(dark)
  })
})
