// What is wrong with an aggregator's configuration although each key is fine by itself: for `dpulse check` and the start.
import type { Problems } from '../collector/problems.ts'
import type { Address } from '../plugins/contract/settings.ts'
import type { AggregatorConfig } from './config.ts'

const loopbackHost = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/
const isOpen = ({ host }: Address): boolean => !loopbackHost.test(host)

/** Adds what it finds to the problems. An error is what the start would fail at or silently leave out. */
export function judge({ mqtt, otlp, api, journal, store }: AggregatorConfig, found: Problems): void {
  serverTls(['mqtt', 'tls'], mqtt.tls, found)
  serverTls(['otlp', 'tls'], otlp.tls, found)
  clientTls(['mqtt', 'external', 'tls'], mqtt.external?.tls, found)
  clientTls(['journal', 'kafka', 'tls'], journal.kafka.tls, found)
  if (mqtt.external) {
    for (const key of ['listen', 'tls', 'login'] as const) {
      if (mqtt[key]) found.problem(['mqtt', key], 'is for the embedded broker, and mqtt.external replaces it')
    }
    const plain = mqtt.external.urls.findIndex((url) => url.startsWith('mqtt:'))
    if (plain >= 0 && mqtt.external.tls) {
      const path = ['mqtt', 'external', 'urls', plain]
      found.problem(path, 'does not use mqtt.external.tls: mqtts:// does', 'warning')
    }
  }
  openBroker(mqtt, found)
  const [first, ...others] = api.listen ?? []
  for (const [index, { port }] of others.entries()) {
    if (port !== first?.port)
      found.problem(['api', 'listen', index + 1], `all addresses have one port, ${first?.port} here`)
  }
  if (journal.kafka.sasl?.mechanism === 'plain' && !journal.kafka.tls) {
    found.problem(['journal', 'kafka', 'sasl'], 'without tls the password travels in clear', 'warning')
  }
  const url = store.influxdb.url === undefined ? undefined : new URL(store.influxdb.url)
  if (url?.protocol === 'http:' && !loopbackHost.test(url.hostname.replace(/^\[|\]$/g, ''))) {
    found.problem(['store', 'influxdb', 'url'], 'with http the token travels in clear', 'warning')
  }
}

interface Files {
  cert?: string | undefined
  key?: string | undefined
}

function serverTls(path: readonly string[], tls: Files | undefined, found: Problems): void {
  if (!tls) return
  for (const name of ['cert', 'key'] as const) {
    if (tls[name] === undefined) found.problem(path, `TLS needs ${name}`)
  }
}

function clientTls(path: readonly string[], tls: Files | undefined, found: Problems): void {
  if (!tls || (tls.cert === undefined) === (tls.key === undefined)) return
  found.problem(path, 'a certificate of ours needs both cert and key')
}

/** Who reaches a broker without logins may speak for every collector. */
function openBroker({ listen, tls, login }: AggregatorConfig['mqtt'], found: Problems): void {
  if (login) return
  const open = listen?.findIndex(isOpen) ?? -1
  const text = 'whoever reaches it may speak for every collector: add mqtt.login'
  if (open >= 0) found.problem(['mqtt', 'listen', open], text, 'warning')
  const openTls = tls?.ca === undefined ? (tls?.listen.findIndex(isOpen) ?? -1) : -1
  if (openTls >= 0) {
    found.problem(['mqtt', 'tls', 'listen', openTls], `${text}, or mqtt.tls.ca for certificates`, 'warning')
  }
}
