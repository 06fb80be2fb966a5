// The page at `/`: the files of dashboards/console and uPlot, read once and held in memory. In a clone the modules are
// TypeScript and their types are stripped here; in the built package the same names find the JavaScript beside them.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { createRequire, stripTypeScriptTypes } from 'node:module'
import { dirname, extname, join } from 'node:path'
import process from 'node:process'
import type { Context } from 'hono'

interface Asset {
  body: string
  type: string
  tag: string
}

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.ts': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
}

export interface Console {
  /** Answers for the console's own paths; undefined for any other. */
  answer(context: Context): Response | undefined
}

/** `directory` holds index.html; without it (a package that left the console out) every path is unknown. */
export function loadConsole(directory: string): Console {
  const assets = new Map<string, Asset>()
  if (existsSync(join(directory, 'index.html'))) {
    for (const file of readdirSync(directory)) addFile(assets, directory, file)
    addVendor(assets)
    const page = assets.get('/index.html')
    if (page !== undefined) assets.set('/', page)
  }
  return {
    answer(context) {
      const asset = assets.get(context.req.path)
      if (asset === undefined) return undefined
      const headers = { 'Content-Type': asset.type, ETag: asset.tag, 'Cache-Control': 'no-cache' }
      if (context.req.header('if-none-match') === asset.tag) return context.body(null, 304, headers)
      return context.body(asset.body, 200, headers)
    },
  }
}

function addFile(assets: Map<string, Asset>, directory: string, file: string): void {
  const extension = extname(file)
  const type = types[extension]
  // The built package carries declarations beside its modules.
  if (type === undefined || file.endsWith('.d.ts')) return
  const text = readFileSync(join(directory, file), 'utf8')
  if (extension === '.ts') {
    assets.set(`/${file}`, asset(stripQuietly(text), type))
    return
  }
  assets.set(`/${file}`, asset(text, type))
  // The modules import each other, and the page them, by their names in the clone.
  if (extension === '.js') assets.set(`/${file.slice(0, -3)}.ts`, asset(text, type))
}

function addVendor(assets: Map<string, Asset>): void {
  const folder = join(dirname(createRequire(import.meta.url).resolve('uplot/package.json')), 'dist')
  for (const [name, file] of [
    ['/vendor/uplot.js', 'uPlot.esm.js'],
    ['/vendor/uplot.css', 'uPlot.min.css'],
  ] as const) {
    assets.set(name, asset(readFileSync(join(folder, file), 'utf8'), types[extname(file)] ?? 'text/plain'))
  }
}

function asset(body: string, type: string): Asset {
  return { body, type, tag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` }
}

// Node says once that this call is experimental. Its operator cannot act on that, so it is not passed on.
function stripQuietly(text: string): string {
  const emitWarning = process.emitWarning.bind(process)
  process.emitWarning = () => undefined
  try {
    return stripTypeScriptTypes(text)
  } finally {
    process.emitWarning = emitWarning
  }
}
