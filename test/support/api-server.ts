// The real HTTP server over a sample fleet on a free port, closed at the end of the test.
import { onTestFinished } from 'vitest'
import { startApi } from '../../aggregator/api/server.ts'
import type { Sample } from './sample-queries.ts'

export async function serveSample(sample: Sample): Promise<string> {
  const controller = new AbortController()
  const api = await startApi(sample, {
    hosts: ['127.0.0.1'],
    port: 0,
    allowedHosts: [],
    signal: controller.signal,
  })
  onTestFinished(async () => {
    controller.abort()
    await api.closed
  })
  return api.url
}
