// What a view gets and gives: a place in the page, its parameters from the address, and a signal that ends it.

export interface ViewContext {
  root: HTMLElement
  /** What follows `#/`, for example the device. */
  name: string
  parameters: URLSearchParams
  signal: AbortSignal
  /** Writes parameters into the address without starting the view anew. */
  remember: (parameters: Record<string, string | undefined>) => void
}

export type View = (context: ViewContext) => void

export const ranges = ['15m', '1h', '6h', '24h', '7d'] as const

export const rangeSeconds: Record<string, number> = {
  '15m': 900,
  '1h': 3600,
  '6h': 21_600,
  '24h': 86_400,
  '7d': 604_800,
}
